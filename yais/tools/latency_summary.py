"""Numbers and lines about a recording that load generators print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hdrh.histogram import HdrHistogram

from yais.load.histogram import values_at
from yais.load.recording import Recording

__all__ = ["errors_by_status", "latency_summary"]

_MILLISECOND = 1e6


def latency_summary(histogram: HdrHistogram, percents: Sequence[float]) -> dict[str, float] | None:
    """Return percentiles and the maximum in milliseconds, as "p50", "p99.9" and "max".

    Parameters
    ----------
    histogram
        Of nanoseconds. None is returned for an empty one.
    """
    if not histogram.total_count:
        return None
    names = [*(f"p{percent:g}" for percent in percents), "max"]
    values = values_at(histogram, (*percents, 100))
    return {name: value / _MILLISECOND for name, value in zip(names, values, strict=True)}


def errors_by_status(recording: Recording) -> dict[str, dict[str, Any]]:
    """Return for each status of requests that failed how many there were, and the first message."""
    return {
        code.name: {"count": number, "first": recording.texts.get(code, "")}
        for code, number in recording.failed.most_common()
    }
