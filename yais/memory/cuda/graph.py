"""Graphs: work that was captured once and is launched as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yais.errors import FailedPrecondition

if TYPE_CHECKING:
    from yais.memory.cuda.device import CudaDevice
    from yais.memory.cuda.stream import CudaStream

__all__ = ["CudaGraph"]


class CudaGraph:
    """What `CudaStream.capture` returns: copies and kernels with the addresses they had then.

    Whatever lies at these addresses must live as long as the graph. Not thread-safe: CUDA forbids to launch a
    graph from two threads at the same time, and runs two launches of one graph after each other.
    """

    __slots__ = ("_device", "_graph")

    def __init__(self, device: CudaDevice, graph: Any) -> None:
        self._device = device
        self._graph = graph

    def __repr__(self) -> str:
        return f"<CudaGraph of GPU {self._device.index}{', closed' if self._graph is None else ''}>"

    def launch(self, stream: CudaStream) -> None:
        """Queue all of it on a stream of the same device.

        Raises
        ------
        FailedPrecondition
            The graph or the stream is closed.
        CudaError
            CUDA refuses.
        """
        if self._graph is None:
            raise FailedPrecondition("got a closed graph, expected an open one")
        raw = stream.raw
        self._device.activate()
        self._device.toolkit.call("cuGraphLaunch", self._graph, raw)

    def close(self) -> None:
        """Destroy the graph; the driver does so once it is not executing any more. Idempotent."""
        graph, self._graph = self._graph, None
        if graph is not None:
            toolkit = self._device.toolkit
            self._device.quietly("destroy a graph", lambda: toolkit.call("cuGraphExecDestroy", graph))

    def __del__(self) -> None:
        if self._graph is not None:
            toolkit, graph = self._device.toolkit, self._graph
            self._device.retire(lambda: toolkit.call("cuGraphExecDestroy", graph))
