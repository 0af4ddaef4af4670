"""How long to wait before a process that ended is started again."""

from __future__ import annotations

from yais.core.clock import NANOSECONDS

__all__ = ["RestartDelay"]

_FIRST = 0.1  # seconds
_LAST = 30.0  # seconds
_HEALTHY = 60.0  # seconds that a process lives before its end counts as the first one again


class RestartDelay:
    """Doubles from 0.1 s to 30 s, and falls back to 0.1 s after a process that lived for 60 s.

    Moments are in nanoseconds.
    """

    def __init__(self) -> None:
        self._next = _FIRST

    def after(self, started: int, ended: int) -> float:
        """Return the seconds to wait after a process that ran between these moments."""
        if ended - started >= _HEALTHY * NANOSECONDS:
            self._next = _FIRST
        delay = self._next
        self._next = min(2 * delay, _LAST)
        return delay
