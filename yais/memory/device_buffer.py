"""What a piece of memory is to who only needs its address."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

__all__ = ["DeviceBuffer"]


@runtime_checkable
class DeviceBuffer(Protocol):
    """A piece of memory of a device. `yais.memory.buffer.Buffer` is one, too, for a device of a test."""

    @property
    def size(self) -> int:
        """Size in bytes; 0 once closed."""

    @property
    def handle(self) -> int:
        """Address of the first byte, as the device has it; it means nothing for a buffer without bytes."""

    def close(self) -> None:
        """Give the memory back. Idempotent."""
