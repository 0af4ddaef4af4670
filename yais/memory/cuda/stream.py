"""Streams: copies and launches of one GPU, in order."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from yais.core.future import Future
from yais.errors import FailedPrecondition
from yais.memory.cuda.completion import Completions
from yais.memory.cuda.error import CudaError
from yais.memory.cuda.event import CudaEvent
from yais.memory.cuda.graph import CudaGraph

if TYPE_CHECKING:
    from yais.memory.cuda.device import CudaDevice

__all__ = ["CudaStream"]

_log = logging.getLogger("yais.memory")

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: not ordered with the default stream
_numbers = itertools.count()


class CudaStream:
    """A queue of work on one GPU; `CudaDevice.stream` makes it. Its calls make the device current.

    Any thread may use it, one at a time: work is done in the order of the calls. `completed`, `close` and the
    events may be used at any time.

    Copies are done when the stream gets to them: what lies at both ends must stay until then. A copy from or
    to host memory that is not pinned (`CudaDevice.staging`) is done with that when the call returns.

    Attributes
    ----------
    device
        The GPU.
    handle
        The address of the CUstream, which is a cudaStream_t, too.
    """

    def __init__(self, device: CudaDevice) -> None:
        self.device = device
        device.activate()
        self._raw: Any = device.toolkit.call("cuStreamCreate", _NON_BLOCKING)
        self.handle = int(self._raw)
        self._copy = device.toolkit.driver.cuMemcpyAsync
        self._lock = threading.Lock()  # guards what follows, and that a capture is not disturbed
        self._capturing = False
        self._completions = Completions(f"gpu{device.index}-done-{next(_numbers)}")

    def __repr__(self) -> str:
        return f"<CudaStream {self.handle:#x} of GPU {self.device.index}{', closed' if self.closed else ''}>"

    def __cuda_stream__(self) -> tuple[int, int]:
        """Return what other libraries take it by: the protocol's version, 0, and the handle."""
        return 0, self.handle

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._raw is None

    @property
    def raw(self) -> Any:
        """The CUstream, for calls of the driver.

        Raises
        ------
        FailedPrecondition
            The stream is closed.
        """
        raw = self._raw
        if raw is None:
            raise FailedPrecondition(f"got {self!r}, expected an open stream")
        return raw

    def core(self) -> Any:
        """Return it as a `cuda.core.Stream`, as for kernels, with the GPU current on the calling thread.

        It is to be given up before the stream is closed.

        Raises
        ------
        FailedPrecondition
            The stream is closed.
        CudaError
            CUDA refuses.
        """
        raw = self.raw
        self.device.core()
        return self.device.toolkit.core.Stream.from_handle(int(raw))

    def copy_in(self, target: int, source: npt.NDArray[Any]) -> None:
        """Queue a copy of an array to a device address.

        Raises
        ------
        ValueError
            The array is not C-contiguous.
        FailedPrecondition
            The stream is closed.
        CudaError
            CUDA refuses: the memory at an end is none, or an earlier piece of work failed.
        """
        if not source.flags.c_contiguous:
            raise ValueError(f"got an array with strides {source.strides}, expected it C-contiguous")
        self.copy(target, source.__array_interface__["data"][0], source.nbytes)

    def copy_out(self, target: npt.NDArray[Any], source: int) -> None:
        """Queue a copy from a device address to an array. Raises what `copy_in` does.

        Raises
        ------
        ValueError
            The array is not C-contiguous, or read-only.
        """
        if not (target.flags.c_contiguous and target.flags.writeable):
            raise ValueError(
                f"got an array with strides {target.strides}, writeable={target.flags.writeable}, "
                "expected it C-contiguous and writeable"
            )
        self.copy(target.__array_interface__["data"][0], source, target.nbytes)

    def copy(self, target: int, source: int, size: int) -> None:
        """Queue a copy of `size` bytes between two addresses of device or pinned memory; see `copy_in`."""
        raw = self.raw
        if size:
            self.device.activate()
            (status,) = self._copy(target, source, size, raw)
            if int(status):
                raise self.device.toolkit.failure("cuMemcpyAsync", status)

    def record(self) -> CudaEvent:
        """Return the event of now: it has come when all that is queued is done.

        Raises
        ------
        FailedPrecondition
            The stream is closed.
        CudaError
            CUDA refuses.
        """
        raw = self.raw
        self.device.activate()
        event = CudaEvent(self.device, self.device.events.take())  # goes back to the others if this raises
        self.device.toolkit.call("cuEventRecord", event.handle, raw)
        return event

    def wait(self, event: CudaEvent) -> None:
        """Have what is queued from now on wait for an event of any stream. Raises what `record` does."""
        raw = self.raw
        self.device.activate()
        self.device.toolkit.call("cuStreamWaitEvent", raw, event.handle, 0)

    def sync(self) -> None:
        """Sleep until all that is queued is done, without the interpreter's lock.

        Memory is given back after it, so it waits without an event where there is none to be had.

        Raises
        ------
        FailedPrecondition
            The stream is closed.
        CudaError
            CUDA refuses, or some earlier work on the GPU failed.
        """
        raw = self.raw
        try:
            self.record().sync()
        except Exception as error:
            self._wait_without_event(raw, error)

    def completed(self) -> Future[None]:
        """Return a future that is done when all that is queued is; it has the error if some of it failed.

        Its callbacks run on a thread of the stream: keep them short. Cancelling it undoes no work. It raises
        what `record` does.
        """
        return self._completions.add(self.record())

    def capture(self, work: Callable[[], None]) -> CudaGraph:
        """Return what a function queues on the stream as a graph, instead of having it done.

        Run the function once before that: libraries allocate at their first call. The mode is CUDA's
        "relaxed", in which other threads, and libraries on this one, may go on as ever.

        Raises
        ------
        FailedPrecondition
            The stream is closed.
        CudaError
            The function did what cannot be captured, such as to wait for the stream.
        """
        raw, toolkit = self.raw, self.device.toolkit
        self.device.activate()
        with self._lock:
            toolkit.call("cuStreamBeginCapture", raw, _relaxed(toolkit.driver))
            self._capturing = True
        try:
            work()
        except BaseException:
            with contextlib.suppress(Exception):  # the error of the function is the one to tell
                toolkit.call("cuGraphDestroy", self._end_capture(raw))
            raise
        graph = self._end_capture(raw)
        try:
            return CudaGraph(self.device, toolkit.call("cuGraphInstantiate", graph, 0))
        finally:
            toolkit.call("cuGraphDestroy", graph)

    def _end_capture(self, raw: Any) -> Any:
        with self._lock:
            self._capturing = False
            with contextlib.suppress(Exception):  # a stream that stays in a capture is of no use any more
                self.device.activate()
            return self.device.toolkit.call("cuStreamEndCapture", raw)

    def mark(self) -> CudaEvent | None:
        """Return the event of now, None where there is nothing to wait for: a closed stream, or a capture."""
        with self._lock:
            return None if self._raw is None or self._capturing else self.record()

    def settle(self, timeout: float | None = None) -> bool:
        """Wait for what is queued, if there is something to wait for; see `mark`. Nothing is raised.

        Returns
        -------
        bool
            Whether it is done within `timeout` seconds, or will never be, as nothing works on the GPU.
        """
        try:
            self.device.activate()
            return self._wait(timeout)
        except Exception as error:
            _log.exception("%r: could not wait", self)
            return isinstance(error, CudaError) and error.sticky  # then nothing runs any more

    def _wait(self, timeout: float | None) -> bool:
        try:
            event = self.mark()
            if event is not None and timeout is not None:
                return event.wait(timeout)
            if event is not None:
                event.sync()
        except Exception as error:
            self._wait_without_event(self._raw, error)
        return True

    def _wait_without_event(self, raw: Any, error: Exception) -> None:
        """Wait in the way that spins, after an error of the other; raises that where it cannot help."""
        if raw is None or (isinstance(error, CudaError) and error.sticky):
            raise error
        # Of the error only the text: its frames hold what was being copied.
        _log.warning("%r: could not wait for an event: %s", self, str(error))
        with contextlib.suppress(Exception):  # the stream knows its GPU
            self.device.activate()
        self.device.toolkit.call("cuStreamSynchronize", raw)

    def close(self) -> None:
        """Wait for what is queued, destroy the stream, finish its futures. Idempotent. Nothing is raised."""
        self.destroy()
        self._completions.join(None)

    def destroy(self) -> None:
        """Do as `close`, and leave the futures to their thread: a callback may want what the caller holds."""
        if not self.closed:
            self.settle()
        with self._lock:
            raw, self._raw = self._raw, None
        self._completions.end()
        if raw is not None:
            toolkit = self.device.toolkit
            self.device.quietly("destroy a stream", lambda: toolkit.call("cuStreamDestroy", raw))

    def __del__(self) -> None:
        raw = vars(self).get("_raw")
        if raw is not None and "_completions" in vars(self):  # without `close`; what is queued is done yet
            self.device.adopt(self)


def _relaxed(driver: Any) -> Any:
    return driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
