"""Host memory, straight from the kernel."""

from __future__ import annotations

import mmap
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yais.memory.buffer import Buffer
from yais.memory.fallbacks import fall_back
from yais.memory.kernel import mlock
from yais.memory.numa import place

if TYPE_CHECKING:
    from yais.core.topology import NumaNode

__all__ = ["HostMemoryResource"]


class HostMemoryResource:
    """Zeroed memory of whole pages, unmapped when the last view of it is gone. Thread-safe.

    By default a page lands on the NUMA node of the CPU that first writes to it.

    Parameters
    ----------
    alignment
        Of each buffer, in bytes; a power of two. It is a page at least. Beyond a page it costs address space,
        not memory.
    huge_pages
        Ask for transparent huge pages, which are 2 MiB on most machines: buffers begin on one and occupy
        whole ones, so that a small buffer wastes nearly all of it. Where the kernel has none, ordinary pages
        are taken; that counts as a fall-back, "huge_pages" in `yais.memory.fallbacks`.
    locked
        Make all pages present at once and never swap them out.
    node
        Make all pages present at once, on this node; see `yais.memory.numa.place`.

    Raises
    ------
    ValueError
        `alignment` is not a power of two.

    Attributes
    ----------
    alignment
        What buffers are aligned to, in bytes.
    page_size
        Of the pages that buffers occupy, in bytes.
    node, locked
        As given.
    """

    is_host_accessible = True
    is_device_accessible = False

    def __init__(
        self,
        *,
        alignment: int = mmap.PAGESIZE,
        huge_pages: bool = False,
        locked: bool = False,
        node: NumaNode | None = None,
    ) -> None:
        if alignment < 1 or alignment & (alignment - 1):
            raise ValueError(f"got alignment={alignment}, expected a power of two")
        huge = huge_page_size() if huge_pages else None
        if huge_pages and huge is None:
            fall_back("huge_pages", "the kernel has none for ordinary memory; small pages are taken")
        self.page_size = huge or mmap.PAGESIZE
        self.alignment = max(alignment, self.page_size)
        self.locked = locked
        self.node = node
        self._slack = self.alignment - mmap.PAGESIZE

    def __repr__(self) -> str:
        parts = [f"pages of {self.page_size} bytes", f"aligned to {self.alignment}"]
        if self.node is not None:
            parts.append(f"node {self.node.id}")
        if self.locked:
            parts.append("locked")
        return f"<HostMemoryResource: {', '.join(parts)}>"

    def padded(self, size: int) -> int:
        """Return how many bytes of memory a buffer of that size occupies: whole pages."""
        return -(-size // self.page_size) * self.page_size

    def allocate(self, size: int, *, stream: Any = None) -> Buffer:
        """Return a buffer of `size` bytes.

        Raises
        ------
        ValueError
            `size` is negative, or a stream is given: host memory knows none. Or the process may not run on
            the CPUs of the node.
        MemoryError
            It is to be locked, and the kernel refuses.
        OSError
            The kernel has no such memory.
        """
        if size < 0:
            raise ValueError(f"got size={size}, expected 0 or more bytes")
        if stream is not None:
            raise ValueError(f"got stream={stream!r}, expected None: host memory is not ordered by streams")
        if size == 0:
            return Buffer(memoryview(bytearray()), resource=self)
        return Buffer(self._pages(self.padded(size))[:size], resource=self)

    def _pages(self, size: int) -> memoryview:
        # Private: a forked child must not write into what this process sends.
        mapping = mmap.mmap(-1, size + self._slack, mmap.MAP_PRIVATE)
        start = -_address(memoryview(mapping)) % self.alignment if self._slack else 0
        pages = memoryview(mapping)[start : start + size]
        if self.page_size > mmap.PAGESIZE:
            mapping.madvise(mmap.MADV_HUGEPAGE, start, size)
        if self.node is not None:
            place(pages, self.node)
        if self.locked:
            _lock(pages)
        return pages


def huge_page_size(root: Path = Path("/")) -> int | None:
    """Return the size of transparent huge pages in bytes, None where ordinary memory cannot have them.

    Parameters
    ----------
    root
        The directory that holds `sys`.
    """
    directory = root / "sys/kernel/mm/transparent_hugepage"
    try:
        if "[never]" in (directory / "enabled").read_text(encoding="ascii"):
            return None
        return int((directory / "hpage_pmd_size").read_text(encoding="ascii"))
    except OSError:
        return None


def _address(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).ctypes.data)


def _lock(pages: memoryview) -> None:
    try:
        mlock(_address(pages), pages.nbytes)
    except OSError as error:
        limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        allowed = "no limit" if limit == resource.RLIM_INFINITY else f"at most {limit} bytes in all"
        raise MemoryError(
            f"got {pages.nbytes} bytes to lock ({error.strerror}), expected {allowed}: "
            "RLIMIT_MEMLOCK of this process (ulimit -l)"
        ) from None
