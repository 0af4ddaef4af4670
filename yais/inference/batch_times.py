"""How long batches take, by their size: measured once, fitted by a line, corrected by what is observed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from statistics import median

from yais.core.clock import NANOSECONDS

__all__ = ["BatchTimes", "measure"]

_WINDOW = 64  # batches whose times correct the line
_EVERY = 8  # batches after which the correction is made anew
_FEWEST, _MOST = 3, 10  # runs of each size that is measured


class BatchTimes:
    """T(b): how long a batch of b items takes, at a percentile. Not thread-safe.

    A line is fitted to the medians of the sizes, so that one slow run changes nothing, and made to fit as
    well, relatively, for small batches as for large ones. It is scaled by the percentile
    of how much longer than on the line the last 64 batches took; above the 98th that is the slowest of them.

    Parameters
    ----------
    samples
        Sizes of batches and how long each took, in ns. At least one.
    percentile
        In 1..100.

    Attributes
    ----------
    alpha, beta
        The line: ns of any batch, and ns of each item in it; neither negative.
    percentile
        As given.
    factor
        What the line is scaled by to be at the percentile.

    Raises
    ------
    ValueError
        There are no samples, a size is less than 1, or the percentile is not in 1..100.
    """

    def __init__(self, samples: Iterable[tuple[int, int]], percentile: float = 90.0) -> None:
        known = [(size, max(ns, 1)) for size, ns in samples]
        if not known:
            raise ValueError("got no samples, expected at least one")
        if min(known)[0] < 1:
            raise ValueError(f"got a batch of {min(known)[0]}, expected at least 1")
        if not 1 <= percentile <= 100:
            raise ValueError(f"got the percentile {percentile:g}, expected 1 to 100")
        self.alpha, self.beta = _line(known)
        self.percentile = percentile
        self._ratios = deque((ns / self._on_line(size) for size, ns in known), _WINDOW)
        self._observed = 0
        self._scale()

    def __repr__(self) -> str:
        return (
            f"<BatchTimes {self.alpha / 1e6:.3g} ms + {self.beta / 1e6:.3g} ms an item, "
            f"times {self.factor:.2f} at p{self.percentile:g}>"
        )

    def at(self, size: int) -> int:
        """Return T(size) at the percentile, in ns. It does not get less with `size`."""
        return int(self._alpha + self._beta * size + 0.5)

    def largest(self, ns: int) -> int | None:
        """Return the largest size b with at(b) <= ns: 0 if there is none, None if there is no limit."""
        left = ns + 0.5 - self._alpha
        if left <= 0:
            return 0
        if self._beta < 1e-9:
            return None
        size = int(left / self._beta)
        return size if self.at(size) <= ns else max(size - 1, 0)  # what was rounded

    def observe(self, size: int, ns: int) -> None:
        """Take in that a batch of `size` took `ns`."""
        self._ratios.append(ns / self._on_line(size))
        self._observed += 1
        if self._observed % _EVERY == 0:
            self._scale()

    def _on_line(self, size: int) -> float:
        return self.alpha + self.beta * size

    def _scale(self) -> None:
        ratios = sorted(self._ratios)
        self.factor = ratios[math.ceil(self.percentile / 100 * len(ratios)) - 1]
        self._alpha, self._beta = self.factor * self.alpha, self.factor * self.beta


def measure(
    run: Callable[[int], int], max_batch: int, percentile: float = 90.0, limit: int = NANOSECONDS
) -> BatchTimes:
    """Measure how long batches take.

    Every size is run at least 3 times and at most 10, after one run that does not count. If that would take
    longer than `limit`, only powers of two and the largest size are; if that would, too, only 1 and the
    largest, whatever it takes. First runs that are slower than the others come on top.

    Parameters
    ----------
    run
        Runs a batch of the size given, and returns how long it took, in ns. What it raises is let through.
    max_batch
        The largest size.
    percentile
        Of the times, in 1..100.
    limit
        How long it may take in all, ns.
    """
    spent = 0

    def timed(size: int) -> int:
        nonlocal spent
        ns = run(size)
        spent += ns
        return ns

    for size in {1, max_batch}:
        timed(size)
    mean = (timed(1) + timed(max_batch)) / 2
    sizes = _sizes(max_batch, int((limit - spent) / max(mean * (_FEWEST + 1), 1)))
    for size in sizes[1:-1]:
        timed(size)
    samples: list[tuple[int, int]] = []
    for count in range(_MOST):
        began = spent
        samples += [(size, timed(size)) for size in sizes]
        if count + 1 >= _FEWEST and spent + (spent - began) > limit:
            break
    return BatchTimes(samples, percentile)


def _sizes(max_batch: int, most: int) -> Sequence[int]:
    """Return the sizes to measure, preferably not more than `most`."""
    if max_batch <= most:
        return range(1, max_batch + 1)
    powers = [1 << bits for bits in range(max_batch.bit_length()) if 1 << bits < max_batch] + [max_batch]
    return powers if len(powers) <= most else sorted({1, max_batch})


def _line(samples: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Return alpha and beta of the line with the least relative errors to the medians, by their squares."""
    times: dict[int, list[int]] = {}
    for size, ns in samples:
        times.setdefault(size, []).append(ns)
    points = [(size, median(found)) for size, found in times.items()]
    weights = [1 / ns**2 for _, ns in points]
    total = math.fsum(weights)
    size_mean = math.fsum(w * size for w, (size, _) in zip(weights, points, strict=True)) / total
    time_mean = math.fsum(w * ns for w, (_, ns) in zip(weights, points, strict=True)) / total
    spread = math.fsum(w * (size - size_mean) ** 2 for w, (size, _) in zip(weights, points, strict=True))
    if not spread:  # one size only: what is not known to be a cost of items is none
        return time_mean, 0.0
    shared = math.fsum(
        w * (size - size_mean) * (ns - time_mean) for w, (size, ns) in zip(weights, points, strict=True)
    )
    beta = max(shared / spread, 0.0)
    alpha = time_mean - beta * size_mean
    return (alpha, beta) if alpha >= 0 else (0.0, time_mean / size_mean)
