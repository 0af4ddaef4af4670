"""Memory resources: where buffers come from."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from yais.memory.buffer import Buffer

__all__ = ["MemoryResource"]


@runtime_checkable
class MemoryResource(Protocol):
    """Allocates buffers of one kind of memory. The names are those of `cuda.core.MemoryResource`."""

    @property
    def is_host_accessible(self) -> bool:
        """Whether the CPU can read and write what is allocated."""

    @property
    def is_device_accessible(self) -> bool:
        """Whether a GPU can."""

    def allocate(self, size: int, *, stream: Any = None) -> Buffer:
        """Return a buffer of `size` bytes; `stream` orders the allocation where the kind of memory asks."""
