"""When processes that ended are started again."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from yais.core.clock import NANOSECONDS
from yais.engines.restart_delay import RestartDelay

__all__ = ["RestartPlan"]

PlaceT = TypeVar("PlaceT", bound=Hashable)


class _Place:
    def __init__(self) -> None:
        self.delay = RestartDelay()
        self.started = 0
        self.due: int | None = 0
        self.starts = 0


class RestartPlan(Generic[PlaceT]):
    """Says which of several places are without a process that should have one. Not thread-safe.

    A process that does not live for long is started again later each time, see `RestartDelay`. Moments are in
    nanoseconds.

    Parameters
    ----------
    places
        What has a process each; none has one yet, and all are due.
    """

    def __init__(self, places: Iterable[PlaceT]) -> None:
        self._places = {place: _Place() for place in places}

    def __repr__(self) -> str:
        running = sum(place.due is None for place in self._places.values())
        return f"<RestartPlan: {running} of {len(self._places)} running>"

    @property
    def next_due(self) -> int | None:
        """The moment when the next is due; None if all have a process."""
        return min((each.due for each in self._places.values() if each.due is not None), default=None)

    def due(self, now: int) -> list[PlaceT]:
        """Return the places whose process is to be started."""
        return [place for place, each in self._places.items() if each.due is not None and each.due <= now]

    def restarts(self, place: PlaceT) -> int:
        """Return how many processes of a place came after another."""
        return max(0, self._places[place].starts - 1)

    def started(self, place: PlaceT, now: int) -> None:
        """Take that a place has a process."""
        each = self._places[place]
        each.started, each.due = now, None
        each.starts += 1

    def ended(self, place: PlaceT, now: int) -> float:
        """Take that the process of a place has ended; return the seconds until the next."""
        each = self._places[place]
        delay = each.delay.after(each.started, now)
        each.due = now + round(delay * NANOSECONDS)
        return delay
