"""Which level of load to measure next."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

__all__ = ["LevelRange", "binary", "linear"]


@dataclass(frozen=True, slots=True)
class LevelRange:
    """Levels of load: requests in flight, whole numbers, or requests per second.

    Attributes
    ----------
    end
        The last one; 0: until the latency is too high.
    step
        From one to the next or, in a binary search, how close it comes.
    """

    start: float
    end: float
    step: float


def linear(levels: LevelRange) -> Generator[float, bool, None]:
    """Yield the levels one after another, the first one in any case; send whether each was met.

    The first one that was not met is the last.
    """
    level = levels.start
    while (yield level):
        level += levels.step
        if levels.end and level > levels.end:
            return


def binary(levels: LevelRange) -> Generator[float, bool, None]:
    """Yield the first and the last level, then what is between one that was met and one that was not."""
    low, high = levels.start, levels.end
    if not (yield low) or (yield high):
        return
    while high - low > levels.step:
        middle = type(low)((low + high) / 2)
        if (yield middle):
            low = middle
        else:
            high = middle
