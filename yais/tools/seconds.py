"""Options that are a number of seconds."""

from __future__ import annotations

import math
from typing import Any

import click

__all__ = ["Seconds"]

_YEAR = 365 * 24 * 3600


class Seconds(click.FloatRange):
    """A number of seconds, no more than a year: threads cannot wait for ever so long.

    Parameters
    ----------
    zero
        Whether there may be none.
    """

    def __init__(self, *, zero: bool = True) -> None:
        super().__init__(min=0, max=_YEAR, min_open=not zero)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):  # click's range lets it pass
            self.fail(f"got {value}, expected a number of seconds", param, ctx)
        return seconds
