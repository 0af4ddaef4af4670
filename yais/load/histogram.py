"""Histograms of latencies in nanoseconds, from 1 µs to 1 h with three digits.

The library records in 0.8 µs, of the 6 µs that a generator spends on a request by itself, and its percentiles
and mean walk all buckets in Python, which takes as long as tens of requests. What is here does the same in
0.3 µs, and with the counts as one array.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from hdrh.histogram import HdrHistogram

__all__ = ["LONGEST", "counts_of", "latency_histogram", "mean_of", "record", "values_at"]

LONGEST = 3600 * 10**9
"""The longest latency that is told from longer ones, nanoseconds."""


def latency_histogram() -> HdrHistogram:
    """Return an empty histogram."""
    return HdrHistogram(1000, LONGEST, 3)


_EMPTY = latency_histogram()
_MASK: int = _EMPTY.sub_bucket_mask
_UNIT: int = _EMPTY.unit_magnitude
_HALF: int = _EMPTY.sub_bucket_half_count_magnitude


def record(histogram: HdrHistogram, value: int) -> None:
    """Record a latency, as `HdrHistogram.record_value` does; longer than `LONGEST` counts as that."""
    value = min(value, LONGEST)
    bucket = (value | _MASK).bit_length() - _UNIT - _HALF - 1
    histogram.counts[(bucket << _HALF) + (value >> bucket + _UNIT)] += 1
    histogram.total_count += 1
    histogram.min_value = min(histogram.min_value, value)
    histogram.max_value = max(histogram.max_value, value)


def counts_of(histogram: HdrHistogram) -> npt.NDArray[np.uint64]:
    """Return the histogram's counts themselves, by index."""
    return np.frombuffer(histogram.counts, np.uint64)


def values_at(histogram: HdrHistogram, percents: Sequence[float]) -> list[int]:
    """Return percentiles, as `HdrHistogram.get_value_at_percentile` does; 0 where nothing was recorded."""
    if not histogram.total_count:
        return [0] * len(percents)
    wanted = [histogram.get_target_count_at_percentile(percent) for percent in percents]
    found = np.searchsorted(np.cumsum(counts_of(histogram)), wanted)
    values = (histogram.get_value_from_index(int(index)) for index in found)
    return [histogram.get_highest_equivalent_value(value) for value in values]


def mean_of(histogram: HdrHistogram) -> float:
    """Return the mean of the buckets' middles, as `HdrHistogram.get_mean_value` does."""
    counts = counts_of(histogram)
    used: Any = np.flatnonzero(counts)
    if not used.size:
        return 0.0
    lowest = [histogram.get_value_from_index(int(index)) for index in used]
    middles = [(value + histogram.get_highest_equivalent_value(value) + 1) / 2 for value in lowest]
    return float(np.average(middles, weights=counts[used]))
