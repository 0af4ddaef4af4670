"""What is counted of the responses of decoupled models, each by its place in the answer."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["ResponseCounts", "ResponseEnd", "ResponseTime"]

_MAX_PLACES = 4096  # counted; the responses of longer answers are not told apart any more, but left out


class ResponseEnd(enum.IntEnum):
    """How an answer ended, after its responses."""

    FAIL = 3
    """With an error."""
    EMPTY = 4
    """As it should: with nothing more."""
    CANCEL = 5
    """Nobody wanted more."""


class ResponseTime(NamedTuple):
    """How long one response took, ns: to be computed, and to be handed out."""

    infer: int
    output: int


_NAMES = ("compute_infer", "compute_output", "success", "fail", "empty_response", "cancel")
_INFER, _OUTPUT, _SUCCESS = range(3)


class ResponseCounts:
    """Counts by place, from 0: how often, and how many ns in all. Not thread-safe.

    The duration of a success or failure is that of computing and handing out together; of what is empty or
    cancelled, the time since the response before.
    """

    __slots__ = ("_table",)

    def __init__(self) -> None:
        self._table = np.zeros((0, len(_NAMES), 2), np.int64)  # place, what, (count, ns)

    def __len__(self) -> int:
        """Places that anything was counted for, and those made ready."""
        return int(np.count_nonzero(self._table[:, :, 0].any(axis=1)))

    def add(self, responses: Sequence[ResponseTime], end: ResponseEnd, ns: int) -> None:
        """Count one answer: its responses, and what came after the last of them, `ns` later."""
        number = min(len(responses), _MAX_PLACES)
        self._reserve(min(number + 1, _MAX_PLACES))
        if number:
            times = np.array(responses[:number], np.int64)
            table = self._table[:number]
            table[:, : _SUCCESS + 1, 0] += 1
            table[:, _INFER, 1] += times[:, 0]
            table[:, _OUTPUT, 1] += times[:, 1]
            table[:, _SUCCESS, 1] += times.sum(axis=1)
        if len(responses) >= _MAX_PLACES:
            return
        self._table[number, end] += (1, ns)
        if end is ResponseEnd.FAIL:
            self._table[number, _INFER] += (1, ns)
            self._table[number, _OUTPUT, 0] += 1

    def items(self) -> list[tuple[str, Mapping[str, tuple[int, int]]]]:
        """Return, for each place as text, (count, ns) by Triton's names."""
        return [
            (str(place), {name: (row[0], row[1]) for name, row in zip(_NAMES, rows, strict=True)})
            for place, rows in enumerate(self._table[: len(self)].tolist())
        ]

    def _reserve(self, places: int) -> None:
        if places > len(self._table):
            grown = np.zeros((max(places, 2 * len(self._table)), *self._table.shape[1:]), np.int64)
            grown[: len(self._table)] = self._table
            self._table = grown
