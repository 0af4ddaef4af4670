"""How ONNX Runtime runs a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["OnnxOptions", "OnnxProvider"]

_GRAPH_LEVELS = (-1, 1, 2, 99)


@dataclass(frozen=True, slots=True)
class OnnxProvider:
    """What of ONNX Runtime runs operators.

    Attributes
    ----------
    name
        As in "CUDAExecutionProvider".
    options
        Its own, as text.
    """

    name: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OnnxOptions:
    """How ONNX Runtime runs a model.

    Attributes
    ----------
    intra_op_threads
        Threads that share one operator; 0 means one per usable CPU (container limits respected).
    inter_op_threads
        Threads that run operators side by side, in parallel mode; 0 leaves it to ONNX Runtime.
    parallel
        Whether independent operators of the graph may run side by side.
    graph_level
        Graph optimisation: -1 none, 1 basic, 2 extended, 99 all.
    providers
        What runs the operators, in the order of preference; what they leave runs on the CPU.
    memory_arena, memory_pattern
        Whether memory is kept for the next run, and planned from the run before.
    shrink_arenas
        Devices whose arenas give memory back after each run, as in "cpu:0;gpu:0".
    entries
        Other settings of a session, by ONNX Runtime's keys.

    Raises
    ------
    ValueError
        There is no such `graph_level`.
    """

    intra_op_threads: int = 0
    inter_op_threads: int = 0
    parallel: bool = False
    graph_level: int = 99
    providers: tuple[OnnxProvider, ...] = ()
    memory_arena: bool = True
    memory_pattern: bool = True
    shrink_arenas: str = ""
    entries: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.graph_level not in _GRAPH_LEVELS:
            expected = ", ".join(map(str, _GRAPH_LEVELS))
            raise ValueError(f"got graph_level={self.graph_level}, expected one of {expected}")
