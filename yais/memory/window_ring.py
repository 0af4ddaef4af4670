"""The bookkeeping of overlapping windows in a ring of bytes, without memory and without threads."""

from __future__ import annotations

__all__ = ["WindowRing"]


class WindowRing:
    """Where the next bytes of a stream go, so that each of its windows lies in one piece.

    Window k begins in slot k modulo `slots`; slots are `stride` apart, so that neighbours share their
    overlap. The first slot has no neighbour before it: there the overlap is copied from the last one.

    Parameters
    ----------
    window
        Bytes of a window.
    overlap
        Bytes that it shares with the next one.
    slots
        Windows that fit at once.

    Attributes
    ----------
    size
        Bytes of memory: `window + (slots - 1) * (window - overlap)`.
    number
        Of the window being filled; the first is 0.
    held
        Numbers of the windows that are full and not released.
    """

    def __init__(self, window: int, overlap: int, slots: int) -> None:
        self.window = window
        self.overlap = overlap
        self.slots = slots
        self.stride = window - overlap
        self.size = window + (slots - 1) * self.stride
        self.number = 0
        self.held: set[int] = set()
        self._filled = 0  # bytes of the window being filled

    @property
    def start(self) -> int:
        """Where the window being filled begins."""
        return self._start(self.number)

    @property
    def room(self) -> tuple[int, int]:
        """Where the next bytes go, and how many may at once."""
        begin = self.start + self._filled
        if self._due:
            return begin, 0
        return begin, max(0, min(self.start + self.window, self._limit()) - begin)

    @property
    def wraps(self) -> bool:
        """Whether the overlap must be copied from the end of the memory to its beginning now, and may be."""
        return self._due and self._limit() >= self.overlap

    @property
    def fresh(self) -> int:
        """Bytes of the window being filled that are in no window before it."""
        return max(0, self._filled - (self.overlap if self.number else 0))

    def wrap(self) -> None:
        """Count the overlap as copied to the beginning."""
        self._filled = self.overlap

    def write(self, count: int) -> bool:
        """Count bytes as written where `room` says; return whether the window is full, and now held."""
        self._filled += count
        if self._filled < self.window:
            return False
        self.held.add(self.number)
        self.number += 1
        self._filled = self.overlap if self.start else 0
        return True

    def release(self, number: int) -> None:
        """Take back a window that was held."""
        self.held.remove(number)

    @property
    def _due(self) -> bool:
        return self.number > 0 and self.start == 0 and self._filled < self.overlap

    def _start(self, number: int) -> int:
        return number % self.slots * self.stride

    def _limit(self) -> int:
        """Where the windows that are held from the lap before begin."""
        lap = self.number // self.slots
        before = (self._start(number) for number in self.held if number // self.slots < lap)
        return min(before, default=self.size)
