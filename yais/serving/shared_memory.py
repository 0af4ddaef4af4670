"""System shared memory: the regions of clients, by the names that clients gave them."""

from __future__ import annotations

from dataclasses import dataclass

from yais.errors import NotFound

__all__ = ["Region", "SystemSharedMemory"]


@dataclass(frozen=True, slots=True)
class Region:
    """A region as its client described it; `offset` and `byte_size` are in bytes."""

    name: str
    key: str
    offset: int
    byte_size: int


class SystemSharedMemory:
    """The regions that clients have registered. Thread-safe."""

    def __init__(self, *, allowed: bool) -> None:
        self.allowed = allowed

    def register(self, region: Region) -> None:
        """Attach to a region."""
        raise NotImplementedError

    def unregister(self, name: str) -> None:
        """Let go of a region, or of all for ""; one in use goes when its last view does."""

    def status(self, name: str) -> list[Region]:
        """Return a region, or all for ""."""
        return []

    def view(self, name: str, offset: int, byte_size: int) -> memoryview:
        """Return a writable view of part of a region; it stays valid when the region is unregistered."""
        raise NotFound(f"Unable to find shared memory region: '{name}'")
