"""Functions that a server calls every so many seconds."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

from yais.core.clock import NANOSECONDS, Clock, monotonic
from yais.core.loop_thread import LoopThread
from yais.core.timer import Timer

__all__ = ["Periodic"]

_log = logging.getLogger("yais.rpc")


class Periodic:
    """Calls a function every `seconds`, the first time one period after `start`. Never twice at once.

    Periods that a call outlasts are skipped. What a call raises is logged, and the next one comes all the
    same.

    Parameters
    ----------
    function
        Called on the timer's thread, or awaited on the loop if it returns something to await.
    """

    def __init__(
        self,
        seconds: float,
        function: Callable[[], Awaitable[Any] | Any],
        timer: Timer,
        loop: LoopThread,
        clock: Clock = monotonic,
    ) -> None:
        if not seconds > 0:
            raise ValueError(f"got a period of {seconds} s, expected more than 0")
        self._period = max(1, round(seconds * NANOSECONDS))
        self._function = function
        self._timer = timer
        self._loop = loop
        self._clock = clock
        self._running: Future[Any] | None = None
        self._due = 0

    def start(self) -> None:
        """Begin."""
        self._due = self._clock() + self._period
        self._timer.call_at(self._due, self._tick)

    def _tick(self) -> None:
        try:
            if self._running is None or self._running.done():
                self._call()
        except Exception:
            _log.exception("periodic %r raised", self._function)
        missed = max(0, (self._clock() - self._due) // self._period)
        self._due += (missed + 1) * self._period
        try:
            self._timer.call_at(self._due, self._tick)
        except RuntimeError:  # the timer is closed, and this was the last call
            return

    def _call(self) -> None:
        outcome = self._function()
        if inspect.isawaitable(outcome):
            self._running = self._loop.spawn(outcome)
            self._running.add_done_callback(self._report)

    def _report(self, future: Future[Any]) -> None:
        error = None if future.cancelled() else future.exception()
        if isinstance(error, Exception):  # not the cancellation at the end of the server
            _log.error("periodic %r raised", self._function, exc_info=error)
