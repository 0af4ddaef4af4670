"""Streams of a simulated GPU: threads that do what is submitted, in its order and in its time."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from yais.core.clock import NANOSECONDS
from yais.core.future import Future
from yais.core.thread_pool import name_thread, wake_on_time
from yais.testing.clock import ManualClock

if TYPE_CHECKING:
    from yais.testing.simulated_gpu import SimulatedGpu

__all__ = ["Kind", "Piece", "SimulatedStream", "Work"]

T = TypeVar("T")

Kind = Literal["copy_in", "compute", "copy_out", "host"]
"""What work is, and which engines do it: copies to the device, kernels, copies from it, calls of the host."""

_LOOK = 1.0  # seconds after which a thread that waits for a manual clock looks again; it is woken at once


@dataclass(frozen=True, slots=True)
class Work:
    """A piece of work that is done; moments in ns of the GPU's clock."""

    stream: str
    kind: Kind
    label: str
    start: int
    end: int


@dataclass(slots=True, eq=False)
class Piece:
    """A piece of work that is not done; `start` is None until an engine has it."""

    kind: Kind
    function: Callable[[], Any]
    duration: int
    label: str
    future: Future[Any] = field(default_factory=Future)
    start: int | None = None

    @property
    def end(self) -> int | None:
        """When its function runs."""
        return None if self.start is None else self.start + self.duration


class SimulatedStream:
    """Does what is submitted, in that order. Thread-safe. Made by `SimulatedGpu.stream`."""

    def __init__(self, gpu: SimulatedGpu, name: str) -> None:
        self.gpu = gpu
        self.name = name
        self._pieces: collections.deque[Piece] = collections.deque()
        self._telling: Piece | None = None  # what is done, while those who wait for it are told
        self._wake = threading.Condition(gpu._lock)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<SimulatedStream {self.name}: {len(self._pieces)} pieces of work>"

    def submit(
        self, kind: Kind, function: Callable[[], T], *, duration: int = 0, label: str = ""
    ) -> Future[T]:
        """Queue a piece of work; return the event after it.

        Parameters
        ----------
        kind
            Which engines do it.
        function
            What it does when its time is over. What it raises, the future raises: what follows runs all the
            same.
        duration
            How long it takes, ns.
        label
            Names it in the timeline.

        Returns
        -------
        Future
            Of what the function returns. It cannot be cancelled. Its callbacks run on the stream's thread,
            before the function of what follows.

        Raises
        ------
        RuntimeError
            The stream is closed.
        """
        piece = Piece(kind, function, duration, label)
        piece.future.set_running_or_notify_cancel()
        with self.gpu._lock:
            if self._closed:
                raise RuntimeError(f"{self!r} is closed, expected an open one")
            self._pieces.append(piece)
            if len(self._pieces) == 1:
                self.gpu._ready(self)
        return piece.future

    def sync(self, timeout: float = 30.0) -> None:
        """Wait until what was submitted is done; TimeoutError if it is not within `timeout` seconds."""
        self.submit("host", lambda: None).result(timeout)

    def close(self, timeout: float = 30.0) -> bool:
        """Take no more work; return whether it ended within `timeout` seconds. Idempotent."""
        with self.gpu._lock:
            self._closed = True
            self._wake.notify()
        self._thread.join(timeout)
        if self._thread.is_alive():
            return False
        self.gpu._forget(self)
        return True

    def _undone(self) -> list[Piece]:
        return [*self._pieces] if self._telling is None else [self._telling, *self._pieces]

    def _run(self) -> None:
        name_thread(self.name)
        wake_on_time()
        while (piece := self._next()) is not None:
            error = result = None
            try:
                result = piece.function()
            except BaseException as raised:  # SystemExit, too: it is whoever waits that is to know
                error = raised
            with self.gpu._lock:
                self.gpu._finish(self)
            if error is None:
                piece.future.set_result(result)
            else:
                piece.future.set_exception(error)
            with self.gpu._lock:
                self._telling = None
            del piece, error, result  # an idle stream keeps nothing alive

    def _next(self) -> Piece | None:
        """Wait until the first piece is due, and return it; None once the stream is closed and empty."""
        manual = isinstance(self.gpu.clock, ManualClock)
        with self.gpu._lock:
            while True:
                end = self._pieces[0].end if self._pieces else None
                left = None if end is None else end - self.gpu.clock()
                if left is not None and left <= 0:
                    return self._pieces[0]
                if self._closed and not self._pieces:
                    return None
                self._wake.wait(_LOOK if left is None or manual else min(left / NANOSECONDS, _LOOK))
