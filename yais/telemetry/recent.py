"""The last observations of something, for quantiles of now."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Recent"]

_SIZE = 4096
"""Observations kept: a 0.999 quantile of them has four above it. 32 KB for each column."""


class Recent:
    """Keeps the last 4096 observations, each a row of numbers. Not thread-safe, as `Histogram`.

    A window of exact values, and not a sketch: Triton's summaries forget what is older than a minute, and
    for a window of this size sorting it when somebody asks is cheaper than keeping order all the time.

    Parameters
    ----------
    columns
        Numbers in a row; the first is when it was observed, ns.
    """

    __slots__ = ("_columns", "_count", "_rows")

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._rows = np.empty((0, columns), np.int64)  # made when there is something to keep
        self._count = 0

    def observe(self, rows: npt.NDArray[np.int64]) -> None:
        """Keep rows, of shape (number, columns), the latest last."""
        if not len(self._rows):
            self._rows = np.empty((_SIZE, self._columns), np.int64)
        rows = rows[-_SIZE:]
        start = self._count % _SIZE
        fitting = min(len(rows), _SIZE - start)
        self._rows[start : start + fitting] = rows[:fitting]
        self._rows[: len(rows) - fitting] = rows[fitting:]
        self._count += len(rows)

    def since(self, moment: int) -> npt.NDArray[np.int64]:
        """Return the rows observed at `moment` or later, in any order."""
        rows = self._rows[: self._count]
        return rows[rows[:, 0] >= moment]
