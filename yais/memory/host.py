"""Host memory."""

from __future__ import annotations

import mmap
from typing import Any

from yais.memory.buffer import Buffer

__all__ = ["HostMemoryResource"]


class HostMemoryResource:
    """Page-aligned host memory, zeroed, straight from the kernel. Thread-safe.

    A page lands on the NUMA node of the CPU that first writes to it.
    """

    is_host_accessible = True
    is_device_accessible = False

    def allocate(self, size: int, *, stream: Any = None) -> Buffer:
        """Return a buffer of `size` bytes.

        Raises
        ------
        ValueError
            `size` is negative, or a stream is given: host memory knows none.
        OSError
            The kernel has no such memory.
        """
        if size < 0:
            raise ValueError(f"got size={size}, expected 0 or more bytes")
        if stream is not None:
            raise ValueError(f"got stream={stream!r}, expected None: host memory is not ordered by streams")
        if size == 0:
            return Buffer(memoryview(bytearray()))
        # Private: a forked child must not write into what this process sends.
        return Buffer(memoryview(mmap.mmap(-1, size, mmap.MAP_PRIVATE)))
