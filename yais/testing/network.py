"""A network that fails on command: what stands between a client and a server in tests of faults."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

__all__ = ["FaultyNetwork"]

_CHUNK = 64 << 10

Direction = Literal["requests", "replies"]


class FaultyNetwork:
    """Forwards TCP connections to a server, until it is told not to. A context manager; thread-safe.

    Parameters
    ----------
    port
        Where the server listens, on the loopback interface.

    Attributes
    ----------
    port
        Where clients connect, on the loopback interface.

    Examples
    --------
    >>> with serving(service) as served, FaultyNetwork(served.port) as network:
    ...     stub = EchoStub(grpc.insecure_channel(f"127.0.0.1:{network.port}"))
    ...     replies = stub.Chat(requests)
    ...     next(replies)
    ...     network.reset()     # next(replies) raises UNAVAILABLE, and the server's context is cancelled
    """

    def __init__(self, port: int) -> None:
        self._server = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port = int(self._listener.getsockname()[1])
        self._lock = threading.RLock()
        self._pipes: list[_Pipe] = []
        self._stalled: set[Direction] = set()
        self._budget: dict[Direction, int] = {}
        self._wake, self._woken = socket.socketpair()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="faulty-network", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<FaultyNetwork {self.port} -> {self._server[1]}: {self.connections} connections>"

    @property
    def connections(self) -> int:
        """Connections that are forwarded now."""
        return len(self._pipes) // 2

    def stall(self, *directions: Direction) -> None:
        """Hold back what is sent, in the given directions or in both, until `resume`."""
        with self._lock:
            self._stalled.update(directions or ("requests", "replies"))
        self._poke()

    def resume(self) -> None:
        """Let everything through again, what was held back first."""
        with self._lock:
            self._stalled.clear()
        self._poke()

    def reset(self) -> None:
        """Break all connections at once, as a machine that crashes does. New ones are taken as before."""
        with self._lock:
            pipes, self._pipes = self._pipes, []
        for pipe in pipes:
            pipe.reset()
        self._poke()

    def reset_after(self, count: int, direction: Direction) -> None:
        """Let `count` more bytes through in a direction, then do as `reset` does: it may cut a message."""
        with self._lock:
            self._budget[direction] = count
        self._poke()

    def close(self) -> None:
        """Break all connections and take no more."""
        self._closed = True
        self._poke()
        self._thread.join(10.0)
        self.reset()
        for each in (self._listener, self._wake, self._woken):
            each.close()

    def __enter__(self) -> Self:
        """Return the network itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _poke(self) -> None:
        with contextlib.suppress(OSError):
            self._wake.send(b"\0")

    def _run(self) -> None:
        while not self._closed:
            with self._lock:
                pipes = [pipe for pipe in self._pipes if pipe.direction not in self._stalled]
            for ready in self._ready(pipes):
                if ready is self._listener:
                    self._accept()
                elif ready is self._woken:
                    self._woken.recv(_CHUNK)
                elif isinstance(ready, _Pipe):
                    with self._lock:
                        if ready.direction not in self._stalled:
                            self._forward(ready)

    def _ready(self, pipes: list[_Pipe]) -> list[object]:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ, self._listener)
            selector.register(self._woken, selectors.EVENT_READ, self._woken)
            # A socket is the source of one pipe and the sink of another.
            wanted: dict[socket.socket, tuple[int, list[_Pipe]]] = {}
            for pipe in pipes:
                event = selectors.EVENT_WRITE if pipe.unsent else selectors.EVENT_READ
                end = pipe.sink if pipe.unsent else pipe.source
                events, users = wanted.get(end, (0, []))
                wanted[end] = (events | event, [*users, pipe])
            for end, (events, users) in wanted.items():
                with contextlib.suppress(ValueError, OSError):  # it was reset meanwhile
                    selector.register(end, events, users)
            ready: list[object] = []
            for key, _events in selector.select():
                ready += key.data if isinstance(key.data, list) else [key.data]
            return ready

    def _accept(self) -> None:
        client, _address = self._listener.accept()
        try:
            server = socket.create_connection(self._server)
        except OSError:
            client.close()
            return
        for end in (client, server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._pipes += [_Pipe("requests", client, server), _Pipe("replies", server, client)]

    def _forward(self, pipe: _Pipe) -> None:
        left = self._budget.get(pipe.direction, _CHUNK)
        try:
            if not pipe.unsent:
                pipe.unsent = pipe.source.recv(min(_CHUNK, max(1, left)))
                if not pipe.unsent:
                    raise ConnectionResetError
            sent = pipe.sink.send(pipe.unsent[: max(0, left)]) if left > 0 else 0
        except BlockingIOError:
            return
        except OSError:
            self._drop(pipe)
            return
        pipe.unsent = pipe.unsent[sent:]
        if pipe.direction in self._budget:
            self._budget[pipe.direction] = left - sent
            if left - sent <= 0:
                del self._budget[pipe.direction]
                self.reset()

    def _drop(self, broken: _Pipe) -> None:
        with self._lock:
            gone = [pipe for pipe in self._pipes if {pipe.source, pipe.sink} & {broken.source, broken.sink}]
            self._pipes = [pipe for pipe in self._pipes if pipe not in gone]
        for pipe in gone:
            pipe.source.close()
            pipe.sink.close()


@dataclass(eq=False)
class _Pipe:
    """One direction of a connection."""

    direction: Direction
    source: socket.socket
    sink: socket.socket
    unsent: bytes = field(default=b"")

    def reset(self) -> None:
        """Close without a word: the other side gets a RST."""
        with contextlib.suppress(OSError):
            linger = struct.pack("ii", 1, 0)
            self.source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.source.close()
