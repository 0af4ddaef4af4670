"""Throughput against latency, one point for each level of a load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from yais.load.chart import picture
from yais.load.plot import Axis, Line
from yais.load.scales import LinearScale, LogScale, latency_scale

__all__ = ["CurvePoint", "curve", "latency_axis"]


@dataclass(frozen=True)
class CurvePoint:
    """A level of a load and what was measured at it.

    Attributes
    ----------
    label
        The level: requests in flight, or the rate asked for.
    throughput
        Inferences per second.
    p50, p90, p99
        Latency, milliseconds.
    """

    label: str
    throughput: float
    p50: float
    p90: float
    p99: float


def curve(
    points: Sequence[CurvePoint], *, title: str = "Latency against throughput", level: str = "concurrency"
) -> str:
    """Return an SVG file: a line for each percentile through the points, in their order.

    Parameters
    ----------
    points
        At least one.
    level
        What the labels are: concurrency, or request rate.
    """
    lines = [
        Line("p50", [(each.throughput, each.p50) for each in points], "pale"),
        Line("p90", [(each.throughput, each.p90) for each in points], "blue"),
        Line(
            f"p99, with the {level}",
            [(each.throughput, each.p99) for each in points],
            "deep",
            labels=[each.label for each in points],
        ),
    ]
    x = Axis("inferences/s", LinearScale.upto(max(each.throughput for each in points)))
    return picture(title, x, latency_axis(lines), lines)


def latency_axis(lines: Sequence[Line]) -> Axis:
    """Return an axis that holds these lines of milliseconds, and says so where it is logarithmic."""
    scale = latency_scale(y for line in lines for _, y in line.points if y is not None)
    return Axis("ms, log scale" if isinstance(scale, LogScale) else "ms", scale)
