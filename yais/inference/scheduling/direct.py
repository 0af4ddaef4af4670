"""The direct scheduler: one request after another, each on its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from typing import Generic

from yais.inference.scheduling.queue import Batch, CloseReason, ItemT, Refused, expired

__all__ = ["DirectQueue"]


class DirectQueue(Generic[ItemT]):
    """First in, first out; see `BatchQueue`. Not thread-safe."""

    expires = False

    def __init__(self) -> None:
        self._items: deque[ItemT] = deque()
        self._refused: list[Refused[ItemT]] = []

    def __len__(self) -> int:
        return len(self._items)

    @property
    def full(self) -> bool:
        """Whether anything waits: no item is ever joined by another."""
        return bool(self._items)

    def push(self, item: ItemT, now: int) -> None:  # noqa: ARG002 - others need it
        """Queue an item."""
        self._items.append(item)

    def take(self, now: int, free: Sequence[int]) -> Batch[ItemT] | None:
        """Return the oldest item that is not dead."""
        while self._items and free:
            item = self._items.popleft()
            if not item.dead(now):
                return Batch((item,), item.size, CloseReason.INSTANCE, free[-1])
            self._refused.append(expired(item))
        return None

    def startable(self, now: int, free: Sequence[int]) -> Sequence[int]:  # noqa: ARG002 - others need it
        """Return them all if anything waits."""
        return free if self._items else ()

    def released(self, instance: int, now: int) -> None:
        """Do nothing: any instance will do."""

    def wake_at(self, *, free: bool, lacking: Collection[int] = ()) -> int | None:  # noqa: ARG002 - as above
        """Never: an item can be taken at once."""
        return None

    def hurry(self) -> None:
        """Do nothing: no item waits for another."""

    def clear(self) -> list[ItemT]:
        """Take out and return all items."""
        items = list(self._items)
        self._items.clear()
        return items

    def reap(self, now: int) -> list[Refused[ItemT]]:  # noqa: ARG002 - others need it
        """Return, once each, the items that were found dead."""
        refused, self._refused = self._refused, []
        return refused
