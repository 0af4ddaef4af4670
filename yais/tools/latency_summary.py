"""Numbers and lines about a recording that load generators print."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from hdrh.histogram import HdrHistogram

from yais.load.histogram import values_at
from yais.load.recording import Recording

__all__ = ["errors_by_status", "errors_text", "latency_summary", "milliseconds_text"]

_MILLISECOND = 1e6
_COLUMNS = 80


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


def milliseconds_text(numbers: Mapping[str, float]) -> str:
    """Return numbers with their names, such as those of `latency_summary`, as part of a line."""
    return ", ".join(f"{name} {value:.3f}" for name, value in numbers.items())


def errors_by_status(recording: Recording) -> dict[str, dict[str, Any]]:
    """Return for each status of requests that failed how many there were, and the first message."""
    return {
        code.name: {"count": number, "first": recording.texts.get(code, "")}
        for code, number in recording.failed.most_common()
    }


def errors_text(errors: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what `errors_by_status` returned as lines for people."""
    texts = (f"{status}: {error['count']}, {error['first']}" for status, error in errors.items())
    return [line for text in texts for line in textwrap.wrap(text, _COLUMNS, subsequent_indent="    ")]
