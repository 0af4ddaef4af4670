"""FP32 graphs made to compute in FP16 or BF16.

Every FP32 tensor between nodes becomes half; inputs and outputs of the model stay as they are, with casts.
What an operator takes as FP32 alone, such as the scales of a Resize, it gets as FP32. So does a node with a
constant that FP16 cannot hold, and one that is to be kept.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from yais.build.half_constants import fits_fp16, half_tensor, lift_constants
from yais.build.onnx_graph import graphs, node_text, subgraphs
from yais.build.onnx_package import onnx_package
from yais.build.operator_types import operator_types
from yais.errors import InvalidArgument

__all__ = ["lower"]


def lower(model: Any, half: int, keep: Collection[str] = ()) -> None:
    """Convert an `onnx.ModelProto` in place.

    Parameters
    ----------
    model
        With its weights, the types of its tensors (`onnx.shape_inference`), and without functions.
    half
        `TensorProto.FLOAT16` or `BFLOAT16`.
    keep
        Names of nodes, and operators, that stay in FP32.

    Raises
    ------
    InvalidArgument
        The type of a tensor is not known, weights are sparse, or `keep` names what is not there.
    """
    nodes = [node for graph in graphs(model.graph) for node in graph.node]
    for name in keep:
        if not any(name in {node.name, node.op_type} for node in nodes):
            raise InvalidArgument(f"no node is named '{name}' and none has that operator, to keep it in FP32")
    opsets = {"" if each.domain == "ai.onnx" else each.domain: each.version for each in model.opset_import}
    names = {name for node in nodes for name in (*node.input, *node.output)}
    names |= {each.name for each in model.graph.input}
    _drop_weights(model.graph)
    _Lowering(half, frozenset(keep), opsets, names).graph(model.graph, None)


def _drop_weights(graph: Any) -> None:
    """Drop the inputs that are weights, as old models have them: what they are called is to be given up."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [each for each in graph.input if each.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)


class _Scope:
    """The tensors that the nodes of a graph see."""

    def __init__(self, graph: Any, outer: _Scope | None) -> None:
        self.graph = graph
        self.outer = outer
        self.nodes: list[Any] = []
        self.natives: dict[str, int] = {}
        """What an FP32 tensor of the graph is now, under its own name."""
        self.views: dict[tuple[str, int], str] = {}
        """Names under which tensors are there as another type, too."""
        self.typed: set[str] = set()
        self.weights: dict[str, Any] = {}
        self.fitting: dict[str, bool] = {}

    def of(self, name: str) -> _Scope | None:
        """Return the scope that an FP32 tensor belongs to; None if it is of another type."""
        if name in self.typed:
            return self if name in self.natives else None
        return self.outer and self.outer.of(name)


class _Lowering:
    def __init__(self, half: int, keep: frozenset[str], opsets: dict[str, int], names: set[str]) -> None:
        self._onnx = onnx_package()
        self._float = self._onnx.TensorProto.FLOAT
        self._half = half
        self._keep = keep
        self._opsets = opsets
        self._names = names

    def graph(self, graph: Any, outer: _Scope | None) -> None:
        scope = self._scope(graph, outer)
        for number, node in enumerate(graph.node):
            self._node(scope, node, number)
        del graph.node[:]
        graph.node.extend(scope.nodes)
        self._declare(scope)
        used = {name for each in graphs(graph) for node in each.node for name in node.input}
        used |= {output.name for each in graphs(graph) for output in each.output}
        left = [tensor for tensor in graph.initializer if tensor.name in used]
        del graph.initializer[:]
        graph.initializer.extend(left)

    def _scope(self, graph: Any, outer: _Scope | None) -> _Scope:
        if graph.sparse_initializer:
            raise InvalidArgument("the model has sparse weights, which are not converted")
        lift_constants(graph)
        scope = _Scope(graph, outer)
        scope.weights = {tensor.name: tensor for tensor in graph.initializer}
        stay = set(scope.weights) | (
            {each.name for each in (*graph.input, *graph.output)} if outer is None else set()
        )
        types = {
            each.name: each.type.tensor_type.elem_type
            for each in (*graph.value_info, *graph.input, *graph.output)
        }
        types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
        scope.typed = set(types)
        for name, kind in types.items():
            if kind == self._float:
                scope.natives[name] = self._float if name in stay else self._half
        if outer is not None:  # what a branch gives is half, were it a constant
            for name in {each.name for each in graph.output} & set(scope.weights) & set(scope.natives):
                scope.weights[name].CopyFrom(half_tensor(scope.weights[name], self._half, name))
                scope.natives[name] = self._half
        return scope

    def _node(self, scope: _Scope, node: Any, number: int) -> None:
        types = operator_types(node, self._opsets)
        for name in node.output:
            if name and name not in scope.typed:
                raise InvalidArgument(
                    f"the type of '{name}', which {node_text(node, number)} makes, is not known, so that the "
                    "model cannot be converted"
                )
        kept = types is None or self._is_kept(scope, node, types.inputs)
        for index, name in enumerate(node.input):
            if scope.of(name) is not None:
                half = types is not None and not kept and types.inputs[index]
                node.input[index] = self._view(scope, name, self._half if half else self._float)
        for inner in subgraphs(node):
            self.graph(inner, scope)
        if not kept and types is not None:
            self._set_type(node, types.attribute)
        scope.nodes.append(node)
        for index, name in enumerate(node.output):
            if name in scope.natives:
                half = types is not None and not kept and types.outputs[index]
                self._output(scope, node, index, self._half if half else self._float)

    def _is_kept(self, scope: _Scope, node: Any, takes: tuple[bool, ...]) -> bool:
        if any(True for _ in subgraphs(node)):
            return False
        if node.op_type in self._keep or (node.name and node.name in self._keep):
            return True
        return not all(
            self._has_room(scope, name) for name, half in zip(node.input, takes, strict=True) if half
        )

    def _has_room(self, scope: _Scope, name: str) -> bool:
        """Return whether the half type can hold a constant; what is none has room."""
        owner = scope.of(name)
        if owner is None or name not in owner.weights or self._half == self._onnx.TensorProto.BFLOAT16:
            return True
        if name not in owner.fitting:
            owner.fitting[name] = fits_fp16(owner.weights[name])
        return owner.fitting[name]

    def _view(self, scope: _Scope, name: str, kind: int) -> str:
        owner = scope.of(name)
        assert owner is not None
        if owner.natives[name] == kind:
            return name
        inside: _Scope | None = scope
        while inside is not None:
            if (name, kind) in inside.views:
                return inside.views[name, kind]
            inside = inside.outer
        view = self._name(name, kind)
        if name in owner.weights and kind == self._half:
            owner.graph.initializer.append(half_tensor(owner.weights[name], self._half, view))
            owner.views[name, kind] = view
        else:
            scope.nodes.append(self._cast(name, view, kind))
            scope.views[name, kind] = view
        return view

    def _output(self, scope: _Scope, node: Any, index: int, kind: int) -> None:
        name = node.output[index]
        native = scope.natives[name]
        if kind == native:
            return
        view = self._name(name, kind)
        node.output[index] = view
        scope.views[name, kind] = view
        scope.nodes.append(self._cast(view, name, native))

    def _set_type(self, node: Any, attribute: str) -> None:
        helper = self._onnx.helper
        given = {each.name: each for each in node.attribute}
        if node.op_type == "ConstantOfShape":
            if "value" not in given:
                zero = self._onnx.numpy_helper.from_array(np.zeros(1, np.float32))
                node.attribute.append(helper.make_attribute("value", zero))
                given["value"] = node.attribute[-1]
            if given["value"].t.data_type == self._float:
                given["value"].t.CopyFrom(half_tensor(given["value"].t, self._half, given["value"].t.name))
        elif attribute in given:
            given[attribute].i = self._half
        elif attribute:
            node.attribute.append(helper.make_attribute(attribute, self._half))

    def _declare(self, scope: _Scope) -> None:
        graph = scope.graph
        for each in (*graph.value_info, *graph.input, *graph.output):
            if scope.natives.get(each.name) == self._half:
                each.type.tensor_type.elem_type = self._half

    def _cast(self, source: str, target: str, kind: int) -> Any:
        return self._onnx.helper.make_node("Cast", [source], [target], name=f"cast_to_{target}", to=kind)

    def _name(self, name: str, kind: int) -> str:
        """Return a name for a tensor as another type, which no other has in any of the graphs."""
        made = f"{name}__{self._onnx.TensorProto.DataType.Name(kind).lower()}"
        while made in self._names:
            made += "_"
        self._names.add(made)
        return made
