"""Histograms of latencies in nanoseconds, from 1 µs to 1 h with three digits.

The library records in 0.8 µs, of the 6 µs that a generator spends on a request by itself, and its percentiles
and mean walk all buckets in Python, which takes as long as tens of requests. What is here does the same in
0.3 µs, and with the counts as one array.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from hdrh.histogram import HdrHistogram

__all__ = ["LONGEST", "counts_of", "latency_histogram", "moments", "record", "values_at"]

LONGEST = 3600 * 10**9
"""The longest latency that is told from longer ones, nanoseconds."""


def latency_histogram() -> HdrHistogram:
    """Return an empty histogram."""
    histogram = HdrHistogram(1000, LONGEST, 3)
    # Else the two would refer to each other, and each keep 200 kB until garbage is collected.
    histogram.encoder.histogram = weakref.proxy(histogram)
    return histogram


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


def moments(histogram: HdrHistogram) -> tuple[float, float]:
    """Return the mean and the sample's standard deviation, of the middles of the buckets.

    The second is 0 for less than two values, both are for none.
    """
    counts = counts_of(histogram)
    used = np.flatnonzero(counts)
    if not used.size:
        return 0.0, 0.0
    weights = counts[used].astype(np.float64)
    middles = _middles(histogram, used)
    mean = float(np.average(middles, weights=weights))
    squares = float((middles - mean) ** 2 @ weights)
    return mean, (squares / max(histogram.total_count - 1, 1)) ** 0.5


def _middles(histogram: HdrHistogram, indices: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Return the middles of buckets: `get_value_from_index` and half of what is equivalent to that."""
    half = histogram.sub_bucket_half_count
    bucket, within = np.divmod(indices, half)
    shift = np.maximum(bucket - 1, 0) + histogram.unit_magnitude
    lowest = np.where(bucket > 0, within + half, within)
    middles: npt.NDArray[np.float64] = (lowest + 0.5) * np.exp2(shift)
    return middles
