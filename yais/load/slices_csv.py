"""A run over time as comma-separated values."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import astuple
from pathlib import Path

from yais.load.recording import Slice

__all__ = ["HEADER", "write_slices_csv"]

HEADER = (
    "start_s",
    "seconds",
    "scheduled",
    "sent",
    "completed",
    "failed",
    "outstanding",
    "p50_ms",
    "p90_ms",
    "p99_ms",
    "max_ms",
)
"""The columns: the attributes of `Slice`, with their units."""


def write_slices_csv(path: Path, slices: Iterable[Slice]) -> None:
    """Write a line for each slice, after a header; a latency that is not there is an empty field.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows([_field(value) for value in astuple(each)] for each in slices)


def _field(value: float | None) -> str:
    """Return a number with six decimals at most: nanoseconds, of a latency."""
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".")
    return "" if value is None else str(value)
