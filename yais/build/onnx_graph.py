"""Graphs of ONNX: what they consist of, and whether they hang together."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from yais.errors import InvalidArgument

__all__ = ["check_graph", "graphs", "node_text", "subgraphs", "tensors_of"]


def subgraphs(node: Any) -> Iterator[Any]:
    """Yield the graphs that a node runs, such as the branches of an If."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def graphs(graph: Any) -> Iterator[Any]:
    """Yield a graph and all within it."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from graphs(inner)


def tensors_of(graph: Any) -> Iterator[Any]:
    """Yield the constants that a graph has, not those within its subgraphs."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def node_text(node: Any, number: int) -> str:
    """Return how messages name a node."""
    return f"node {number}{f' {node.name!r}' if node.name else ''} ({node.op_type})"


def check_graph(path: Path, graph: Any) -> None:
    """Check that every tensor which is used is made by something, and none by itself.

    Raises
    ------
    InvalidArgument
        One is not; the message names it and the node.
    """
    _check(path, graph, frozenset())
    if not graph.output:
        raise InvalidArgument(f"{path}: the model has no output, expected one at least")


def _check(path: Path, graph: Any, outer: Collection[str]) -> None:
    known = {tensor.name for tensor in (*graph.input, *graph.initializer)}
    known |= {tensor.values.name for tensor in graph.sparse_initializer}
    known |= {name for node in graph.node for name in node.output} | set(outer) | {""}
    for number, node in enumerate(graph.node):
        for name in node.input:
            if name not in known:
                raise InvalidArgument(
                    f"{path}: {node_text(node, number)} takes '{name}', which is no input, no weight, and "
                    "made by no node: export the model anew"
                )
        for inner in subgraphs(node):
            _check(path, inner, known)
    for output in graph.output:
        if output.name not in known:
            raise InvalidArgument(f"{path}: no node makes the output '{output.name}': export the model anew")
    _check_order(path, graph)


def _check_order(path: Path, graph: Any) -> None:
    makers = {name: number for number, node in enumerate(graph.node) for name in node.output if name}
    needs = {
        number: {makers[name] for name in node.input if name in makers}
        for number, node in enumerate(graph.node)
    }
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        names = " -> ".join(node_text(graph.node[number], number) for number in reversed(error.args[1]))
        raise InvalidArgument(f"{path}: nodes need each other's results in a circle: {names}") from None
