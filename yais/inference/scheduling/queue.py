"""What schedulers have in common: the items they order and the batches they form."""

from __future__ import annotations

import enum
from collections.abc import Hashable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

__all__ = ["Batch", "BatchQueue", "CloseReason", "Item"]


class Item(Protocol):
    """Something that waits to run."""

    @property
    def size(self) -> int:
        """Items of a batch it takes up, at least 1."""

    @property
    def group(self) -> Hashable:
        """Only items of equal groups run together."""

    @property
    def queued(self) -> int:
        """When it was queued, in ns."""

    def dead(self, now: int) -> bool:
        """Whether nobody waits for it any more."""


ItemT = TypeVar("ItemT", bound=Item)


class CloseReason(enum.StrEnum):
    """Why a batch was closed: the answer to "why does it not batch?"."""

    FULL = "full"
    """Another item would not have fitted."""
    PREFERRED = "preferred"
    """It had a preferred size."""
    DELAY = "delay"
    """Its oldest item had waited as long as it may."""
    SHAPE = "shape"
    """The next item cannot run together with these."""
    IDLE = "idle"
    """Nothing else was there, and waiting is not configured."""


class Batch(NamedTuple, Generic[ItemT]):
    """Items that run together.

    Attributes
    ----------
    size
        Sum of the sizes of its items.
    """

    items: Sequence[ItemT]
    size: int
    reason: CloseReason


class BatchQueue(Protocol[ItemT]):
    """A state machine that decides which items run together and when. No threads, no clock of its own."""

    @property
    def full(self) -> bool:
        """Whether a batch can be taken that no further item would join."""

    def push(self, item: ItemT) -> None:
        """Queue an item."""

    def take(self, now: int) -> Batch[ItemT] | None:
        """Return the next batch, if one should start at `now`."""

    def wake_at(self) -> int | None:
        """When `take` is worth another try, if nothing is pushed before; None for never."""

    def reap(self) -> list[ItemT]:
        """Return, once each, the items that `take` found dead."""

    def hurry(self) -> None:
        """Wait for nothing from now on: no further item will be pushed."""

    def clear(self) -> list[ItemT]:
        """Take out and return all items, dead or not, in their order."""

    def __len__(self) -> int:
        """Items waiting."""
