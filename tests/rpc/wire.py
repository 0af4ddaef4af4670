"""A client that speaks HTTP/2 frame by frame: it sees what grpcio's keeps to itself, and can misbehave."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from echoing import SOON

SETTINGS, PING, GOAWAY = 4, 6, 7
ACK = 1
MAX_CONCURRENT_STREAMS = 3
ENHANCE_YOUR_CALM = 11


@dataclass(frozen=True)
class Frame:
    """One frame, without its stream's number."""

    kind: int
    flags: int
    payload: bytes


class Wire:
    """A connection to a server on the loopback interface.

    Parameters
    ----------
    greet
        Whether to begin as HTTP/2 does; otherwise nothing is sent.
    """

    def __init__(self, port: int, *, greet: bool = True) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), SOON)
        if greet:
            self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            self.send(SETTINGS, b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, kind: int, payload: bytes, flags: int = 0) -> None:
        """Send a frame of the connection."""
        self._socket.sendall(struct.pack(">I", len(payload))[1:] + bytes([kind, flags, 0, 0, 0, 0]) + payload)

    def frame(self) -> Frame | None:
        """Wait for the next frame; None when the server has closed the connection."""
        head = self._read(9)
        if head is None:
            return None
        payload = self._read(int.from_bytes(head[:3]))
        return None if payload is None else Frame(head[3], head[4], payload)

    def wait(self, wanted: Callable[[Frame], bool]) -> Frame:
        """Wait for a frame, passing over others."""
        while (frame := self.frame()) is not None:
            if wanted(frame):
                return frame
        raise AssertionError("the server has closed the connection")

    def wait_closed(self) -> None:
        """Wait until the server has closed the connection."""
        while self.frame() is not None:
            pass

    def _read(self, count: int) -> bytes | None:
        read = b""
        while len(read) < count:
            try:
                more = self._socket.recv(count - len(read))
            except ConnectionResetError:
                more = b""
            if not more:
                return None
            read += more
        return read


def kind(number: int, *, flags: int = 0) -> Callable[[Frame], bool]:
    """Describe frames of one kind, for `Wire.wait`."""
    return lambda frame: frame.kind == number and frame.flags == flags
