"""When each request is due: nanoseconds from the start, ascending, without end.

Constant, linear and cyclic are the functions of the original's siege: rate, rate + α/60·t and
rate + α·sin(2πβt/60), t in seconds. Those that change never fall below 2 requests/s, as there.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Protocol

from yais.core.clock import NANOSECONDS

__all__ = ["Constant", "Cyclic", "Linear", "Poisson", "Schedule"]


class Schedule(Protocol):
    """A plan of arrivals. Iterating twice gives the same moments."""

    def __iter__(self) -> Iterator[int]:
        """Yield when each request is due, nanoseconds from the start."""

    def rate(self, seconds: float) -> float:
        """Return the rate that is asked for at a moment, requests/s."""


class Constant:
    """The k-th request at k / rate."""

    def __init__(self, rate: float) -> None:
        self._rate = rate

    def __iter__(self) -> Iterator[int]:
        number = 0
        while True:
            yield int(number * NANOSECONDS / self._rate)
            number += 1

    def rate(self, seconds: float) -> float:  # noqa: ARG002
        """Return the rate."""
        return self._rate
