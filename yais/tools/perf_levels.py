"""The levels of load that the options of `yais perf` ask for, as perf_analyzer reads them."""

from __future__ import annotations

from collections.abc import Callable

import click

from yais.load.perf.search import LevelRange
from yais.load.schedule import HIGHEST_RATE

__all__ = ["checked_levels", "levels_of"]


def levels_of(
    concurrency: str | None, rate: str | None, concurrent: int | None, most: int | None, *, dynamic: bool
) -> LevelRange:
    """Return the levels of --concurrency-range or --request-rate-range, or of -t, -c and -d.

    Raises
    ------
    click.UsageError
        There are several of them, or a range is none.
    """
    deprecated = concurrent is not None or most is not None or dynamic
    if concurrency is not None and deprecated:
        raise click.UsageError("Cannot use deprecated options with --concurrency-range.")
    if rate is not None and deprecated:
        raise click.UsageError("Cannot use concurrency options with --request-rate-range.")
    if concurrency is not None and rate is not None:
        raise click.UsageError(
            "Cannot specify more then one inference load mode: --concurrency-range or --request-rate-range."
        )
    if concurrency is not None:
        return _range("--concurrency-range", concurrency, int)
    if rate is not None:
        return _range("--request-rate-range", rate, float)
    return LevelRange(concurrent or 1, (most or 0) if dynamic else 1, 1)


def checked_levels(levels: LevelRange, limit_ms: int, *, binary: bool) -> LevelRange:
    """Return the levels if they can be searched and there is an end to them.

    Raises
    ------
    click.UsageError
        They cannot, or there is none.
    """
    if binary and not levels.end:
        raise click.UsageError("The end of the range can not be 0 (or 0.0) for binary search mode.")
    if binary and not limit_ms:
        raise click.UsageError("The --latency-threshold cannot be 0 for binary search mode.")
    if binary and levels.end < levels.start:
        raise click.UsageError(
            "The end of the range can not be less than start of the range for binary search mode."
        )
    if not levels.end and not limit_ms:
        raise click.UsageError(
            "The end of the search range and the latency limit can not be both 0 (or 0.0) simultaneously"
        )
    return levels


def _range(option: str, text: str, number: Callable[[str], float]) -> LevelRange:
    try:
        start, end, step = (*map(number, text.split(":")), *map(number, "111"[text.count(":") + 1 :]))
    except ValueError:
        raise click.UsageError(f"Failed to parse {option}. Invalid value provided: {text}") from None
    if not (start > 0 and end >= 0 and step > 0 and max(start, end, step) <= HIGHEST_RATE):
        raise click.UsageError(
            f"Failed to parse {option}. Got {text}, expected START and STEP above 0, END of 0 or more, and "
            f"none above {HIGHEST_RATE:.0f}"
        )
    return LevelRange(start, end, step)
