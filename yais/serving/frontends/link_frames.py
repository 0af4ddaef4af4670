"""Messages as bytes on a connection, several at a time, and back.

A frame is a mark, the number of file descriptors that came with it, its length, and a pickle of a list of
messages.
Both ends run the same code and trust each other, as with the workers of Python models.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator
from typing import Any

from yais.errors import InvalidArgument

__all__ = ["FrameReader", "Message", "encode_frame"]

Message = tuple[Any, ...]
"""What it is, see `yais.serving.frontends.link_messages`, and what belongs to it."""

_HEADER = struct.Struct("<IIQ")
_MARK = 0x4B4E494C  # "LINK"
_BUFFER = 1 << 16  # bytes; hundreds of messages


def encode_frame(messages: list[Message], descriptors: int) -> bytes:
    """Return a frame."""
    body = pickle.dumps(messages, pickle.HIGHEST_PROTOCOL)
    return _HEADER.pack(_MARK, descriptors, len(body)) + body


class FrameReader:
    """Puts together what arrives in pieces. Not thread-safe."""

    def __init__(self) -> None:
        self._buffer = bytearray(_BUFFER)
        self._filled = 0

    def room(self) -> memoryview:
        """Return where the next bytes go; never empty."""
        return memoryview(self._buffer)[self._filled :]

    def received(self, size: int) -> Iterator[tuple[list[Message], int]]:
        """Take in so many bytes of `room`; return each frame that is complete, and its descriptors.

        Raises
        ------
        InvalidArgument
            It is no frame.
        """
        self._filled += size
        start = 0
        while self._filled - start >= _HEADER.size:
            mark, descriptors, length = _HEADER.unpack_from(self._buffer, start)
            if mark != _MARK:
                raise InvalidArgument(f"got {mark:#x}, expected a frame, which begins with {_MARK:#x}")
            end = start + _HEADER.size + length
            if end > self._filled:
                self._make_room(end - start)
                break
            with memoryview(self._buffer) as view, view[start + _HEADER.size : end] as body:
                messages = _decoded(body)
            start = end
            yield messages, descriptors
        rest = self._filled - start
        if start and rest:
            self._buffer[:rest] = self._buffer[start : self._filled]
        self._filled = rest
        if not rest and len(self._buffer) > _BUFFER:
            self._buffer = bytearray(_BUFFER)

    def _make_room(self, size: int) -> None:
        if size > len(self._buffer):
            self._buffer = self._buffer[: self._filled] + bytearray(size - self._filled)


def _decoded(body: memoryview) -> list[Message]:
    try:
        messages = pickle.loads(body)
    except Exception as error:  # whatever unpickling may raise
        raise InvalidArgument(f"got a frame of {len(body)} bytes that is no pickle: {error!r}") from None
    if type(messages) is not list or not set(map(type, messages)) <= {tuple} or not all(messages):
        raise InvalidArgument(f"got a frame with a {type(messages).__name__}, expected a list of messages")
    return messages
