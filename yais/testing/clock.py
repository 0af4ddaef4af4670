"""Time that passes when a test says so."""

from __future__ import annotations

import threading
from collections.abc import Callable

from yais.core.clock import NANOSECONDS

__all__ = ["ManualClock"]


class ManualClock:
    """A `yais.core.clock.Clock` that stands still until it is told to go on. Thread-safe.

    Parameters
    ----------
    start
        The first moment, in nanoseconds.

    Examples
    --------
    >>> clock = ManualClock()
    >>> deadline = Deadline.after(1.5, clock=clock)
    >>> clock.advance(2.0)
    >>> deadline.expired(clock=clock)
    True
    """

    def __init__(self, start: int = 0) -> None:
        self._now = start
        self._lock = threading.Lock()
        self._watchers: list[Callable[[], None]] = []

    def __call__(self) -> int:
        """Return the present moment in nanoseconds."""
        return self._now

    def __repr__(self) -> str:
        return f"<ManualClock at {self._now} ns>"

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.advance_ns(round(seconds * NANOSECONDS))

    def advance_ns(self, nanoseconds: int) -> None:
        """Let `nanoseconds` pass.

        Raises
        ------
        ValueError
            The number is negative: a monotonic clock never goes back.
        """
        if nanoseconds < 0:
            raise ValueError(f"got {nanoseconds} ns, expected at least 0")
        with self._lock:
            self._now += nanoseconds
            watchers = list(self._watchers)
        for watcher in watchers:
            watcher()

    def advance_to(self, moment: int) -> None:
        """Let time pass until `moment`, ns; ValueError if that is over already."""
        self.advance_ns(moment - self._now)

    def watch(self, watcher: Callable[[], None]) -> None:
        """Have `watcher` called, without arguments, whenever time has passed, on the thread that said so."""
        with self._lock:
            self._watchers.append(watcher)
