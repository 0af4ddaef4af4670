"""What schedulers have in common: the items they order and the batches they form."""

from __future__ import annotations

import enum
from collections.abc import Collection, Hashable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from yais.errors import DeadlineExceeded, YaisError

__all__ = ["Batch", "BatchQueue", "CloseReason", "Item", "Refused", "expired"]


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

    @property
    def priority(self) -> int:
        """Its level, 1 is the highest; 0 leaves it to the queue."""

    @property
    def timeout(self) -> int:
        """How long it wants to wait at most, in ns; 0 leaves it to the queue."""

    def dead(self, now: int) -> bool:
        """Whether nobody waits for it any more."""


ItemT = TypeVar("ItemT", bound=Item)


class CloseReason(enum.StrEnum):
    """Why a batch was closed: the answer to "why does it not batch?"."""

    FULL = "full"
    """Another item would not have fitted."""
    PREFERRED = "preferred"
    """It had a preferred size that is not the largest."""
    DELAY = "delay"
    """Its oldest item had waited as long as it may."""
    SHAPE = "shape"
    """The next item cannot run together with these."""
    INSTANCE = "instance"
    """An instance was free, nothing else was there, and waiting is not configured."""
    OBJECTIVE = "objective"
    """With another item its oldest would not have met the latency objective."""


class Batch(NamedTuple, Generic[ItemT]):
    """Items that run together.

    Attributes
    ----------
    size
        Rows of the batch: the sum of the sizes of its items, or more if there are gaps between them.
    instance
        Where it runs.
    rows
        For batches with gaps, the row of each item, each of size 1; None if they follow each other.
    """

    items: Sequence[ItemT]
    size: int
    reason: CloseReason
    instance: int = 0
    rows: Sequence[int] | None = None


class Refused(NamedTuple, Generic[ItemT]):
    """An item that will not run, and what whoever waits for it is told."""

    item: ItemT
    error: YaisError


def expired(item: ItemT) -> Refused[ItemT]:
    """Return an item that was found dead, as refused."""
    return Refused(item, DeadlineExceeded("the deadline passed while the request was queued"))


class BatchQueue(Protocol[ItemT]):
    """A state machine that decides which items run together and when. No threads, no clock of its own.

    Attributes
    ----------
    expires
        Whether time matters to it while no instance is free: items may have to be refused then, so that
        `wake_at` is worth asking, and it wants to know when batches were `released`. The others are not told.
    """

    expires: bool

    @property
    def full(self) -> bool:
        """Whether a batch can be taken that no further item would join."""

    def push(self, item: ItemT, now: int) -> None:
        """Queue an item. Raises `YaisError` if it is refused at once."""

    def take(self, now: int, free: Sequence[int]) -> Batch[ItemT] | None:
        """Return the next batch, if one should start at `now` on one of the free instances.

        It runs: the instance is not free again before it was `released`.
        """

    def startable(self, now: int, free: Sequence[int]) -> Sequence[int]:
        """Return those of the free instances on which `take` starts a batch at `now`, alone or together."""

    def released(self, instance: int, now: int) -> None:
        """Note that the batch that ran on an instance has run."""

    def wake_at(self, *, free: bool, lacking: Collection[int] = ()) -> int | None:
        """When `take`, or `reap`, is worth another try, if nothing is pushed before; None for never.

        Parameters
        ----------
        free
            Whether an instance is, that lacks nothing.
        lacking
            Instances for which `take` is not called, although they are free: they lack something to run with.
        """

    def reap(self, now: int) -> list[Refused[ItemT]]:
        """Return, once each, the items that will not run."""

    def hurry(self) -> None:
        """Wait for nothing from now on: no further item will be pushed."""

    def clear(self) -> list[ItemT]:
        """Take out and return all items, dead or not, in their order."""

    def __len__(self) -> int:
        """Items waiting."""
