"""Load at a rate of its own, whatever the server does with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from yais.core.clock import NANOSECONDS, Clock, monotonic
from yais.core.thread_pool import wake_on_time
from yais.errors import Code
from yais.load.base_load import BaseLoad, Sender
from yais.load.open_loop import OpenLoop
from yais.load.schedule import Schedule

__all__ = ["OpenLoad"]

_REST = 0.0003  # seconds that the pacer leaves at least to a transport's thread that sends what is due
_TURN = 4  # requests that are sent before answers are looked at again: of those that wait, when it is behind
_NAP = 60.0  # seconds after which it looks again, at most


class OpenLoad(BaseLoad):
    """Sends requests when a schedule says; see `Load`. Latency is from the moment at which a request was due.

    What is due is sent by a thread of its own, and by the transport's after each answer: whichever is awake.

    Parameters
    ----------
    requests
        As `transport.encode` returns them; sent in turn, over and over.
    duration, count
        Ends after so many seconds, or so many requests; without either, when it is stopped.
    max_outstanding
        Requests in flight at most. What comes due when there are as many waits, and is late.
    on_back_off
        Called each time such a wait begins, on either thread; it must not block.

    Raises
    ------
    InvalidArgument
        There are no requests, or a number is not positive.
    """

    def __init__(
        self,
        transport: Sender,
        requests: Sequence[Any],
        schedule: Schedule,
        *,
        duration: float | None = None,
        count: int | None = None,
        max_outstanding: int = 950,
        on_back_off: Callable[[], None] | None = None,
        clock: Clock = monotonic,
    ) -> None:
        super().__init__(transport, requests, clock)
        self._loop = OpenLoop(
            schedule, self._recorder, duration=duration, count=count, max_outstanding=max_outstanding
        )
        self._on_back_off = on_back_off
        self._told = 0
        self._pacer = 0
        self._answers = 0  # that came on the transport's thread
        self._sending = threading.Lock()
        self._stopping = threading.Event()

    def _begin(self) -> None:
        wake_on_time()
        self._pacer = threading.get_ident()
        while self._ended is None:
            answers = self._answers
            any_sent = self._pump()
            left = (self._loop.next - self._now()) / NANOSECONDS
            # Behind, while answers come: two threads that send in turn, each waiting for the other to let go
            # of the interpreter, are slower than one.
            if not any_sent or (left <= 0 and self._answers != answers):
                left = max(left, _REST)
            if left > 0:
                self._stopping.wait(min(left, _NAP))

    def _pump(self) -> bool:
        """Send what is due, or leave it to the thread that is doing so; return whether any was sent."""
        if not self._sending.acquire(blocking=False):
            return False
        try:
            any_sent = False
            for _ in range(_TURN):
                if not self._send_next():
                    break
                any_sent = True
            self._tell()
            return any_sent
        finally:
            self._sending.release()

    def _answered(self, due: int, sent: int, code: Code, text: str, reply: Any) -> None:  # noqa: ARG002
        with self._lock:
            now = self._now()
            self._answers += threading.get_ident() != self._pacer
            self._write_down(now, due, sent, code, text)
            if self._ended is not None:
                self._see_whether_over()
                return
            any_due = self._loop.next <= now
        if any_due:
            self._pump()

    def _tell(self) -> None:
        if self._loop.back_offs > self._told:
            self._told = self._loop.back_offs
            if self._on_back_off is not None:
                self._on_back_off()

    def _next(self, now: int) -> int | None:
        due = self._loop.take(now)
        if self._loop.ended is not None:
            self._end(now)
        return due

    def _end(self, moment: int) -> None:
        super()._end(self._loop.stop(moment))
        self._stopping.set()
