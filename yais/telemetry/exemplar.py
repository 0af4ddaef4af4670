"""Exemplars: of the observations that a bucket of a histogram counts, one, and where there is more of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from prometheus_client import samples

__all__ = ["Exemplar", "with_exemplars"]


class Exemplar(NamedTuple):
    """An observation.

    Attributes
    ----------
    labels
        `trace_id` and `span_id`, as `trace_ids` has them.
    value
        What was observed.
    timestamp
        When, seconds since 1970.
    """

    labels: Mapping[str, str]
    value: float
    timestamp: float


def with_exemplars(
    buckets: Sequence[tuple[str, float]], exemplars: Mapping[int, Exemplar]
) -> list[tuple[str, float] | tuple[str, float, samples.Exemplar]]:
    """Return what `HistogramMetricFamily.add_metric` takes.

    Parameters
    ----------
    buckets
        As `Histogram.cumulative` has them.
    exemplars
        By the number of the bucket.
    """
    return [
        (bound, count, _exemplar(exemplars[number])) if number in exemplars else (bound, count)
        for number, (bound, count) in enumerate(buckets)
    ]


def _exemplar(exemplar: Exemplar) -> samples.Exemplar:
    return samples.Exemplar(dict(exemplar.labels), exemplar.value, exemplar.timestamp)
