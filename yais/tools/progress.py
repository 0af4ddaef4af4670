"""Progress, for people."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager

import click

__all__ = ["progress"]


def progress(count: int, *, numbers: bool = True) -> AbstractContextManager[Iterable[int]]:
    """Return `range(count)`, with a bar on stderr while it is iterated over if that is a terminal.

    Parameters
    ----------
    numbers
        Whether to say how many there have been, beside the bar.
    """
    if not sys.stderr.isatty():
        return contextlib.nullcontext(range(count))
    every = max(1, count // 200)
    return click.progressbar(range(count), file=sys.stderr, show_pos=numbers, update_min_steps=every)
