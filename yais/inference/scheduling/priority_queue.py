"""The priority queue: items by level, those that were delayed at the end of theirs.

All of them stand in one sorted list, in the order in which they are served: by level, delayed or not, and
number. Numbers are given in the order in which they came.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic

from yais.errors import Unavailable
from yais.inference.scheduling.queue import ItemT, Refused, expired
from yais.inference.scheduling.queue_policy import QueuePolicy, TimeoutAction

__all__ = ["PriorityQueue"]

_Entry = tuple[int, bool, int, ItemT]  # level, whether it is delayed, number, item


class PriorityQueue(Generic[ItemT]):
    """Orders what waits and applies the queue policies. Not thread-safe.

    Parameters
    ----------
    levels
        How many; 1 is served first. 0 for no priorities.
    default_level
        Of items with no priority, or one that is no level.
    default_policy
        Of the levels that have none of their own.
    policies
        Those of their own, by level.
    refuse
        Is told of the items that leave because they will not run.
    """

    def __init__(
        self,
        levels: int,
        default_level: int,
        default_policy: QueuePolicy,
        policies: Mapping[int, QueuePolicy],
        refuse: Callable[[Refused[ItemT]], None],
    ) -> None:
        self._levels = levels
        self._default_level = default_level
        self._default_policy = default_policy
        self._policies = policies
        self._refuse = refuse
        self._entries: list[_Entry[ItemT]] = []
        self._sizes: Counter[int] = Counter()  # items by level
        self._numbers = count()
        # When, level, number: a heap, in which items stay that have left; see `_forget`.
        self._timeouts: list[tuple[int, int, int]] = []
        self._unsearched: Counter[int] = Counter()  # refusals to come without a search for the dead

    def __repr__(self) -> str:
        sizes = ", ".join(f"{size} of level {level}" for level, size in sorted(self._sizes.items()) if size)
        return f"<PriorityQueue {sizes or 'empty'}>"

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[ItemT]:
        """Iterate over the items in the order in which they are served."""
        return (entry[3] for entry in self._entries)

    @property
    def oldest(self) -> int:
        """When the first of them was queued, ns. Raises IndexError if there is none."""
        times = []
        index = 0
        while True:
            level, delayed, _, item = self._entries[index]
            times.append(item.queued)
            index = self._index(level, True) if not delayed else self._index(level + 1)
            if index == len(self._entries):
                return min(times)

    def push(self, item: ItemT, now: int) -> None:
        """Queue an item.

        Raises
        ------
        Unavailable
            As many of its level wait as may.
        """
        level = item.priority if 1 <= item.priority <= self._levels else self._default_level
        policy = self._policy(level)
        if policy.max_size and self._sizes[level] >= policy.max_size:
            self._make_room(level, policy.max_size, now)
        number = next(self._numbers)
        insort(self._entries, (level, False, number, item))
        self._sizes[level] += 1
        if timeout := policy.timeout(item.timeout):
            heappush(self._timeouts, (now + timeout, level, number))
            self._forget()

    def pop(self, number: int) -> list[ItemT]:
        """Take out and return so many items, which are the next."""
        items = []
        for level, _, _, item in self._entries[:number]:
            self._sizes[level] -= 1
            items.append(item)
        del self._entries[:number]
        return items

    def expire(self, now: int) -> None:
        """Refuse or delay what has waited too long."""
        while self._timeouts and self._timeouts[0][0] <= now:
            _, level, number = heappop(self._timeouts)
            if not self._in_time(level, number):
                continue
            item = self._entries.pop(self._index(level, False, number))[3]
            if self._policy(level).timeout_action is TimeoutAction.DELAY:
                insort(self._entries, (level, True, number, item))
            else:
                self._sizes[level] -= 1
                self._refuse(Refused(item, Unavailable("Request timeout expired")))

    def next_timeout(self) -> int | None:
        """When `expire` will find the next one, if nothing is pushed or taken before."""
        while self._timeouts and not self._in_time(*self._timeouts[0][1:]):
            heappop(self._timeouts)
        return self._timeouts[0][0] if self._timeouts else None

    def bury(self, now: int, rows: int) -> None:
        """Refuse the dead among the next items, up to those that make so many rows."""
        stop = alive = 0
        while stop < len(self._entries) and alive < rows:
            item = self._entries[stop][3]
            alive += 0 if item.dead(now) else item.size
            stop += 1
        self._bury(now, 0, stop)

    def _bury(self, now: int, start: int, stop: int) -> None:
        alive = []
        for entry in self._entries[start:stop]:
            if entry[3].dead(now):
                self._sizes[entry[0]] -= 1
                self._refuse(expired(entry[3]))
            else:
                alive.append(entry)
        self._entries[start:stop] = alive

    def _make_room(self, level: int, max_size: int, now: int) -> None:
        """Let those go that need not wait any more; raise Unavailable if there are none."""
        self.expire(now)
        if self._sizes[level] < max_size:
            return
        if self._unsearched[level]:
            self._unsearched[level] -= 1
        else:
            self._bury(now, self._index(level), self._index(level + 1))
            # Where many may wait, a search costs more than the requests that are refused.
            self._unsearched[level] = self._sizes[level] // 16
        if self._sizes[level] >= max_size:
            raise Unavailable("Exceeds maximum queue size")

    def _policy(self, level: int) -> QueuePolicy:
        return self._policies.get(level, self._default_policy)

    def _index(self, *place: int) -> int:
        """Where the first entry is that is not before a place."""
        return bisect_left(self._entries, place)

    def _in_time(self, level: int, number: int) -> bool:
        """Whether an item waits and is not delayed."""
        index = self._index(level, False, number)
        return index < len(self._entries) and self._entries[index][:3] == (level, False, number)

    def _forget(self) -> None:
        """Drop the timeouts of items that have left, once they are the most."""
        if len(self._timeouts) > 64 + 2 * len(self._entries):
            self._timeouts = [timeout for timeout in self._timeouts if self._in_time(*timeout[1:])]
            heapify(self._timeouts)
