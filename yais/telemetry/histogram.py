"""A histogram cheap enough to observe every request.

prometheus-client's own takes about a microsecond and a lock for each observation (measured by its
reference benchmark: 0.8 us with a bound child); this one takes a quarter of that and is read when
Prometheus asks (`yais.telemetry.metrics`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

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

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        """Count `count` observations of a value."""
        self.counts[bisect_left(self.bounds, value)] += count
        self.sum += value * count

    def cumulative(self) -> list[tuple[str, float]]:
        """Return (bound, observations up to it) pairs, as Prometheus counts buckets."""
        total = 0
        pairs: list[tuple[str, float]] = []
        for bound, count in zip((*map(float, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            pairs.append((str(bound), total))
        return pairs
