"""CUDA shared memory: the regions of clients on GPUs, by the names that clients gave them."""

from __future__ import annotations

from dataclasses import dataclass

from yais.errors import InvalidArgument

__all__ = ["CudaRegion", "CudaSharedMemory"]


@dataclass(frozen=True, slots=True)
class CudaRegion:
    """A region as its client described it."""

    name: str
    device_id: int
    byte_size: int


class CudaSharedMemory:
    """The regions that clients have registered. Thread-safe."""

    def __init__(self, *, allowed: bool) -> None:
        self.allowed = allowed

    def register(self, region: CudaRegion, raw_handle: bytes) -> None:
        """Attach to a region."""
        raise InvalidArgument(
            f"failed to register CUDA shared memory region: '{region.name}', GPUs not supported"
        )

    def unregister(self, name: str) -> None:
        """Let go of a region, or of all for ""."""

    def status(self, name: str) -> list[CudaRegion]:
        """Return a region, or all for ""."""
        return []
