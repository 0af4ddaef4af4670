"""Fake functions of the driver for streams, events and graphs."""

# ruff: noqa: N802, N803 - the names are those of CUDA

from __future__ import annotations

import functools
from typing import Any

from yais.core.future import Future
from yais.testing.cuda_calls import WAIT, Captured, FakeContext, FakeState, FakeStream, fake
from yais.testing.cuda_types import CUevent, CUgraph, CUgraphExec, CUresult, CUstream, Refusal

__all__ = ["FakeEvent", "FakeGraph", "StreamFunctions"]


class FakeEvent:
    """An event: what came before it on its stream when it was recorded last; None if that was nothing."""

    def __init__(self, context: FakeContext) -> None:
        self.context = context
        self.before: Future[Any] | None = None
        self.captured: FakeStream | None = None  # recorded during the capture of this stream


class FakeGraph:
    """A graph, or one that can be launched."""

    def __init__(self, context: FakeContext, work: list[Captured], *, executable: bool) -> None:
        self.context = context
        self.work = work
        self.executable = executable


class StreamFunctions:
    """The functions."""

    state: FakeState

    @fake(1)
    def cuStreamCreate(self, Flags: int) -> tuple[CUstream]:  # noqa: ARG002 - the default stream is not there
        """Return a new stream."""
        context = self.state.context()
        handle = CUstream(self.state.handle())
        self.state.objects[handle] = FakeStream(context)
        return (handle,)

    @fake()
    def cuStreamDestroy(self, hStream: Any) -> None:
        """End a stream, which finishes what is queued."""
        self.state.context()
        stream = self.state.object(hStream, FakeStream)
        del self.state.objects[int(hStream)]
        stream.simulated.close(0)

    @fake()
    def cuStreamSynchronize(self, hStream: Any) -> None:
        """Wait for what is queued."""
        stream = self.state.stream(hStream)
        if stream.captured is not None:
            raise _invalidated(stream, CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)
        if stream.last is not None and not stream.last.wait(WAIT):
            raise TimeoutError(f"a stream did not end its work within {WAIT} s")
        self.state.context()

    @fake()
    def cuStreamWaitEvent(self, hStream: Any, hEvent: Any, Flags: int) -> None:  # noqa: ARG002 - it has none
        """Have a stream wait for an event of any device."""
        stream = self.state.stream(hStream)
        event = self.state.object(hEvent, FakeEvent)
        if event.captured is not None or stream.captured is not None:
            if event.captured is not stream:  # joining streams in a capture is not modelled
                raise _invalidated(stream, CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)
            return
        if event.before is not None and not event.before.done():
            stream.enqueue("host", functools.partial(event.before.wait, WAIT), label="wait")

    @fake(1)
    def cuEventCreate(self, Flags: int) -> tuple[CUevent]:
        """Return a new event. One on which threads would spin is refused: here, nobody wants that."""
        context = self.state.context()
        if not int(Flags) & 1:
            raise Refusal(CUresult.CUDA_ERROR_INVALID_VALUE)
        handle = CUevent(self.state.handle())
        self.state.objects[handle] = FakeEvent(context)
        return (handle,)

    @fake()
    def cuEventDestroy(self, hEvent: Any) -> None:
        """End an event."""
        self.state.context()
        self.state.object(hEvent, FakeEvent)
        del self.state.objects[int(hEvent)]

    @fake()
    def cuEventRecord(self, hEvent: Any, hStream: Any) -> None:
        """Set an event behind what is queued."""
        stream = self.state.stream(hStream)
        event = self.state.object(hEvent, FakeEvent)
        if event.context is not stream.context:
            raise Refusal(CUresult.CUDA_ERROR_INVALID_HANDLE)
        event.captured = stream if stream.captured is not None else None
        event.before = None if event.captured else stream.last

    @fake()
    def cuEventQuery(self, hEvent: Any) -> None:
        """Return whether an event has come."""
        event = self._settled(hEvent)
        if event.before is not None and not event.before.done():
            raise Refusal(CUresult.CUDA_ERROR_NOT_READY)
        self._check(event)

    @fake()
    def cuEventSynchronize(self, hEvent: Any) -> None:
        """Wait for an event."""
        event = self._settled(hEvent)
        if event.before is not None and not event.before.wait(WAIT):
            raise TimeoutError(f"the stream did not get to an event within {WAIT} s")
        self._check(event)

    @fake()
    def cuStreamBeginCapture(self, hStream: Any, mode: Any) -> None:  # noqa: ARG002 - no other is in the way
        """Have what is queued from now on make a graph."""
        stream = self.state.stream(hStream)
        if stream.captured is not None:
            raise Refusal(CUresult.CUDA_ERROR_INVALID_VALUE)
        stream.captured, stream.invalid = [], False

    @fake(1)
    def cuStreamEndCapture(self, hStream: Any) -> tuple[CUgraph]:
        """Return the graph, unless something was called that cannot be captured."""
        stream = self.state.stream(hStream)
        work, stream.captured = stream.captured, None
        if work is None:
            raise Refusal(CUresult.CUDA_ERROR_INVALID_VALUE)
        if stream.invalid:
            raise Refusal(CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)
        handle = CUgraph(self.state.handle())
        self.state.objects[handle] = FakeGraph(stream.context, work, executable=False)
        return (handle,)

    @fake(1)
    def cuGraphInstantiate(self, hGraph: Any, flags: int) -> tuple[CUgraphExec]:  # noqa: ARG002 - it has none
        """Return what can be launched."""
        self.state.context()
        graph = self._graph(hGraph, executable=False)
        handle = CUgraphExec(self.state.handle())
        self.state.objects[handle] = FakeGraph(graph.context, list(graph.work), executable=True)
        return (handle,)

    @fake()
    def cuGraphLaunch(self, hGraphExec: Any, hStream: Any) -> None:
        """Queue all work of a graph."""
        stream = self.state.stream(hStream)
        graph = self._graph(hGraphExec, executable=True)
        if graph.context is not stream.context:
            raise Refusal(CUresult.CUDA_ERROR_INVALID_VALUE)
        for work in graph.work:
            stream.enqueue(*work)

    @fake()
    def cuGraphDestroy(self, hGraph: Any) -> None:
        """End a graph; what was made of it stays."""
        self.state.context()
        self._graph(hGraph, executable=False)
        del self.state.objects[int(hGraph)]

    @fake()
    def cuGraphExecDestroy(self, hGraphExec: Any) -> None:
        """End what can be launched."""
        self.state.context()
        self._graph(hGraphExec, executable=True)
        del self.state.objects[int(hGraphExec)]

    def _graph(self, handle: Any, *, executable: bool) -> FakeGraph:
        graph = self.state.object(handle, FakeGraph)
        assert isinstance(graph, FakeGraph)
        if graph.executable is not executable:
            raise Refusal(CUresult.CUDA_ERROR_INVALID_HANDLE)
        return graph

    def _settled(self, handle: Any) -> FakeEvent:
        """Return an event that was not recorded during a capture, which a look at it would spoil."""
        self.state.context()
        event = self.state.object(handle, FakeEvent)
        assert isinstance(event, FakeEvent)
        if event.captured is not None:
            raise _invalidated(event.captured, CUresult.CUDA_ERROR_CAPTURED_EVENT)
        return event

    def _check(self, event: FakeEvent) -> None:
        if event.context.error is not None:
            raise Refusal(event.context.error)


def _invalidated(stream: FakeStream, status: CUresult) -> Refusal:
    stream.invalid = True
    return Refusal(status)
