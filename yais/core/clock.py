"""Time as an argument: clocks and deadlines.

Everything that decides by time (batchers, queue policies, state machines) takes the present moment as
an argument or a `Clock` at construction, so that tests drive it with `yais.testing.ManualClock`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["NANOSECONDS", "Clock", "Deadline", "monotonic"]

NANOSECONDS = 1_000_000_000
"""Nanoseconds in a second."""

Clock = Callable[[], int]
"""Returns the present moment in nanoseconds; only differences between two readings mean anything."""

monotonic: Clock = time.monotonic_ns
"""The clock of the machine. It never goes back."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment after which nobody waits for the answer any more.

    Parameters
    ----------
    at
        The moment in nanoseconds of `monotonic`; None means that there is no deadline.
    """

    at: int | None = None

    @classmethod
    def after(cls, seconds: float | None, *, clock: Clock = monotonic) -> Deadline:
        """Return the deadline `seconds` from now; None or infinity gives one that never passes."""
        if seconds is None or seconds == math.inf:
            return NEVER
        return cls(clock() + int(float(seconds) * NANOSECONDS))

    def remaining(self, *, clock: Clock = monotonic) -> float | None:
        """Seconds left, never below zero; None without a deadline."""
        return None if self.at is None else max(0, self.at - clock()) / NANOSECONDS

    def expired(self, *, clock: Clock = monotonic) -> bool:
        """Whether the moment has passed."""
        return self.at is not None and clock() >= self.at


NEVER = Deadline()
