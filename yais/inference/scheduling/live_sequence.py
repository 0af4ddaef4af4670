"""Sequences of requests that belong together, and what a batcher knows of each."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from yais.inference.request import SequenceStep
from yais.inference.scheduling.queue import Item

__all__ = ["LiveSequence", "SequenceItem"]


class LiveSequence:
    """A sequence that has a slot, or waits for one. Not thread-safe.

    Attributes
    ----------
    id
        See `SequenceStep`.
    states
        What its last batch left for its next; whoever runs the batches keeps it here. None before the first.
    items
        Its requests that wait, in their order.
    place
        The instance it is on, and its slot there; None while it has none.
    running
        Whether a request of it runs.
    ends
        Whether its last request is among those pushed, so that its id may be used again.
    timeout_at
        When its requests are refused unless it has a slot by then, ns; None for never.
    """

    __slots__ = ("ends", "id", "items", "place", "running", "states", "timeout_at")

    def __init__(self, id: int | str) -> None:  # noqa: A002 - as the protocol calls it
        self.id = id
        self.states: list[Any] | None = None
        self.items: deque[Any] = deque()
        self.place: tuple[int, int] | None = None
        self.running = False
        self.ends = False
        self.timeout_at: int | None = None


class SequenceItem(Item, Protocol):
    """An item of a sequence."""

    sequence: LiveSequence | None

    @property
    def step(self) -> SequenceStep | None:
        """Which of the sequence it is."""
