"""What a server and the worker process of a model say to each other.

A message is a tuple of plain values, the first of which names it. Tensors are not in it: they lie in two
pieces of shared memory, "inputs" and "outputs", which the server makes and removes from the file system as
soon as the worker has them, so that nothing is left behind whoever dies.

    server                                  worker
    ("load", PythonModelConfig)             ("ready", decoupled) or ("error", ...)
    ("attach", "inputs", name, size)        ("attached",)
    ("execute", [PackedTensor])             ("outputs", [PackedTensor]) or ("error", ...)
    ("stream", [PackedTensor])              ("outputs", [PackedTensor]), ("end",) or ("error", ...)
      ("next",) after each outputs            the same again
      ("stop",) after any outputs             ("end",) or ("error", ...)
    ("close",)                              exits

A process that is only asked for the model's configuration gets ("complete", path, dict) instead of "load",
answers ("completed", dict or None) or ("error", ...), and exits.

Where outputs do not fit, ("room", size) comes first; the server then sends ("attach", "outputs", ...), or
("refused", text) if there is no such room.
An error is ("error", gRPC code or None, type name, message, traceback).
"""

from __future__ import annotations

import pickle
import socket
import struct
from typing import Any

from yais.core.clock import Deadline

__all__ = ["WorkerChannel"]

_LENGTH = struct.Struct("<Q")


class WorkerChannel:
    """One end of the connection. For one thread at a time.

    Both ends run the same code and trust each other: messages are pickles.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def send(self, message: tuple[Any, ...], timeout: float | None = None) -> None:
        """Send a message.

        Raises
        ------
        OSError
            The other end is gone.
        TimeoutError
            It has not taken the message within `timeout` seconds; the connection is of no use any more.
        """
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        self._socket.settimeout(timeout)
        self._socket.sendall(_LENGTH.pack(len(data)) + data)

    def receive(self, timeout: float | None = None) -> tuple[Any, ...]:
        """Return the next message.

        Raises
        ------
        EOFError
            The other end is gone.
        TimeoutError
            None came within `timeout` seconds; the connection is of no use any more.
        """
        deadline = Deadline.after(timeout)
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size, deadline))
        message: tuple[Any, ...] = pickle.loads(self._read(length, deadline))
        return message

    def close(self) -> None:
        """Close this end. Idempotent."""
        self._socket.close()

    def _read(self, size: int, deadline: Deadline) -> bytearray:
        data = bytearray()
        while len(data) < size:
            remaining = deadline.remaining()
            # With nothing left, too, it looks once: a timeout of 0 would mean not to wait at all.
            self._socket.settimeout(None if remaining is None else max(remaining, 1e-6))
            part = self._socket.recv(size - len(data))
            if not part:
                raise EOFError("the other end of the connection is gone")
            data += part
        return data
