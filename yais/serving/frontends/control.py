"""The connection of the supervisor to each of its processes: messages, and sockets that go with them."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from yais.serving.model_report import ModelReport
from yais.serving.options import ServerOptions

__all__ = [
    "Connect",
    "ControlChannel",
    "Failed",
    "FrontendCounts",
    "Hurry",
    "Listening",
    "Loaded",
    "Message",
    "Parted",
    "Ready",
    "Setup",
    "Status",
    "Stop",
    "Waiting",
]

_HEAD = struct.Struct("<IB")  # bytes of the message, sockets that come with it


@dataclass(frozen=True, slots=True)
class Setup:
    """To a process: what it is to do.

    Attributes
    ----------
    frontend
        Its number; None for the engine process.
    logs
        Whether it writes a log of its own, as the options say.
    """

    options: ServerOptions
    frontend: int | None
    logs: bool


@dataclass(frozen=True, slots=True)
class Connect:
    """To a process: a socket to another comes along.

    Attributes
    ----------
    frontend
        The number of the frontend.
    link
        Which of the links so far it is.
    """

    frontend: int
    link: int = 0


@dataclass(frozen=True, slots=True)
class Stop:
    """To a process: let requests end, and then end."""


@dataclass(frozen=True, slots=True)
class Hurry:
    """To a frontend that stops: do not wait any longer."""


@dataclass(frozen=True, slots=True)
class FrontendCounts:
    """From a frontend, now and then: requests in flight, and requests since its start."""

    in_flight: int = 0
    requests: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """To the engine process, for its metrics: how the processes are.

    Attributes
    ----------
    running, wanted
        Frontends.
    frontend_restarts, engine_restarts
        Processes that were started in the place of one that ended.
    counts
        Of the frontends, by their numbers; requests include those of the processes before.
    """

    running: int
    wanted: int
    frontend_restarts: int
    engine_restarts: int
    counts: Mapping[int, FrontendCounts]


@dataclass(frozen=True, slots=True)
class Listening:
    """From the engine process: it takes frontends, and has the models still to load."""

    metrics_port: int | None


@dataclass(frozen=True, slots=True)
class Loaded:
    """From the engine process: every model had its chance to load."""

    reports: list[ModelReport]


@dataclass(frozen=True, slots=True)
class Waiting:
    """From a frontend: it is up, and listens once it is connected to the engine process."""


@dataclass(frozen=True, slots=True)
class Parted:
    """From a frontend, now and then: this link has ended, and no other has come."""

    link: int


@dataclass(frozen=True, slots=True)
class Ready:
    """From a frontend: it listens, and the engine process has told it of its models."""


@dataclass(frozen=True, slots=True)
class Failed:
    """From a process: why it could not start. It ends."""

    error: Exception


Message: TypeAlias = (
    Setup
    | Connect
    | Stop
    | Hurry
    | FrontendCounts
    | Status
    | Listening
    | Loaded
    | Waiting
    | Parted
    | Ready
    | Failed
)


class ControlChannel:
    """One end of a connection. Any thread may send, one receives.

    Messages are pickled: they come from processes that this one has started, or that has started it.

    Parameters
    ----------
    connection
        Closed with the channel.
    patience
        Seconds that the other end may take to read a message, or to write one; None for any number.
    """

    def __init__(self, connection: socket.socket, patience: float | None = None) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        connection.settimeout(patience)

    def fileno(self) -> int:
        """Return the socket, to wait for messages."""
        return self._connection.fileno()

    def send(self, message: Message, *connections: socket.socket) -> bool:
        """Send a message, and sockets; return False if the other end is gone, or does not read."""
        body = pickle.dumps(message)
        try:
            with self._lock:
                head = _HEAD.pack(len(body), len(connections))
                socket.send_fds(self._connection, [head], [each.fileno() for each in connections])
                self._connection.sendall(body)
        except OSError:
            return False
        return True

    def receive(self) -> tuple[Message, list[socket.socket]] | None:
        """Wait for a message; return it and the sockets that came with it.

        None when the other end is gone, or late.
        """
        try:
            head, files, _, _ = socket.recv_fds(self._connection, _HEAD.size, 1)
            for file in files:
                os.set_inheritable(file, False)  # processes started from here have no part in it
            connections = [socket.socket(fileno=file) for file in files]
            while 0 < len(head) < _HEAD.size:
                head += self._read(_HEAD.size - len(head))
            if not head:
                return None
            size, _ = _HEAD.unpack(head)
            body = b""
            while len(body) < size:
                body += self._read(size - len(body))
        except (OSError, EOFError):
            return None
        return pickle.loads(body), connections

    def has_more(self) -> bool:
        """Return whether `receive` would return at once."""
        waiting = select.poll()
        waiting.register(self._connection, select.POLLIN)
        return bool(waiting.poll(0))

    def takes(self) -> bool:
        """Return whether a short message can be sent at once: the other end has read most of the others."""
        room = select.poll()
        room.register(self._connection, select.POLLOUT)
        return bool(room.poll(0))

    def shutdown(self) -> None:
        """End the connection; whoever receives, here or there, sees that. From any thread."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the socket. Idempotent."""
        self._connection.close()

    def _read(self, size: int) -> bytes:
        part = self._connection.recv(size)
        if not part:
            raise EOFError
        return part
