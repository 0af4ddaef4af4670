"""Pooled memory: blocks that are kept and used again."""

from __future__ import annotations

import collections
import functools
import mmap
import threading
from dataclasses import dataclass
from typing import Any

from yais.memory.adaptor import Adaptor
from yais.memory.buffer import Buffer
from yais.memory.free_blocks import FreeBlocks
from yais.memory.resource import MemoryResource

__all__ = ["PooledResource", "PooledStatistics"]


@dataclass(frozen=True, slots=True)
class PooledStatistics:
    """The numbers of a pool of memory.

    Attributes
    ----------
    lent_bytes, lent_blocks
        Blocks under buffers that are in use.
    kept_bytes, kept_blocks
        Blocks that wait for their next use.
    allocated_total
        Buffers since the pool was made.
    reused_total
        Those of them that needed nothing from upstream.
    """

    lent_bytes: int
    lent_blocks: int
    kept_bytes: int
    kept_blocks: int
    allocated_total: int
    reused_total: int


class PooledResource(Adaptor):
    """Keeps the blocks of buffers that are gone, for new buffers of about their size. Thread-safe.

    What a buffer was written to is still there when its block is used again: memory of a pool is NOT zeroed.
    A block comes back when the last view of its buffer is gone.

    Blocks have four sizes for each power of two (4, 5, 6 and 7 quarters), in multiples of `granularity`. So a
    block is less than 1.25 times the size of its buffer, or less than `granularity` larger.

    Parameters
    ----------
    upstream
        Where blocks come from.
    max_kept
        Bytes to keep; beyond that, the blocks that waited longest go back. By default there is no limit.
    granularity
        Bytes; a power of two. Give it the `page_size` of an upstream with huge pages.

    Raises
    ------
    ValueError
        `max_kept` is negative, or `granularity` no power of two.
    """

    def __init__(
        self, upstream: MemoryResource, *, max_kept: int | None = None, granularity: int = mmap.PAGESIZE
    ) -> None:
        if max_kept is not None and max_kept < 0:
            raise ValueError(f"got max_kept={max_kept}, expected 0 or more bytes")
        if granularity < 1 or granularity & (granularity - 1):
            raise ValueError(f"got granularity={granularity}, expected a power of two")
        super().__init__(upstream)
        self.max_kept = max_kept
        self.granularity = granularity
        # A garbage collector may give a block back wherever it happens to run: that waits for no lock.
        self._returned: collections.deque[memoryview] = collections.deque()
        self._lock = threading.Lock()  # guards all below
        self._free = FreeBlocks()
        self._lent_bytes = self._lent_blocks = self._allocated = self._reused = 0

    def __repr__(self) -> str:
        now = self.statistics()
        return (
            f"<PooledResource: {now.lent_bytes} bytes lent in {now.lent_blocks} blocks, "
            f"{now.kept_bytes} kept in {now.kept_blocks}>"
        )

    def padded(self, size: int) -> int:
        """Return the size of the block for a buffer of that size."""
        quarter = 1 << max(0, max(0, size - 1).bit_length() - 3)
        step = max(self.granularity, quarter)
        return -(-size // step) * step

    def allocate(self, size: int, *, stream: Any = None) -> Buffer:
        """Return a buffer of `size` bytes, with anything in it.

        When the upstream raises MemoryError or OSError, what is kept goes back and it is asked once more.

        Parameters
        ----------
        size
            In bytes.
        stream
            For the upstream, where a new block is needed. Close a buffer when no stream uses it any more.

        Raises
        ------
        ValueError
            `size` is negative.
        MemoryError, OSError
            The upstream has no more; or whatever else it raises.
        """
        if size < 0:
            raise ValueError(f"got size={size}, expected 0 or more bytes")
        padded = self.padded(size)
        with self._lock:
            dropped = self._take_back()
            block = self._free.take(padded)
            if block is not None:
                self._lend(block)
                self._reused += 1
        del dropped
        if block is None:
            block = self._new_block(padded, stream)
            with self._lock:
                self._lend(block)
        self._settle()
        return Buffer(block[:size], functools.partial(self._give_back, block), resource=self)

    def trim(self, keep: int = 0) -> int:
        """Give back what waited longest, until at most `keep` bytes are kept; return how many went back.

        Raises
        ------
        ValueError
            `keep` is negative.
        """
        if keep < 0:
            raise ValueError(f"got keep={keep}, expected 0 or more bytes")
        with self._lock:
            dropped = self._take_back() + self._free.evict(keep)
        self._settle()
        return sum(block.nbytes for block in dropped)

    def statistics(self) -> PooledStatistics:
        """Return the numbers of one moment."""
        with self._lock:
            dropped = self._take_back()
            now = PooledStatistics(
                self._lent_bytes,
                self._lent_blocks,
                self._free.bytes,
                len(self._free),
                self._allocated,
                self._reused,
            )
        del dropped
        self._settle()
        return now

    def _new_block(self, size: int, stream: Any) -> memoryview:
        try:
            return self._memory(size, stream)
        except (MemoryError, OSError):
            # What is kept in other sizes may be what is missing.
            if not self.trim():
                raise
        return self._memory(size, stream)

    def _give_back(self, block: memoryview) -> None:
        self._returned.append(block)
        self._settle()

    def _settle(self) -> None:
        """Sort what came back. Never blocks: who holds the lock calls this after releasing it."""
        while self._returned and self._lock.acquire(blocking=False):
            try:
                dropped = self._take_back()
            finally:
                self._lock.release()
            del dropped

    # With the lock held. What these return must go out of scope without it: upstream frees it then.

    def _lend(self, block: memoryview) -> None:
        self._lent_bytes += block.nbytes
        self._lent_blocks += 1
        self._allocated += 1

    def _take_back(self) -> list[memoryview]:
        while self._returned:
            block = self._returned.popleft()
            self._lent_bytes -= block.nbytes
            self._lent_blocks -= 1
            self._free.put(block)
        return [] if self.max_kept is None else self._free.evict(self.max_kept)
