"""The latencies that Triton shows of a model, and where they are counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from yais.inference.counts import Counts, Duration

__all__ = ["CACHE", "LATENCIES", "Latency"]


class Latency(NamedTuple):
    """One of the durations that Triton shows.

    Attributes
    ----------
    name, text
        Of the metrics, without prefix and unit.
    of
        What was counted, all together.
    recent
        The last of them, ns, that ended at a moment or later.
    """

    name: str
    text: str
    of: Callable[[Counts], Duration]
    recent: Callable[[Counts, int], npt.NDArray[np.int64]]


def _both(column: int) -> Callable[[Counts, int], npt.NDArray[np.int64]]:
    """Return what finds a column of the requests that ran and of those that the cache answered."""

    def recent(counts: Counts, since: int) -> npt.NDArray[np.int64]:
        found = [rows.since(since)[:, column] for rows in (counts.recent, counts.recent_hits)]
        return np.concatenate(found)

    return recent


LATENCIES = (
    Latency(
        "request",
        "inference request duration in microseconds (includes cached requests)",
        lambda counts: counts.success,
        _both(1),
    ),
    Latency(
        "queue",
        "inference queuing duration in microseconds (includes cached requests)",
        lambda counts: counts.queue,
        _both(2),
    ),
    Latency(
        "compute_input",
        "compute input duration in microseconds (does not include cached requests)",
        lambda counts: counts.compute_input,
        lambda counts, since: counts.recent.since(since)[:, 3],
    ),
    Latency(
        "compute_infer",
        "compute inference duration in microseconds (does not include cached requests)",
        lambda counts: counts.compute_infer,
        lambda counts, since: counts.recent.since(since)[:, 4],
    ),
    Latency(
        "compute_output",
        "inference compute output duration in microseconds (does not include cached requests)",
        lambda counts: counts.compute_output,
        lambda counts, since: counts.recent.since(since)[:, 5],
    ),
)

CACHE = (
    Latency(
        "hit",
        "cache hit",
        lambda counts: counts.cache_hit,
        lambda counts, since: counts.recent_hits.since(since)[:, 3],
    ),
    Latency(
        "miss",
        "cache miss (insert+lookup)",
        lambda counts: counts.cache_miss,
        lambda counts, since: counts.recent_misses.since(since)[:, 1],
    ),
)
