"""Mean and deviation of a histogram, quickly: they are wanted while requests are being sent."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hdrh.histogram import HdrHistogram

from yais.load.histogram import counts_of

__all__ = ["moments"]


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
