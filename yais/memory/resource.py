"""Memory resources: where buffers come from."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from yais.memory.buffer import Buffer

__all__ = ["MemoryResource"]


@runtime_checkable
class MemoryResource(Protocol):
    """Allocates buffers of one kind of memory. The names are those of `cuda.core.MemoryResource`.

    The resources of cuda.core are resources as they are, with buffers of their own class: the adaptors
    (`TrackedResource`, `LimitedResource`, `PooledResource`) and `Buffer.of` make a `Buffer` of such a one.
    Buffers know how to free themselves, so there is no `deallocate` here; nor is there a `device_id`, which
    raises for some resources of cuda.core.
    """

    @property
    def is_host_accessible(self) -> bool:
        """Whether the CPU can read and write what is allocated."""

    @property
    def is_device_accessible(self) -> bool:
        """Whether a GPU can."""

    def allocate(self, size: int, *, stream: Any = None) -> Buffer:
        """Return a buffer of `size` bytes; `stream` orders the allocation where the kind of memory asks."""
