"""How fake functions of the driver are called: contexts, errors that stay, failures on demand."""

from __future__ import annotations

import collections
import functools
import itertools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from yais.core.future import Future
from yais.testing.cuda_map import MemoryMap
from yais.testing.cuda_types import CUcontext, CUresult, Refusal
from yais.testing.simulated_gpu import Kind, SimulatedGpu, SimulatedStream

__all__ = ["WAIT", "Captured", "FakeContext", "FakeState", "FakeStream", "fake"]

F = TypeVar("F", bound=Callable[..., Any])

WAIT = 60.0  # seconds after which a wait counts as lost

_STICKY = frozenset(
    {
        CUresult.CUDA_ERROR_ECC_UNCORRECTABLE,
        CUresult.CUDA_ERROR_ILLEGAL_ADDRESS,
        CUresult.CUDA_ERROR_LAUNCH_FAILED,
    }
)

_REMEMBERED = 100_000  # calls

_handles = itertools.count(0x5EED0000, 16)  # of all fakes, so that none fits another

Captured = tuple[Kind, Callable[[], Any], int, str]
"""A piece of work of a graph: its kind, function, duration in ns and label."""


class FakeContext:
    """The primary context of one GPU. `error` is what every call returns once it is set."""

    def __init__(self, index: int, gpu: SimulatedGpu) -> None:
        self.index = index
        self.gpu = gpu
        self.handle = CUcontext(next(_handles))
        self.retained = 0
        self.error: CUresult | None = None


class FakeStream:
    """A stream. `last` is the event after what was queued last, `captured` what a capture has so far."""

    def __init__(self, context: FakeContext) -> None:
        self.context = context
        self.simulated: SimulatedStream = context.gpu.stream()
        self.last: Future[Any] | None = None
        self.captured: list[Captured] | None = None
        self.invalid = False

    def enqueue(
        self, kind: Kind, function: Callable[[], Any], duration: int = 0, label: str = ""
    ) -> Future[Any]:
        """Queue work, or add it to the capture. What it raises becomes the error of the context."""
        if self.captured is not None:
            self.captured.append((kind, function, duration, label))
            nothing: Future[Any] = Future()
            nothing.set_result(None)
            return nothing
        self.last = self.simulated.submit(
            kind, functools.partial(_attempt, self.context, function), duration=duration, label=label
        )
        return self.last


def _attempt(context: FakeContext, function: Callable[[], Any]) -> Any:
    if context.error is not None:  # nothing runs any more
        return None
    try:
        return function()
    except Refusal as refusal:
        context.error = refusal.status
        raise
    except BaseException:
        context.error = CUresult.CUDA_ERROR_LAUNCH_FAILED
        raise


class FakeState:
    """What all fake functions of one process share. Thread-safe."""

    def __init__(self, gpus: list[SimulatedGpu], memory: MemoryMap) -> None:
        self.contexts = [FakeContext(index, gpu) for index, gpu in enumerate(gpus)]
        self.memory = memory
        self.lock = threading.RLock()
        self.objects: dict[int, Any] = {}  # streams, events and graphs by handle
        self.read_mostly: set[int] = set()  # addresses of managed memory
        self.calls: collections.deque[str] = collections.deque(maxlen=_REMEMBERED)
        self._thread = threading.local()
        self._faults: dict[str, list[list[Any]]] = {}  # by function: calls to pass, to fail, and with what

    @staticmethod
    def handle() -> int:
        """Return a number that is no other handle."""
        return next(_handles)

    @property
    def current(self) -> int:
        """The handle of the calling thread's current context; 0 is none."""
        return int(getattr(self._thread, "current", 0))

    @current.setter
    def current(self, handle: int) -> None:
        self._thread.current = handle

    def context(self) -> FakeContext:
        """Return the current context, if it works."""
        found = next((context for context in self.contexts if context.handle == self.current), None)
        if found is None:
            raise Refusal(CUresult.CUDA_ERROR_INVALID_CONTEXT)
        if not found.retained:
            raise Refusal(CUresult.CUDA_ERROR_CONTEXT_IS_DESTROYED)
        if found.error is not None:
            raise Refusal(found.error)
        return found

    def object(self, handle: Any, kind: type[Any]) -> Any:
        """Return what a handle stands for."""
        found = self.objects.get(int(handle))
        if not isinstance(found, kind):
            raise Refusal(CUresult.CUDA_ERROR_INVALID_HANDLE)
        return found

    def stream(self, handle: Any) -> FakeStream:
        """Return a stream of the current context."""
        stream = self.object(handle, FakeStream)
        assert isinstance(stream, FakeStream)
        if stream.context is not self.context():
            raise Refusal(CUresult.CUDA_ERROR_INVALID_HANDLE)
        return stream

    def fail(self, call: str, error: str, times: int, after: int) -> None:
        """Have calls of a function fail; see `FakeCuda.fail`."""
        with self.lock:
            self._faults.setdefault(call, []).append([after, times, CUresult[error]])

    def count(self, call: str) -> None:
        """Count a call, and refuse it if it is to fail."""
        with self.lock:
            self.calls.append(call)
            for fault in self._faults.get(call, ()):
                if fault[0]:
                    fault[0] -= 1
                elif fault[1]:
                    fault[1] -= 1
                    if fault[2] in _STICKY:
                        for context in self.contexts:
                            if context.handle == self.current:
                                context.error = fault[2]
                    raise Refusal(fault[2])


def fake(outputs: int = 0) -> Callable[[F], F]:
    """Make a method a function of the driver: it returns its status, and behind it what the method returns.

    Parameters
    ----------
    outputs
        How many values those are; None stands for each where the status is an error.
    """

    def decorate(method: F) -> F:
        @functools.wraps(method)
        def call(self: Any, *arguments: Any) -> tuple[Any, ...]:
            try:
                self.state.count(method.__name__)
                results = method(self, *arguments)
            except Refusal as refusal:
                return (refusal.status, *[None] * outputs)
            return (CUresult.CUDA_SUCCESS, *(results if isinstance(results, tuple) else ()))

        return call  # type: ignore[return-value]

    return decorate
