"""The search for the highest rate that keeps an objective."""

from __future__ import annotations

import math

from yais.errors import InvalidArgument

__all__ = ["RateSearch"]


class RateSearch:
    """Doubles the rate while it is kept, or halves it while it is not, then bisects.

    Parameters
    ----------
    start
        The first rate to try, requests/s.
    tolerance
        Ends when the rates between which the answer lies are this close, as a part of the higher.
    lowest
        Requests/s below which no rate is halved.
    highest
        Requests/s beyond which no rate is doubled.

    Attributes
    ----------
    rate
        What to try next; None when the search is over.
    best
        The highest rate that was kept; None where none was.

    Raises
    ------
    InvalidArgument
        The start is no positive rate, or the tolerance not between 0 and 1.
    """

    def __init__(
        self, start: float, tolerance: float, *, lowest: float = 1.0, highest: float = math.inf
    ) -> None:
        if not 0 < start < math.inf:
            raise InvalidArgument(f"start: got {start}, expected a positive number of requests/s")
        if not 0 < tolerance < 1:
            raise InvalidArgument(f"tolerance: got {tolerance}, expected a number between 0 and 1")
        self._tolerance = tolerance
        self._lowest = lowest
        self._highest = highest
        self._too_much: float | None = None
        self.best: float | None = None
        self.rate: float | None = start

    def tell(self, kept: bool) -> None:
        """Say whether the objective was kept at `rate`."""
        assert self.rate is not None
        if kept:
            self.best = self.rate
        else:
            self._too_much = self.rate
        self.rate = self._next()

    def _next(self) -> float | None:
        if self._too_much is None:
            assert self.best is not None
            return min(self.best * 2, self._highest) if self.best < self._highest else None
        if self.best is None:
            return self._too_much / 2 if self._too_much > self._lowest else None
        if self._too_much - self.best <= self._tolerance * self._too_much:
            return None
        return (self.best + self._too_much) / 2
