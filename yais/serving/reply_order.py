"""Reply order: replies leave a stream in the order of their requests, whichever is there first."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

__all__ = ["Place", "ReplyOrder"]

ReplyT = TypeVar("ReplyT")


class Place(Generic[ReplyT]):
    """The place of a reply in the order.

    Attributes
    ----------
    reply
        None until it is there.
    """

    __slots__ = ("reply",)

    def __init__(self) -> None:
        self.reply: ReplyT | None = None


PlaceT = TypeVar("PlaceT", bound=Place[bytes])


class ReplyOrder(Generic[PlaceT]):
    """Says which replies may go. A state machine: not thread-safe, and nothing is called.

    `yais.inference.ordering.ResponseOrder` does the same for batches and their futures, and has a lock.
    """

    def __init__(self) -> None:
        self._places: deque[PlaceT] = deque()

    def __repr__(self) -> str:
        ready = sum(place.reply is not None for place in self._places)
        return f"<ReplyOrder: {len(self._places)} places, {ready} with a reply>"

    def begin(self, place: PlaceT) -> None:
        """Take the next place."""
        self._places.append(place)

    def end(self, place: PlaceT, reply: bytes) -> Sequence[PlaceT]:
        """Give the reply of a place; return the places whose replies may go now, in their order."""
        place.reply = reply
        places = self._places
        if places[0] is not place:
            return ()
        ready = [places.popleft()]
        while places and places[0].reply is not None:
            ready.append(places.popleft())
        return ready
