"""Callbacks at moments, from one thread."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from typing import TYPE_CHECKING

from yais.core.clock import NANOSECONDS, Clock, monotonic
from yais.core.thread_pool import name_thread, wake_on_time

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Timer", "TimerHandle"]

_logger = logging.getLogger("yais.timer")


class TimerHandle:
    """One callback that a `Timer` is to run."""

    __slots__ = ("_callback", "_timer")

    def __init__(self, timer: Timer, callback: Callable[[], object]) -> None:
        self._timer = timer
        self._callback: Callable[[], object] | None = callback

    def cancel(self) -> bool:
        """Keep the callback from running; False if it has begun already, or was cancelled."""
        return self._timer._cancel(self)


class Timer:
    """Runs callbacks at given moments, in the order of the moments, each once.

    Thread-safe. One daemon thread runs all callbacks, starting with the first `call_at`, so each must be
    short: it delays the others. What a callback raises is logged.

    Parameters
    ----------
    name
        Names the thread.
    clock
        What the moments are measured by. The thread sleeps for the difference of two readings; a test
        that moves its clock forward wakes it with a `call_at` that is due.
    """

    def __init__(self, name: str = "timer", clock: Clock = monotonic) -> None:
        self._clock = clock
        self._condition = threading.Condition()
        # The number keeps callbacks of one moment in the order they came.
        self._heap: list[tuple[int, int, TimerHandle]] = []
        self._numbers = itertools.count()
        self._cancelled = 0  # Since the heap was last cleaned.
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def call_at(self, when_ns: int, callback: Callable[[], object]) -> TimerHandle:
        """Run `callback()` at `when_ns`, a moment of the clock in nanoseconds; at once if that is past.

        Raises RuntimeError after `close`.
        """
        handle = TimerHandle(self, callback)
        with self._condition:
            if self._closed:
                raise RuntimeError(f"timer {self._thread.name!r} is closed, expected an open one")
            heapq.heappush(self._heap, (when_ns, next(self._numbers), handle))
            if self._heap[0][2] is handle:
                self._condition.notify()
            if self._thread.ident is None:
                self._thread.start()
        return handle

    def close(self, timeout: float) -> bool:
        """Drop what is still to come; return whether the thread has ended within `timeout` seconds."""
        with self._condition:
            self._closed = True
            self._heap.clear()
            self._condition.notify()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _cancel(self, handle: TimerHandle) -> bool:
        with self._condition:
            if handle._callback is None:
                return False
            handle._callback = None
            self._cancelled += 1
            # Far moments that are cancelled must not pile up until they come. Cleaning up once as many
            # were cancelled as half of what there is costs each of them a constant time.
            if self._cancelled > len(self._heap) // 2:
                self._heap = [entry for entry in self._heap if entry[2]._callback is not None]
                heapq.heapify(self._heap)
                self._cancelled = 0
            return True

    def _run(self) -> None:
        name_thread(self._thread.name)
        wake_on_time()
        while (callback := self._next()) is not None:
            try:
                callback()
            except Exception:
                _logger.exception("timer %r: %r raised", self._thread.name, callback)

    def _next(self) -> Callable[[], object] | None:
        """Wait until a callback is due and return it; None once the timer is closed."""
        with self._condition:
            while not self._closed:
                if not self._heap:
                    self._condition.wait()
                    continue
                when, _, handle = self._heap[0]
                remaining = when - self._clock()
                if remaining > 0:
                    self._condition.wait(min(remaining / NANOSECONDS, threading.TIMEOUT_MAX))
                    continue
                heapq.heappop(self._heap)
                callback, handle._callback = handle._callback, None
                if callback is not None:
                    return callback
        return None
