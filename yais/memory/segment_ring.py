"""The bookkeeping of a ring of segments, without memory and without threads."""

from __future__ import annotations

import collections
from typing import NamedTuple

__all__ = ["Place", "SegmentRing"]


class Place(NamedTuple):
    """Where an allocation lies: bytes `offset` to `offset + size` of a segment."""

    segment: int
    offset: int
    size: int


class SegmentRing:
    """Counts up in one segment after the other, and takes one back when nothing lives in it any more.

    Parameters
    ----------
    segment_size
        Bytes of each segment. There are none to begin with.

    Attributes
    ----------
    live_bytes
        Bytes of all places that are out.
    """

    def __init__(self, segment_size: int) -> None:
        self.segment_size = segment_size
        self.live_bytes = 0
        self._places: dict[int, int] = {}  # how many live in each segment
        self._empty: collections.deque[int] = collections.deque()  # the longest unused first
        self._current: int | None = None
        self._used = 0  # bytes of the current segment

    def __len__(self) -> int:
        return len(self._places)

    @property
    def free(self) -> int:
        """Segments in which nothing lives."""
        return len(self._empty) + (self._current is not None and not self._places[self._current])

    def add(self, segment: int) -> None:
        """Take in a new segment, under a number that no other one has."""
        self._places[segment] = 0
        self._empty.append(segment)

    def drop(self) -> int | None:
        """Take out a segment in which nothing lives; None if there is none."""
        if not self.free:
            return None
        if self._empty:
            segment = self._empty.pop()
        else:
            segment, self._current = self._current, None  # type: ignore[assignment]
        del self._places[segment]
        return segment

    def allocate(self, size: int) -> Place | None:
        """Return a place for at most `segment_size` bytes; None until a segment comes back."""
        if self._current is None or self._used + size > self.segment_size:
            if not self._empty:
                return None
            self._current, self._used = self._empty.popleft(), 0
        place = Place(self._current, self._used, size)
        self._used += size
        self._places[self._current] += 1
        self.live_bytes += size
        return place

    def release(self, place: Place) -> None:
        """Take a place back."""
        self.live_bytes -= place.size
        self._places[place.segment] -= 1
        if self._places[place.segment]:
            return
        if place.segment == self._current:
            self._used = 0
        else:
            self._empty.append(place.segment)
