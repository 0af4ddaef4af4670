"""A relay of TCP connections that counts what it passes on."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

TIMEOUT = 30.0


class ByteRelay:
    """Passes connections on to a port of this machine.

    Attributes
    ----------
    port
        Where it listens.
    sent, received
        Bytes on their way to the server, and back.
    """

    def __init__(self, target: int) -> None:
        self.sent = self.received = 0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def cut(self) -> None:
        """Break all connections; new ones are passed on again."""
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive()
        self._listener.close()
        for each in self._sockets:
            each.close()

    def _start(self, function, *arguments) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target), TIMEOUT)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            self._sockets += near, far
            self._start(self._pass_on, near, far, "sent")
            self._start(self._pass_on, far, near, "received")

    def _pass_on(self, source: socket.socket, target: socket.socket, counter: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                setattr(self, counter, getattr(self, counter) + len(data))
                target.sendall(data)
        for each in source, target:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def byte_relay(target: int) -> Iterator[ByteRelay]:
    """Relay while the block lasts."""
    relay = ByteRelay(target)
    try:
        yield relay
    finally:
        relay.close()
