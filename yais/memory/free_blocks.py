"""Free blocks of memory, by size and by age."""

from __future__ import annotations

import collections

__all__ = ["FreeBlocks"]


class FreeBlocks:
    """Blocks that wait for their next use. Not thread-safe.

    Attributes
    ----------
    bytes
        Of all blocks.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._serial = 0
        self._blocks: collections.OrderedDict[int, memoryview] = collections.OrderedDict()  # oldest first
        self._by_size: dict[int, collections.deque[int]] = {}

    def __len__(self) -> int:
        return len(self._blocks)

    def put(self, block: memoryview) -> None:
        """Add a block."""
        self._serial += 1
        self._blocks[self._serial] = block
        self._by_size.setdefault(block.nbytes, collections.deque()).append(self._serial)
        self.bytes += block.nbytes

    def take(self, size: int) -> memoryview | None:
        """Remove and return the block of exactly `size` bytes that came last, whose memory is the warmest."""
        serials = self._by_size.get(size)
        if not serials:
            return None
        block = self._blocks.pop(serials.pop())
        self._forget(size)
        return block

    def evict(self, limit: int) -> list[memoryview]:
        """Remove and return the oldest blocks, until there are at most `limit` bytes."""
        evicted = []
        while self.bytes > limit:
            _, block = self._blocks.popitem(last=False)
            self._by_size[block.nbytes].popleft()
            self._forget(block.nbytes)
            evicted.append(block)
        return evicted

    def _forget(self, size: int) -> None:
        self.bytes -= size
        if not self._by_size[size]:
            del self._by_size[size]
