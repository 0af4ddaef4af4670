"""The direct scheduler: one request after another, each on its own."""

from __future__ import annotations

from collections import deque
from typing import Generic

from yais.inference.scheduling.queue import Batch, CloseReason, ItemT

__all__ = ["DirectQueue"]


class DirectQueue(Generic[ItemT]):
    """First in, first out; see `BatchQueue`. Not thread-safe."""

    def __init__(self) -> None:
        self._items: deque[ItemT] = deque()
        self._dead: list[ItemT] = []

    def __len__(self) -> int:
        return len(self._items)

    @property
    def full(self) -> bool:
        """Whether anything waits: no item is ever joined by another."""
        return bool(self._items)

    def push(self, item: ItemT) -> None:
        """Queue an item."""
        self._items.append(item)

    def take(self, now: int) -> Batch[ItemT] | None:
        """Return the oldest item that is not dead."""
        while self._items:
            item = self._items.popleft()
            if not item.dead(now):
                return Batch((item,), item.size, CloseReason.IDLE)
            self._dead.append(item)
        return None

    def wake_at(self) -> int | None:
        """Never: an item can be taken at once."""
        return None

    def hurry(self) -> None:
        """Do nothing: no item waits for another."""

    def clear(self) -> list[ItemT]:
        """Take out and return all items."""
        items = list(self._items)
        self._items.clear()
        return items

    def reap(self) -> list[ItemT]:
        """Return, once each, the items that were found dead."""
        dead, self._dead = self._dead, []
        return dead
