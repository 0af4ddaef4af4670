"""Adaptors: memory resources that hand out the memory of another one."""

from __future__ import annotations

from typing import Any

from yais.memory.buffer import Buffer
from yais.memory.resource import MemoryResource

__all__ = ["Adaptor"]


class Adaptor:
    """What adaptors have in common: an upstream, which may be an adaptor itself, or a resource of cuda.core.

    Parameters
    ----------
    upstream
        Where the memory comes from.

    Raises
    ------
    ValueError
        The CPU cannot reach its memory, as with that of a GPU: the pools of cuda.core count and limit that.
    """

    is_host_accessible = True

    def __init__(self, upstream: MemoryResource) -> None:
        if not upstream.is_host_accessible:
            raise ValueError(f"got {upstream!r}, expected a resource of memory that the CPU can reach")
        self.upstream = upstream

    @property
    def is_device_accessible(self) -> bool:
        """As upstream."""
        return self.upstream.is_device_accessible

    def _memory(self, size: int, stream: Any) -> memoryview:
        """Return memory from upstream, which is freed when the last view of it is gone."""
        return Buffer.of(self.upstream.allocate(size, stream=stream)).view
