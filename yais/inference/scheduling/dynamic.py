"""The dynamic batcher: requests that arrive close together run together.

A pure state machine. The rules are Triton's (kserve-v2.md, rows 59 to 62): items are taken in the order in
which they came, never split, and only together with items of the same group, up to the largest batch.

- If the items that wait can form a preferred size, the largest such batch starts at once.
- If the batch cannot grow (full, or the next item does not fit), it starts at once.
- Without a delay, whatever waits starts at once.
- Otherwise it waits for more until its oldest item is as old as the delay.

"At once" means when `take` is called, which the shell does when an instance of the model is free: until
then the batch keeps growing.

With priority levels the items of a lower number come first, and a batch may span levels. Items that have
waited too long are refused, or come after the others of their level. See `PriorityQueue`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable, Sequence
from typing import Generic

from yais.inference.scheduling.batching_policy import BatchingPolicy
from yais.inference.scheduling.priority_queue import PriorityQueue
from yais.inference.scheduling.queue import Batch, CloseReason, ItemT, Refused, expired
from yais.inference.scheduling.queue_policy import TimeoutAction

__all__ = ["BatchingPolicy", "DynamicQueue"]


class DynamicQueue(Generic[ItemT]):
    """Forms batches; see `BatchQueue` and the module. Not thread-safe.

    An item that is found dead is refused when a batch is taken that it could have been in.
    """

    def __init__(self, policy: BatchingPolicy) -> None:
        self.policy = policy
        policies = policy.all_policies
        self.expires = any(
            each.times_out and each.timeout_action is TimeoutAction.REJECT for each in policies
        )
        self._max_delay = policy.max_delay
        self._total = 0  # sum of the sizes of all that wait
        self._refused: list[Refused[ItemT]] = []
        self._items: deque[ItemT] = deque()
        # What it does costs time, so most models go without, and have their items in the deque.
        self._levels: PriorityQueue[ItemT] | None = None
        if policy.priority_levels > 1 or any(each.times_out or each.max_size for each in policies):
            self._levels = PriorityQueue(
                policy.priority_levels,
                policy.default_priority,
                policy.default_queue_policy,
                policy.queue_policies,
                self._refuse,
            )

    def __repr__(self) -> str:
        return f"<DynamicQueue {len(self)} waiting, {self._total} of {self.policy.max_batch} for a batch>"

    def __len__(self) -> int:
        return len(self._items) if self._levels is None else len(self._levels)

    @property
    def full(self) -> bool:
        """Whether enough waits for the largest batch."""
        return self._total >= self.policy.max_batch

    def push(self, item: ItemT, now: int) -> None:
        """Queue an item of at most `max_batch` in size.

        Raises
        ------
        Unavailable
            As many of its level wait as may.
        """
        if self._levels is None:
            self._items.append(item)
        else:
            self._levels.push(item, now)
        self._total += item.size

    def take(self, now: int, free: Sequence[int]) -> Batch[ItemT] | None:
        """Return the next batch, if one should start at `now`."""
        batch = self._next(now)
        return self._pop(*batch, free[-1]) if batch is not None and free else None

    def startable(self, now: int, free: Sequence[int]) -> Sequence[int]:
        """Return them all if a batch should start at `now`."""
        return free if self._next(now) is not None else ()

    def released(self, instance: int, now: int) -> None:
        """Do nothing: any instance will do."""

    def wake_at(
        self,
        *,
        free: bool,
        lacking: Collection[int] = (),  # noqa: ARG002 - any instance will do
    ) -> int | None:
        """When the oldest item has waited as long as it may for others, or the next one times out.

        What it says of a free instance holds when `take` has found nothing to start. Deadlines are not in it.
        """
        timeout = None
        if self._levels is not None and (free or self.expires):
            timeout = self._levels.next_timeout()
        if not free or not len(self):
            return timeout
        ready = self._oldest() + self._max_delay
        return ready if timeout is None else min(ready, timeout)

    def hurry(self) -> None:
        """Wait for nothing from now on: what waits can be taken at once."""
        self._max_delay = 0

    def clear(self) -> list[ItemT]:
        """Take out and return all items."""
        items = list(self._items) if self._levels is None else self._levels.pop(len(self._levels))
        self._items.clear()
        self._total = 0
        return items

    def reap(self, now: int) -> list[Refused[ItemT]]:
        """Return, once each, the items that were found dead and those that have timed out."""
        if self._levels is not None:
            self._levels.expire(now)
            self._levels.bury(now, 1)
        refused, self._refused = self._refused, []
        return refused

    def _next(self, now: int) -> tuple[int, int, CloseReason] | None:
        """Return how many items, of which size together, start at `now` and why; None for nothing."""
        if self._levels is not None:
            self._levels.expire(now)
        while (scan := self._scan(now)) is None:
            self._bury(now)
        count, size, preferred, closed = scan
        if not count:
            return None
        if preferred:
            whole = preferred[1] == self.policy.max_batch
            return (*preferred, CloseReason.FULL if whole else CloseReason.PREFERRED)
        if closed is not None:
            return count, size, closed
        if not self._max_delay:
            return count, size, CloseReason.INSTANCE
        if now - self._oldest() >= self._max_delay:
            return count, size, CloseReason.DELAY
        return None

    def _refuse(self, refused: Refused[ItemT]) -> None:
        self._total -= refused.item.size
        self._refused.append(refused)

    def _oldest(self) -> int:
        return self._items[0].queued if self._levels is None else self._levels.oldest

    def _bury(self, now: int) -> None:
        """Refuse what is dead among the items that the next batch could take."""
        if self._levels is not None:
            self._levels.bury(now, self.policy.max_batch)
            return
        alive: list[ItemT] = []
        total = 0
        while self._items and total < self.policy.max_batch:
            item = self._items.popleft()
            if item.dead(now):
                self._refuse(expired(item))
            else:
                alive.append(item)
                total += item.size
        self._items.extendleft(reversed(alive))

    def _scan(self, now: int) -> tuple[int, int, tuple[int, int] | None, CloseReason | None] | None:
        """Look at the items from the first on that can run together.

        Returns their number and size, the number and size of the largest preferred batch among them, and
        why no other item can join, or None there if one could. Returns None alone if one is dead.
        """
        max_batch, sizes = self.policy.max_batch, self.policy.preferred
        group: Hashable = None
        count = size = 0
        preferred: tuple[int, int] | None = None
        for item in self._items if self._levels is None else self._levels:
            if item.dead(now):
                return None
            if size + item.size > max_batch:
                return count, size, preferred, CloseReason.FULL
            if not count:
                group = item.group
            elif item.group != group:
                return count, size, preferred, CloseReason.SHAPE
            count += 1
            size += item.size
            if size in sizes:
                preferred = (count, size)
            if size == max_batch:
                return count, size, preferred, CloseReason.FULL
        return count, size, preferred, None

    def _pop(self, count: int, size: int, reason: CloseReason, instance: int) -> Batch[ItemT]:
        self._total -= size
        if self._levels is not None:
            return Batch(self._levels.pop(count), size, reason, instance)
        if count == len(self._items):
            items, self._items = self._items, deque()
            return Batch(items, size, reason, instance)
        return Batch([self._items.popleft() for _ in range(count)], size, reason, instance)
