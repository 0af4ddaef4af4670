"""A histogram cheap enough to observe every request.

prometheus-client's own takes 0.8 us and a lock for each observation (reference measurement, bound
child). This one takes many observations at once and is read when Prometheus asks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["Histogram"]


class Histogram:
    """Counts observations by buckets. Not thread-safe: observe under the lock of what is observed.

    Parameters
    ----------
    bounds
        Upper, inclusive bounds of the buckets, ascending; one without a bound is added.

    Attributes
    ----------
    counts
        Observations in each bucket, the unbounded one last.
    sum
        Of all observed values.
    """

    __slots__ = ("_bounds", "bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self._bounds = np.array(self.bounds)
        self.counts = np.zeros(len(self.bounds) + 1, np.int64)
        self.sum = 0.0

    def observe(self, values: npt.ArrayLike) -> None:
        """Count one observation of each value."""
        array = np.asarray(values, np.float64)
        buckets = np.searchsorted(self._bounds, array)
        self.counts += np.bincount(buckets, minlength=len(self.counts))
        self.sum += float(array.sum())

    def cumulative(self) -> list[tuple[str, float]]:
        """Return (bound, observations up to it) pairs, as Prometheus counts buckets."""
        bounds = (*(str(float(bound)) for bound in self.bounds), "+Inf")
        return list(zip(bounds, self.counts.cumsum().tolist(), strict=True))
