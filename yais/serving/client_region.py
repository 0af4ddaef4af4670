"""What the shared memory of clients is to a request, wherever it is."""

from __future__ import annotations

from typing import Protocol

__all__ = ["ClientRegion"]


class ClientRegion(Protocol):
    """A client's memory as it is mapped here. Thread-safe. What it raises is a `YaisError`."""

    def acquire(self) -> None:
        """Keep it mapped until `release`, which must follow. Raises NotFound if it is gone already."""

    def release(self) -> None:
        """Undo one `acquire`."""

    def check(self, offset: int, byte_size: int) -> None:
        """Refuse a part that is none."""

    def read(self, offset: int, byte_size: int) -> memoryview:
        """Return the bytes of a part, read-only: the client's own, or a copy."""

    def write(self, offset: int, contents: memoryview) -> None:
        """Write bytes to a part."""
