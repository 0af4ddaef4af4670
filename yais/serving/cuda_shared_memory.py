"""CUDA shared memory: the regions of clients on GPUs, by the names that clients gave them.

`yais.memory` has no memory of GPUs yet, so nothing can be registered; the regions will be kept here.
"""

from __future__ import annotations

from dataclasses import dataclass

from yais.errors import InvalidArgument, NotFound, Unimplemented
from yais.serving.shared_memory import NOT_ALLOWED

__all__ = ["CudaRegion", "CudaSharedMemory"]

_HANDLE = 64  # bytes of a cudaIpcMemHandle_t


@dataclass(frozen=True, slots=True)
class CudaRegion:
    """A region as its client described it; `byte_size` is in bytes."""

    name: str
    device_id: int
    byte_size: int


class CudaSharedMemory:
    """The regions that clients have registered: none so far. Thread-safe.

    Parameters
    ----------
    allowed
        Whether clients may have regions at all.
    """

    def __init__(self, *, allowed: bool) -> None:
        self.allowed = allowed

    def __repr__(self) -> str:
        return f"<CudaSharedMemory: {'0 regions' if self.allowed else 'not allowed'}>"

    def register(self, region: CudaRegion, raw_handle: bytes) -> None:
        """Attach to a region.

        Raises
        ------
        Unimplemented
            Clients may not have regions.
        InvalidArgument
            The handle is none; or in any case: there is no memory of GPUs.
        """
        if not self.allowed:
            raise Unimplemented(NOT_ALLOWED)
        if len(raw_handle) != _HANDLE:
            raise InvalidArgument("failed to register shared memory region: invalid args")
        raise InvalidArgument(
            f"failed to register CUDA shared memory region: '{region.name}', GPUs not supported"
        )

    def unregister(self, name: str) -> None:
        """Let go of a region, or of all for "". A name that is none is no error."""

    def status(self, name: str) -> list[CudaRegion]:
        """Return a region, or all for "". Raises NotFound."""
        if name:
            raise NotFound(f"Unable to find cuda shared memory region: '{name}'")
        return []
