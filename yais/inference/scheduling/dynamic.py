"""The dynamic batcher: requests that arrive close together run together.

A pure state machine. The rules are Triton's (kserve-v2.md, row 59): items are taken in the order in
which they came, never split, and only together with items of the same group, up to the largest batch.

- If the items that wait can form a preferred size, the largest such batch starts at once.
- If the batch cannot grow (full, or the next item does not fit), it starts at once.
- Without a delay, whatever waits starts at once.
- Otherwise it waits for more until its oldest item is as old as the delay.

"At once" means when `take` is called, which the shell does when an instance of the model is free: until
then the batch keeps growing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic

from yais.inference.scheduling.queue import Batch, CloseReason, ItemT

__all__ = ["BatchingPolicy", "DynamicQueue"]


@dataclass(frozen=True, slots=True)
class BatchingPolicy:
    """How a dynamic batcher forms batches.

    Attributes
    ----------
    max_batch
        Largest batch.
    preferred
        Sizes to start at once when they can be formed. Empty, as in Triton, means the largest alone.
    max_delay
        Nanoseconds an item may wait for others; 0 means not at all.

    Raises
    ------
    ValueError
        A size is not in 1..max_batch, or the delay is negative.
    """

    max_batch: int
    preferred: tuple[int, ...] = ()
    max_delay: int = 0

    def __post_init__(self) -> None:
        if self.max_batch < 1:
            raise ValueError(f"got max_batch={self.max_batch}, expected at least 1")
        if self.max_delay < 0:
            raise ValueError(f"got max_delay={self.max_delay} ns, expected 0 or more")
        for size in self.preferred:
            if not 1 <= size <= self.max_batch:
                raise ValueError(f"got a preferred batch size of {size}, expected 1 to {self.max_batch}")


class DynamicQueue(Generic[ItemT]):
    """Forms batches; see `BatchQueue` and the module. Not thread-safe."""

    def __init__(self, policy: BatchingPolicy) -> None:
        self.policy = policy
        self._max_delay = policy.max_delay
        self._items: deque[ItemT] = deque()
        self._total = 0  # sum of the sizes of all that wait
        self._dead: list[ItemT] = []

    def __len__(self) -> int:
        return len(self._items)

    @property
    def full(self) -> bool:
        """Whether enough waits for the largest batch."""
        return self._total >= self.policy.max_batch

    def push(self, item: ItemT) -> None:
        """Queue an item of at most `max_batch` in size."""
        self._items.append(item)
        self._total += item.size

    def take(self, now: int) -> Batch[ItemT] | None:
        """Return the next batch, if one should start at `now`."""
        self._bury(now)
        if not self._items:
            return None
        count, size, preferred, closed = self._scan()
        if preferred:
            return self._pop(*preferred, CloseReason.PREFERRED)
        if closed is not None:
            return self._pop(count, size, closed)
        if not self._max_delay:
            return self._pop(count, size, CloseReason.IDLE)
        if now - self._items[0].queued >= self._max_delay:
            return self._pop(count, size, CloseReason.DELAY)
        return None

    def wake_at(self) -> int | None:
        """When the oldest item has waited as long as it may."""
        return self._items[0].queued + self._max_delay if self._items else None

    def hurry(self) -> None:
        """Wait for nothing from now on: what waits can be taken at once."""
        self._max_delay = 0

    def clear(self) -> list[ItemT]:
        """Take out and return all items."""
        items = list(self._items)
        self._items.clear()
        self._total = 0
        return items

    def reap(self) -> list[ItemT]:
        """Return, once each, the items that were found dead."""
        dead, self._dead = self._dead, []
        return dead

    def _bury(self, now: int) -> None:
        """Set aside what is dead among the items that the next batch could take."""
        scanned = alive = 0
        found = False
        for item in self._items:
            scanned += 1
            if item.dead(now):
                found = True
            else:
                alive += item.size
                if alive >= self.policy.max_batch:
                    break
        if not found:
            return
        for item in reversed([self._items.popleft() for _ in range(scanned)]):
            if item.dead(now):
                self._dead.append(item)
                self._total -= item.size
            else:
                self._items.appendleft(item)

    def _scan(self) -> tuple[int, int, tuple[int, int] | None, CloseReason | None]:
        """Look at the items from the oldest on that can run together.

        Returns their number and size, the number and size of the largest preferred batch among them, and
        why no other item can join; None if one could.
        """
        policy = self.policy
        group = self._items[0].group
        count = size = 0
        preferred: tuple[int, int] | None = None
        for item in self._items:
            if size + item.size > policy.max_batch:
                return count, size, preferred, CloseReason.FULL
            if item.group != group:
                return count, size, preferred, CloseReason.SHAPE
            count += 1
            size += item.size
            if size in policy.preferred:
                preferred = (count, size)
        return count, size, preferred, CloseReason.FULL if size == policy.max_batch else None

    def _pop(self, count: int, size: int, reason: CloseReason) -> Batch[ItemT]:
        self._total -= size
        if count == len(self._items):
            items, self._items = self._items, deque()
            return Batch(items, size, reason)
        return Batch([self._items.popleft() for _ in range(count)], size, reason)
