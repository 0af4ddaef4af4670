"""Latencies as a percentile distribution (.hgrm), which HdrHistogram's plotter and spreadsheets read."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from hdrh.histogram import HdrHistogram

from yais.core.clock import NANOSECONDS

__all__ = ["hgrm", "write_hgrm"]

_MILLISECOND = NANOSECONDS / 1000
_TICKS = 5
"""Lines each time the distance to 100 % halves, as HdrHistogram's own tools have it."""


def hgrm(histogram: HdrHistogram) -> str:
    """Return the distribution of a histogram of nanoseconds, in milliseconds.

    Parameters
    ----------
    histogram
        As `Recording.latency` and `Recording.service`; it may be empty.
    """
    text = BytesIO()
    histogram.output_percentile_distribution(text, _MILLISECOND, _TICKS)
    lines = text.getvalue().decode().splitlines()
    mean = next(number for number, line in enumerate(lines) if line.startswith("#[Mean"))
    # hdrh scales the mean and leaves the standard deviation as it is.
    lines[mean] = (
        f"#[Mean    = {histogram.get_mean_value() / _MILLISECOND:12.3f}, "
        f"StdDeviation   = {histogram.get_stddev() / _MILLISECOND:12.3f}]"
    )
    return "\n".join([*lines, ""])


def write_hgrm(path: Path, histogram: HdrHistogram) -> None:
    """Write `hgrm` to a file.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    path.write_text(hgrm(histogram), encoding="utf-8")
