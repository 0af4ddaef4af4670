"""Which parts of one memory are free: the bookkeeping, without memory and without threads."""

from __future__ import annotations

import bisect

__all__ = ["FreeSpace"]


class FreeSpace:
    """Takes the lowest place that is large enough: what was given back last is near, and still in CPU caches.

    A search takes time in proportion to the gaps: at most as many as places that are taken, and one.
    """

    def __init__(self) -> None:
        self._gaps: list[tuple[int, int]] = []  # from and to, ascending; no two of them touch

    def __repr__(self) -> str:
        return f"<FreeSpace {sum(end - start for start, end in self._gaps)} bytes>"

    def take(self, size: int) -> int | None:
        """Return the offset of so many bytes that are free no more; None if there are none in one piece."""
        for index, (start, end) in enumerate(self._gaps):
            if end - start > size:
                self._gaps[index] = start + size, end
                return start
            if end - start == size:
                del self._gaps[index]
                return start
        return None

    def give(self, start: int, size: int) -> None:
        """Add bytes that are not free: new ones, or those of a place that was taken."""
        gaps, end = self._gaps, start + size
        index = bisect.bisect(gaps, (start, end))
        if index < len(gaps) and gaps[index][0] == end:
            _, end = gaps.pop(index)
        if index and gaps[index - 1][1] == start:
            index -= 1
            start, _ = gaps.pop(index)
        gaps.insert(index, (start, end))
