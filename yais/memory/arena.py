"""Arenas: allocation by counting up, and freeing everything at once."""

from __future__ import annotations

from dataclasses import dataclass

from yais.memory.buffer import Buffer
from yais.memory.resource import MemoryResource

__all__ = ["Arena", "ArenaStatistics"]

_ALIGNMENT = 64  # bytes; a cache line, and what ONNX Runtime aligns its own tensors to


@dataclass(frozen=True, slots=True)
class ArenaStatistics:
    """The numbers of an arena, in bytes; `used` is since the last reset."""

    size: int
    used: int


class Arena:
    """Cuts one buffer into pieces, one after the other, until it is reset. Not thread-safe.

    Parameters
    ----------
    resource
        Where its buffer comes from.
    size
        Bytes to begin with.
    """

    def __init__(self, resource: MemoryResource, size: int = 0) -> None:
        self._resource = resource
        self._buffer = Buffer.of(resource.allocate(size))
        self._used = 0

    def __repr__(self) -> str:
        return f"<Arena: {self._used} of {self.size} bytes used>"

    @property
    def size(self) -> int:
        """Bytes it can hand out between two resets."""
        return self._buffer.size

    def reset(self, size: int = 0) -> None:
        """Take all pieces back, and make room for at least `size` bytes of new ones.

        Growing takes a new buffer of the next power of two. The old one goes back when the last
        view of it is gone.
        """
        self._used = 0
        if size > self.size:
            self._buffer.close()
            self._buffer = Buffer.of(self._resource.allocate(1 << (size - 1).bit_length()))

    def take(self, size: int) -> memoryview:
        """Return the next `size` bytes, aligned to 64.

        Raises
        ------
        ValueError
            `size` is negative.
        MemoryError
            The arena is too small; the message says by how much.
        """
        if size < 0:
            raise ValueError(f"got size={size}, expected 0 or more bytes")
        end = self._used + size
        if end > self.size:
            left = max(0, self.size - self._used)
            raise MemoryError(f"got {size} bytes to take, expected at most {left} left")
        piece = self._buffer.view[self._used : end]
        self._used = self.padded(end)
        return piece

    @staticmethod
    def padded(size: int) -> int:
        """Round a size up to what a piece of that size occupies."""
        return -(-size // _ALIGNMENT) * _ALIGNMENT

    def statistics(self) -> ArenaStatistics:
        """Return the numbers of now."""
        return ArenaStatistics(self.size, self._used)

    def close(self) -> None:
        """Give the buffer back, once the last view of it is gone."""
        self._buffer.close()
