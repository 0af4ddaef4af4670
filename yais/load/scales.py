"""Scales of charts: where a value stands on an axis, and which values are marked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol

__all__ = ["LinearScale", "LogScale", "NinesScale", "Scale", "latency_scale", "short"]

_MARKS = 10
"""A logarithmic scale with more marks than these has them at powers of ten only."""
_LOG_FROM = 20.0
"""Latencies that differ by this factor and more stand on a logarithmic scale."""


class Scale(Protocol):
    """Places values on an axis."""

    @property
    def marks(self) -> Sequence[tuple[float, str]]:
        """Values to mark, ascending, and what is written there."""

    def place(self, value: float) -> float:
        """Return where a value stands, from 0 to 1: the ends, where values beyond them stand, too."""


class LinearScale:
    """Equal steps: from `low` to `high`.

    Parameters
    ----------
    low, high
        The ends; `low` < `high`.
    marks
        Which values are marked; up to seven round ones between the ends by default.
    percent
        Whether values are shares, to be written as percentages.
    """

    def __init__(
        self, low: float, high: float, marks: Iterable[float] | None = None, *, percent: bool = False
    ) -> None:
        self._low, self._high = low, high
        wanted = _round_steps(low, high) if marks is None else marks
        self.marks = [(value, f"{value:.0%}" if percent else short(value)) for value in wanted]

    @classmethod
    def upto(cls, value: float) -> LinearScale:
        """Return a scale from 0 to `value` or the next round number above it."""
        step = _step(value / 5) if value > 0 else 0.2
        return cls(0.0, step * max(1, math.ceil(value / step - 1e-9)))

    def place(self, value: float) -> float:
        """Return the part of the way from `low` to `high`."""
        return min(1.0, max(0.0, (value - self._low) / (self._high - self._low)))


class LogScale:
    """Equal factors, from one of 1, 2, 5, 10, ... to another, with `low` > 0 and `high` between them."""

    def __init__(self, low: float, high: float) -> None:
        start, end = math.floor(math.log10(low)), math.ceil(math.log10(high))
        steps = [float(f"{digit}e{power}") for power in range(start, end + 1) for digit in (1, 2, 5)]
        first = max(0, sum(step <= low for step in steps) - 1)
        last = max(first + 1, next(at for at, step in enumerate(steps) if step >= high))
        self._low, self._high = steps[first], steps[last]
        within = steps[first : last + 1]
        powers = [step for step in within if step in steps[::3]]
        self.marks = [(step, short(step)) for step in (within if len(within) <= _MARKS else powers)]

    def place(self, value: float) -> float:
        """Return the part of the way in factors; what is not above 0 stands at the beginning."""
        if value <= self._low:
            return 0.0
        return min(1.0, math.log(value / self._low) / math.log(self._high / self._low))


class NinesScale:
    """Percentiles, with as much room from 90 to 99 % as from 99 to 99.9 %.

    Parameters
    ----------
    samples
        How many values the percentiles are of; the scale ends at the nine beyond which there is nothing.

    Attributes
    ----------
    nines
        How many there are: 3 for a scale that ends at 99.9.
    """

    def __init__(self, samples: int) -> None:
        self.nines = max(2, math.ceil(math.log10(max(1, samples))))
        nines = [100.0 - 10.0 ** (2 - nine) for nine in range(1, self.nines + 1)]
        self.marks = [(percent, f"{percent:.10g}") for percent in (0.0, 50.0, *nines)]

    def place(self, value: float) -> float:
        """Return the part of the way, in nines; the end for 100 %."""
        if value >= 100.0:
            return 1.0
        return min(1.0, max(0.0, -math.log10(1.0 - value / 100.0) / self.nines))


def latency_scale(latencies: Iterable[float]) -> Scale:
    """Return a scale for latencies: from 0 in equal steps, or in equal factors where they differ widely."""
    above = [latency for latency in latencies if latency > 0]
    if not above:
        return LinearScale.upto(1.0)
    low, high = min(above), max(above)
    return LogScale(low, high) if high / low >= _LOG_FROM else LinearScale.upto(high)


def short(value: float) -> str:
    """Return a number with few digits: 0.25, 40, 1500, 20k, 1.5M."""
    for unit, letter in ((1e6, "M"), (1e4, "k")):
        if abs(value) >= unit:
            return f"{value / (1e6 if letter == 'M' else 1e3):.4g}{letter}"
    return f"{value:.4g}"


def _round_steps(low: float, high: float) -> list[float]:
    step = _step((high - low) / 6)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _step(least: float) -> float:
    """Return the first of 1, 2, 5, 10, 20, ... that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= least * (1 - 1e-9))
