"""A bound for how many of something are under way at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

__all__ = ["InFlight"]


class InFlight:
    """Lets at most so many in at once; the others wait in their order. Thread-safe.

    What waits is not looked at until its turn: one that is no longer wanted then leaves at once.

    Parameters
    ----------
    limit
        How many; 0 for any number.
    """

    def __init__(self, limit: int) -> None:
        if limit < 0:
            raise ValueError(f"got a limit of {limit}, expected at least 0")
        self.limit = limit
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._waiting: deque[Callable[[], object]] = deque()
        self._inside = 0

    def __repr__(self) -> str:
        if not self.limit:
            return "<InFlight without a limit>"
        return f"<InFlight {self._inside} of {self.limit} under way, {len(self._waiting)} waiting>"

    def enter(self, start: Callable[[], object]) -> None:
        """Call `start`, now or when it is its turn, on the thread that leaves. It must not raise."""
        if not self.limit:
            start()
            return
        with self._lock:
            free = not self._waiting and self._room()
            if free:
                self._inside += 1
            else:
                self._waiting.append(start)
        if free:
            start()
        else:
            self._start_waiting()  # somebody may have left meanwhile

    def leave(self) -> None:
        """Let the next one in."""
        if not self.limit:
            return
        with self._lock:
            self._inside -= 1
        self._start_waiting()

    def _room(self) -> bool:
        return self._inside < self.limit

    def _start_waiting(self) -> None:
        # Not by recursion: one that starts may leave before `start` returns, a thousand times over.
        while self._waiting and self._room() and self._starting.acquire(blocking=False):
            try:
                while (start := self._next()) is not None:
                    start()
            finally:
                self._starting.release()

    def _next(self) -> Callable[[], object] | None:
        with self._lock:
            if not self._waiting or not self._room():
                return None
            self._inside += 1
            return self._waiting.popleft()
