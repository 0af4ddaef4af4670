"""Accounts: counting bytes that come and go."""

from __future__ import annotations

import collections
import threading
from dataclasses import dataclass

__all__ = ["Account", "MemoryUsage"]


@dataclass(frozen=True, slots=True)
class MemoryUsage:
    """The numbers of an account.

    Attributes
    ----------
    bytes
        In use now.
    high_water_bytes
        Most that were in use at a time.
    buffers
        In use now.
    allocated_total
        Buffers since the account was opened.
    """

    bytes: int
    high_water_bytes: int
    buffers: int
    allocated_total: int

    def __add__(self, other: MemoryUsage) -> MemoryUsage:
        """Return the sums; that of the high-water marks is the most there can have been."""
        return MemoryUsage(
            self.bytes + other.bytes,
            self.high_water_bytes + other.high_water_bytes,
            self.buffers + other.buffers,
            self.allocated_total + other.allocated_total,
        )


class Account:
    """Counts bytes in use. Thread-safe.

    `credit` waits for no lock, since a garbage collector may call it wherever it happens to run: it only
    leaves a note, and the others look at the notes first.
    """

    __slots__ = ("_buffers", "_bytes", "_high", "_lock", "_returned", "_total")

    def __init__(self) -> None:
        self._returned: collections.deque[int] = collections.deque()
        self._lock = threading.Lock()  # guards all below
        self._bytes = self._high = self._buffers = self._total = 0

    def debit(self, size: int, *, limit: int | None = None) -> int | None:
        """Count a buffer of `size` bytes, unless there were more than `limit` in use then.

        Returns
        -------
        int or None
            None if it is counted; else the bytes in use that left too little.
        """
        with self._lock:
            self._settle()
            if limit is not None and self._bytes + size > limit:
                return self._bytes
            self._bytes += size
            self._high = max(self._high, self._bytes)
            self._buffers += 1
            self._total += 1
        return None

    def credit(self, size: int) -> None:
        """Count that a buffer of `size` bytes is gone. Never blocks."""
        self._returned.append(size)

    def usage(self) -> MemoryUsage:
        """Return the numbers of one moment."""
        with self._lock:
            self._settle()
            return MemoryUsage(self._bytes, self._high, self._buffers, self._total)

    def _settle(self) -> None:
        while self._returned:
            self._bytes -= self._returned.popleft()
            self._buffers -= 1
