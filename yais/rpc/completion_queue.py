"""gRPC core's server, seen from Python: completion queues, calls and their operations.

This is the only file that touches `grpc._cython.cygrpc`, which is private to grpcio but is what grpcio's
own server stands on; `tests/rpc/test_completion_queue.py` runs it against the oldest and newest grpcio
supported. The traps it keeps from the rest of the package:

- `start_server_batch` reports a refused operation by its return value and never raises; an unchecked
  refusal is a silent hang. `ServerCall` raises `Internal`.
- A refused batch is never freed, nor is its call. What can be refused is checked before: metadata, whose
  illegal items older core refuses and newer core answers by ending the call.
- An operation started on a queue that is shut down aborts the process. Executors shut a queue down only
  when nothing that could start one is left.
- With registered methods the event names no method, so the tag must.

Tags are callables. `CompletionQueue.poll` takes one event and calls its tag on the polling thread.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import reprlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# From grpcio 1.80 on (1.76 did not) a thread of gRPC's own reads the sockets and hands what it read to the
# queue's thread. Without that experiment, as before, the thread that polls the queue reads them itself:
# half the CPU time per request and one thread hop less (benchmarks/README.md). gRPC reads the variable when
# it is first imported, so `yais` has to be imported before `grpc` for this to take effect. What it costs: a
# reset that arrives together with data goes unnoticed until something is sent, a keepalive at the latest.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")

from grpc._cython import cygrpc  # type: ignore[attr-defined]

from yais.core.clock import NANOSECONDS, NEVER, Deadline, monotonic
from yais.errors import Code, Internal

__all__ = [
    "NO_COMPRESS",
    "CompletionQueue",
    "CoreServer",
    "MetadataItem",
    "ServerCall",
    "checked_metadata",
    "compression_header",
]

_log = logging.getLogger("yais.rpc")

MetadataItem = tuple[str, str | bytes]

NO_COMPRESS: int = cygrpc.WriteFlag.no_compress
"""Flag of a message that is sent as it is although the call is compressed."""

# What gRPC core takes (src/core/lib/surface/validate_metadata.cc); values under keys in "-bin" are free.
_KEY = re.compile(r"[0-9a-z_.-]+")
_TEXT = re.compile(r"[ -~]*")

# Bytes of a status message. Each may become three on the wire, and by default a client takes 8 KiB of
# trailing metadata and answers more with a status of its own, which hides the one that was sent.
_MAX_DETAILS = 2048

# Read, and taken out, by core. (cygrpc has it too, as bytes or text by its version.)
_COMPRESSION_KEY = "grpc-internal-encoding-request"

# Deadlines from here on are gRPC's infinite future, which arrives as 2**63 seconds.
_FOREVER = 2.0**62
_OK = cygrpc.CallError.ok
_QUEUE_SHUTDOWN = cygrpc.CompletionType.queue_shutdown
_INFINITY = float("inf")
_PAST = 0.0  # a moment long ago: poll returns at once

# Operations without contents of their own are shared by all calls: core copies what it needs of them
# when a batch starts, and nothing reads the outcome of this ReceiveClose.
_SEND_NO_METADATA = cygrpc.SendInitialMetadataOperation(None, 0)
_SEND_OK = cygrpc.SendStatusFromServerOperation(None, 0, b"", 0)
_RECEIVE_CLOSE = cygrpc.ReceiveCloseOnServerOperation(0)

_ReceiveMessage = cygrpc.ReceiveMessageOperation
_SendMessage = cygrpc.SendMessageOperation


class CompletionQueue:
    """The queue on which one thread receives the events of its calls."""

    __slots__ = ("_core", "_poll", "closed")

    def __init__(self) -> None:
        self._core = cygrpc.CompletionQueue()
        self._poll = self._core.poll
        self.closed = False

    def poll(self, timeout: float | None) -> bool:
        """Take one event and call its tag.

        Parameters
        ----------
        timeout
            Seconds to wait for one; None waits until there is one.

        Returns
        -------
        bool
            Whether there was an event in time. False, too, once the queue is shut down and empty; `closed`
            is True then.
        """
        event = self._poll((time.time() + timeout if timeout else _PAST) if timeout is not None else None)
        tag = event.tag
        if tag is None:
            self.closed = event.completion_type == _QUEUE_SHUTDOWN
            return False
        tag(event)
        return True

    def shutdown(self) -> None:
        """Let the queue run empty. Starting an operation on it afterwards aborts the process."""
        self._core.shutdown()


class ServerCall:
    """One RPC that has arrived. Its operations may be started from any thread, each kind once at a time.

    Completions are delivered to the thread that polls the call's queue.
    """

    __slots__ = ("_call", "_details", "metadata")

    metadata: tuple[MetadataItem, ...]

    def __init__(self, event: Any) -> None:
        self._call = event.call
        self._details = event.call_details
        self.metadata = event.invocation_metadata

    @property
    def deadline(self) -> float:
        """When the caller stops waiting, in seconds of `time.time`; infinity if it never does."""
        at = float(self._details.deadline)
        return at if at < _FOREVER else _INFINITY

    @property
    def due(self) -> Deadline:
        """When the caller stops waiting."""
        at = self.deadline
        return NEVER if at == _INFINITY else Deadline(monotonic() + int(seconds_left(at) * NANOSECONDS))

    @property
    def method(self) -> str:
        """Full name of the method, "/package.Service/Method"; only for calls of no registered method."""
        return bytes(self._details.method).decode("utf-8", "replace")

    @property
    def peer(self) -> str:
        """Address of the caller in gRPC's notation, such as "ipv4:127.0.0.1:5000"."""
        return bytes(self._call.peer()).decode("utf-8", "replace")

    @property
    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """What TLS knows of the connection, by gRPC's names such as "x509_common_name"."""
        properties = cygrpc.auth_context(self._call) or {}
        return {bytes(name).decode(): values for name, values in properties.items()}

    @property
    def peer_identity_key(self) -> str | None:
        """Which property of `auth_context` names the caller; None when its certificate was not verified."""
        name = cygrpc.peer_identity_key(self._call)
        return None if name is None else bytes(name).decode()

    @property
    def peer_identities(self) -> Sequence[bytes] | None:
        """Names of the caller under `peer_identity_key`; None when its certificate was not verified."""
        identities: Sequence[bytes] | None = cygrpc.peer_identities(self._call)
        return identities

    @property
    def identity(self) -> str | None:
        """First name in the caller's verified certificate: of its alternative names, else its common name."""
        identities = self.peer_identities
        return bytes(identities[0]).decode("utf-8", "replace") if identities else None

    def receive_message(self, done: Callable[[bytes | None], None]) -> None:
        """Receive the next message; None when there is none left or the call is over."""
        operation = _ReceiveMessage(0)
        self._start((operation,), lambda _event: done(operation.message()))

    def receive_close(self, done: Callable[[bool], None]) -> None:
        """Learn when the call is over, and whether it was cancelled (by the caller, or its deadline)."""
        operation = cygrpc.ReceiveCloseOnServerOperation(0)
        self._start((operation,), lambda _event: done(operation.cancelled()))

    def send_initial_metadata(self, metadata: Sequence[MetadataItem], done: Callable[[bool], None]) -> None:
        """Send the headers. `done` is told whether the call was still connected.

        Raises
        ------
        Internal
            The metadata cannot be sent. Nothing was started.
        """
        self._start((_headers(metadata),), lambda event: done(event.success))

    def send_message(
        self,
        message: bytes,
        *,
        headers: Sequence[MetadataItem] | None,
        flags: int = 0,
        done: Callable[[bool], None],
    ) -> None:
        """Send one message.

        Parameters
        ----------
        headers
            Sent along; None if they have been sent.
        flags
            0, or `NO_COMPRESS`.
        done
            Is told whether the call was still connected.

        Raises
        ------
        Internal
            The headers cannot be sent. Nothing was started.
        """
        operation = _SendMessage(message, flags)
        operations = (operation,) if headers is None else (_headers(headers), operation)
        self._start(operations, lambda event: done(event.success))

    def exchange(
        self,
        message: bytes,
        *,
        headers: Sequence[MetadataItem] | None,
        flags: int = 0,
        done: Callable[[bool, bytes | None], None],
    ) -> None:
        """Send one message and receive the next one: one event for both, when both are done.

        See `send_message` and `receive_message`; `done` is told both outcomes.
        """
        receive = _ReceiveMessage(0)
        operations: tuple[Any, ...] = (_SendMessage(message, flags), receive)
        if headers is not None:
            operations = (_headers(headers), *operations)
        self._start(operations, lambda event: done(event.success, receive.message()))

    def reply(self, message: bytes, done: Callable[[Any], None]) -> None:
        """Answer a unary call for which nothing else was started: all four last operations at once."""
        self._start((_SEND_NO_METADATA, _SendMessage(message, 0), _SEND_OK, _RECEIVE_CLOSE), done)

    def finish(
        self,
        code: Code,
        details: str,
        trailing_metadata: Sequence[MetadataItem],
        *,
        done: Callable[[Any], None],
        message: bytes | None = None,
        flags: int = 0,
        headers: Sequence[MetadataItem] | None = (),
        close: bool = True,
    ) -> None:
        """End the call with a status.

        Parameters
        ----------
        details
            The status message, of which 2 KiB are sent.
        trailing_metadata
            If it, or `headers`, cannot be sent, the status is INTERNAL instead, and says why.
        message, flags
            A last message to send before the status.
        headers
            Sent along; None if they have been sent.
        close
            Whether `receive_close` is still to be started.
        """
        operations: list[Any] = []
        kind = "initial"
        try:
            if headers is not None:
                operations.append(_headers(headers))
            kind = "trailing"
            trailing = checked_metadata(trailing_metadata)
        except Internal as error:
            _log.error("%s metadata: %s", kind, error)
            trailing, message, code, details = (), None, error.code, f"{kind} metadata: {error}"
            operations = [] if headers is None else [_SEND_NO_METADATA]
        if message is not None:
            operations.append(_SendMessage(message, flags))
        operations.append(
            cygrpc.SendStatusFromServerOperation(trailing or None, int(code), _shortened(details), 0)
        )
        if close:
            operations.append(_RECEIVE_CLOSE)
        self._start(tuple(operations), done)

    def cancel(self, code: Code = Code.CANCELLED, details: str = "Cancelled") -> None:
        """End the call at once, for both sides. Outstanding operations complete without success."""
        self._call.cancel(int(code), details)

    def _start(self, operations: tuple[Any, ...], tag: Callable[[Any], None]) -> None:
        refusal = self._call.start_server_batch(operations, tag)
        if refusal != _OK:
            names = ", ".join(type(operation).__name__ for operation in operations)
            raise Internal(f"gRPC core refused to start {names}: call error {refusal}")


class CoreServer:
    """gRPC core's server: ports, methods, and the requests for calls that are armed on queues."""

    def __init__(self, options: Sequence[tuple[str, Any]], queues: Sequence[CompletionQueue]) -> None:
        self._core = cygrpc.Server(tuple(options), False)  # no xDS
        for queue in queues:
            self._core.register_completion_queue(queue._core)

    def add_port(self, address: str, credentials: Any = None) -> int:
        """Bind an address; return the port, or 0 when it cannot be bound.

        Parameters
        ----------
        credentials
            `grpc.ServerCredentials` of this port alone; None serves it without TLS.
        """
        try:
            if credentials is None:
                return int(self._core.add_http2_port(address.encode()))
            return int(self._core.add_http2_port(address.encode(), credentials._credentials))
        except RuntimeError:  # what later grpcio raises instead of returning 0
            return 0

    def register_method(self, method: str) -> None:
        """Make `request` of this method possible; only before `start`."""
        self._core.register_method(method)

    def start(self) -> None:
        """Begin to accept connections."""
        self._core.start(backup_queue=False)

    def request(self, method: str | None, queue: CompletionQueue, tag: Callable[[Any], None]) -> bool:
        """Ask for one call of a registered method, or, with None, of any other method.

        `tag` gets an event from which a `ServerCall` is made if `event.success`; otherwise the server is
        shutting down. Returns False, and asks for nothing, when it already is.
        """
        try:
            if method is None:
                self._core.request_call(queue._core, queue._core, tag)
            else:
                self._core.request_registered_call(queue._core, queue._core, method, tag)
        except ValueError:  # started and not shutting down is the only condition that can fail here
            return False
        return True

    def shutdown(self, queue: CompletionQueue, done: Callable[[Any], None]) -> None:
        """Refuse new calls; `done` is called, once, when the last one is over. Later calls do nothing."""
        with contextlib.suppress(ValueError):  # the queue is shut down, since this was done long ago
            self._core.shutdown(queue._core, done)

    def cancel_all_calls(self) -> None:
        """End all calls at once; only after `shutdown`."""
        self._core.cancel_all_calls()

    def destroy(self) -> None:
        """Free the server; only once its shutdown is done."""
        self._core.destroy()


def _headers(metadata: Sequence[MetadataItem]) -> Any:
    return (
        cygrpc.SendInitialMetadataOperation(checked_metadata(metadata), 0) if metadata else _SEND_NO_METADATA
    )


def checked_metadata(metadata: Sequence[MetadataItem]) -> tuple[MetadataItem, ...]:
    """Return metadata that gRPC core takes.

    Raises
    ------
    Internal
        It would not.
    """
    try:
        items = tuple(metadata or ())
    except TypeError:
        raise Internal(f"got {reprlib.repr(metadata)}, expected a sequence of pairs") from None
    for item in items:
        if not _legal(item):
            raise Internal(
                f"got {reprlib.repr(item)}, expected a key of 'a-z0-9_.-' and text of printable ASCII, "
                "or, for a key that ends in '-bin', bytes"
            )
    return items


def _legal(item: Any) -> bool:
    match item:
        case (str(key), str() | bytes() as value) if _KEY.fullmatch(key):
            if key.endswith("-bin"):
                return isinstance(value, bytes)
            return _TEXT.fullmatch(value if isinstance(value, str) else value.decode("latin-1")) is not None
    return False


def _shortened(details: str) -> bytes:
    encoded = details.encode("utf-8", "replace")
    if len(encoded) <= _MAX_DETAILS:
        return encoded
    return encoded[: _MAX_DETAILS - 3].decode("utf-8", "ignore").encode() + b"..."


def compression_header(algorithm: str) -> MetadataItem:
    """Return the header by which core compresses what a call sends: "gzip", "deflate" or "identity"."""
    return (_COMPRESSION_KEY, algorithm)


def seconds_left(deadline: float) -> float:
    """Seconds until a `ServerCall.deadline`; negative once it has passed."""
    return deadline - time.time()
