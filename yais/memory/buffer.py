"""Buffers: pieces of memory."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Buffer"]


class Buffer:
    """A piece of host memory.

    Views keep the memory alive after `close`, which only ends this buffer's own claim to it. Not
    thread-safe: whoever holds a buffer has it alone.

    Parameters
    ----------
    view
        The bytes, writable.
    release
        Called once by `close`.
    """

    __slots__ = ("_release", "view")

    def __init__(self, view: memoryview, release: Callable[[], None] | None = None) -> None:
        self.view = view
        self._release = release

    def __repr__(self) -> str:
        return f"<Buffer of {self.size} bytes>"

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.view.nbytes

    def close(self) -> None:
        """Give the memory back. Idempotent."""
        release, self._release = self._release, None
        self.view = memoryview(b"")
        if release is not None:
            release()
