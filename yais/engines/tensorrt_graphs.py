"""CUDA graphs of executions that repeat."""

from __future__ import annotations

import collections
import logging
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from yais.memory.cuda.graph import CudaGraph
from yais.memory.cuda.stream import CudaStream

__all__ = ["GraphCounts", "PlanGraphs"]

_log = logging.getLogger("yais.tensorrt")

_REMEMBERED = 64  # per context: what some lanes and tokens make


@dataclass(slots=True)
class GraphCounts:
    """What became of the graphs of an engine. Thread-safe.

    Attributes
    ----------
    captured, launched
        Graphs made, and executions that were one.
    failed
        Captures that failed: after the first, no more are made.
    """

    captured: int = 0
    launched: int = 0
    failed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, what: str) -> None:
        """Add one to an attribute."""
        with self._lock:
            setattr(self, what, getattr(self, what) + 1)


class PlanGraphs:
    """The graphs of one execution context, which whoever has borrowed the context has alone.

    A graph repeats the addresses it was captured with, so there is one for each place of tensors and
    activation memory: as many as lanes and tokens make. What is executed the second time is captured; those
    that were used least recently go. All are of one form of the inputs: they are to be forgotten with it.

    Parameters
    ----------
    counts
        Shared by the contexts of the engine.
    """

    def __init__(self, counts: GraphCounts) -> None:
        self._counts = counts
        # None for what was seen once.
        self._graphs: collections.OrderedDict[Hashable, CudaGraph | None] = collections.OrderedDict()

    def launch(self, key: Hashable, stream: CudaStream) -> bool:
        """Launch the graph of an execution; return whether there is one. Raises what its launch does."""
        graph = self._graphs.get(key)
        if graph is None:
            return False
        self._graphs.move_to_end(key)
        graph.launch(stream)
        self._counts.count("launched")
        return True

    def executed(self, key: Hashable, stream: CudaStream, execute: Callable[[], None]) -> None:
        """Capture an execution that was just queued, if it was not the first like it. Raises nothing.

        Parameters
        ----------
        execute
            Queues it once more. TensorRT does what it does once per shape when it is executed, not when it is
            captured: hence after the execution.
        """
        if self._counts.failed:
            return
        graph = None
        if key in self._graphs:
            try:
                graph = stream.capture(execute)
            except Exception as error:
                self._counts.count("failed")
                _log.warning("CUDA graphs are not used any more: a capture failed: %s", str(error))
                return
            self._counts.count("captured")
        self._graphs[key] = graph
        self._graphs.move_to_end(key)
        if len(self._graphs) > _REMEMBERED:
            _, oldest = self._graphs.popitem(last=False)
            if oldest is not None:
                oldest.close()

    def forget(self) -> None:
        """Free them all. They hold memory of the GPU, so they are not left to a garbage collector."""
        for graph in self._graphs.values():
            if graph is not None:
                graph.close()
        self._graphs.clear()
