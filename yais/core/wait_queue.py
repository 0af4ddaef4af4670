"""A queue of futures whose turn is to come."""

from __future__ import annotations

import collections
from typing import Any

from yais.core.clock import NANOSECONDS, monotonic
from yais.core.future import Future

__all__ = ["WaitQueue"]


class WaitQueue:
    """Futures in the order in which they came, and how long those that left it had waited.

    Thread-safe without a lock, each method being one step on a dictionary: a coroutine that waits may be
    ended by the garbage collector, wherever that happens to run.

    Attributes
    ----------
    places
        Those who wait, the first of them first. To be read only.
    waits
        How many have left the queue.
    """

    def __init__(self) -> None:
        self.places: collections.OrderedDict[Future[Any], int | None] = collections.OrderedDict()
        self.waits = 0
        self._waited = 0

    @property
    def wait_seconds(self) -> float:
        """How long those who have left the queue had waited, all together."""
        return self._waited / NANOSECONDS

    def join(self, waiter: Future[Any]) -> None:
        """Take the last place."""
        self.places[waiter] = monotonic()

    def join_first(self, waiter: Future[Any]) -> None:
        """Take the first place; this wait is not counted. Only for callers that take turns in it."""
        self.places[waiter] = None
        self.places.move_to_end(waiter, last=False)

    def leave(self, waiter: Future[Any]) -> bool:
        """Give up a place; return whether there was one, so of many who call it one gets True."""
        try:
            since = self.places.pop(waiter)
        except KeyError:
            return False
        self._count(since)
        return True

    def take_first(self) -> Future[Any] | None:
        """Take the first out of the queue; None if nobody waits."""
        try:
            waiter, since = self.places.popitem(last=False)
        except KeyError:
            return None
        self._count(since)
        return waiter

    def _count(self, since: int | None) -> None:
        if since is not None:
            waited = monotonic() - since
            # No call between reading and writing, so no other thread comes between.
            self._waited += waited
            self.waits += 1
