"""gRPC core's client, seen from Python: a channel whose events one thread of its own takes.

The twin of `yais.rpc.completion_queue`, and the only other file that touches `grpc._cython.cygrpc`. It
stands on what grpcio's own blocking client stands on (`cygrpc.Channel.integrated_call`), without that
client's thread for every request iterator. Why not on a public client: benchmarks/client.py.

Traps it keeps from the rest of the package:

- Polling a channel that is being closed reads freed memory, so the thread polls only while operations are
  outstanding: closing waits for those.
- A refused batch is never freed. What can be refused, metadata, is checked before.
- An event may come before the function that starts the call has returned. Callbacks run only after it.
- A signal's exception (KeyboardInterrupt) may come out of the function that starts operations, whether or not
  it has started them. Their events are then not counted on, but taken when they come.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import grpc

from yais.core.thread_pool import name_thread
from yais.errors import Code, FailedPrecondition
from yais.rpc.completion_queue import MetadataItem

# After completion_queue, which has set what gRPC reads on its first import.
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # isort: skip

__all__ = ["BUFFER", "WAIT_FOR_READY", "CoreCall", "CoreChannel", "CoreStatus"]

_log = logging.getLogger("yais.rpc")

BUFFER: int = cygrpc.WriteFlag.buffer_hint
"""Flag of a message that may stay in memory until the next one without it."""

WAIT_FOR_READY: int = (
    cygrpc.InitialMetadataFlags.wait_for_ready | cygrpc.InitialMetadataFlags.wait_for_ready_explicitly_set
)
"""Flag of headers: wait for a connection until the deadline instead of failing with UNAVAILABLE."""

_UNSURE_FOR = 1.0
"""Seconds that core takes to close, at most, when nothing is in flight. When it takes longer, what may have
been started has been, and core waits for its events."""

_CODES = {int(code): code for code in Code}

# Operations without contents of their own are shared by all calls, as in completion_queue.py.
_CLOSE = cygrpc.SendCloseFromClientOperation(0)

_SendInitialMetadata = cygrpc.SendInitialMetadataOperation
_SendMessage = cygrpc.SendMessageOperation
_ReceiveInitialMetadata = cygrpc.ReceiveInitialMetadataOperation
_ReceiveMessage = cygrpc.ReceiveMessageOperation
_ReceiveStatus = cygrpc.ReceiveStatusOnClientOperation


class CoreStatus(NamedTuple):
    """How a call ended."""

    code: Code
    message: str
    trailing_metadata: Sequence[MetadataItem]


class CoreChannel:
    """One connection to a server, and the thread that runs the callbacks of its calls. Thread-safe.

    The thread starts with the first call and ends with `close`.
    """

    def __init__(
        self, target: str, options: Sequence[tuple[str, Any]], credentials: grpc.ChannelCredentials | None
    ) -> None:
        agent = ("grpc.primary_user_agent", f"yais grpc-python/{grpc.__version__}")
        core_credentials = None if credentials is None else cast(Any, credentials)._credentials
        self._core = cygrpc.Channel(target.encode(), (*options, agent), core_credentials)
        self._target = target
        self._lock = threading.Lock()  # taken by itself, which is cheaper than by the condition
        self._changed = threading.Condition(self._lock)
        self._outstanding = 0
        # Tags of what may have been started; not in the number above.
        self._unsure: set[Callable[[Any], None]] = set()
        self._expected = 0  # 1 while one event of those is counted on, in _outstanding
        self._closing = False
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def on_thread(self) -> bool:
        """Whether the caller is the channel's own thread, which must not wait for a call of the channel."""
        return self._thread is not None and threading.get_ident() == self._thread.ident

    def begin(
        self,
        method: bytes,
        at: float | None,
        batches: Sequence[tuple[tuple[Any, ...], Callable[[Any], None]]],
        call: CoreCall,
    ) -> None:
        """Start a call with its first operations; see `CoreCall`."""
        with self._lock:
            if self._closing:
                raise FailedPrecondition(f"the channel to {self._target} is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._poll, name="yais-client", daemon=True)
                self._thread.start()
            elif not self._outstanding:
                self._changed.notify()
            outstanding = self._outstanding
            try:
                # No census context, no registered handle: both are conveniences of grpcio's own client.
                call.core = self._core.integrated_call(0, method, None, at, None, None, batches, None, None)
                self._outstanding += len(batches)
            except BaseException:
                self._outstanding = outstanding
                self._unsure.update(tag for _, tag in batches)
                raise

    def start(self, core: Any, operations: tuple[Any, ...], tag: Callable[[Any], None]) -> bool:
        """Start operations of a call that has begun; False, and nothing is started, when it is over."""
        with self._lock:
            outstanding = self._outstanding
            try:
                if not core.operate(operations, tag):
                    return False
                self._outstanding += 1
            except BaseException:
                self._outstanding = outstanding
                self._unsure.add(tag)
                raise
            return True

    def close(self, message: str) -> None:
        """Cancel what is in flight, and wait until all callbacks have run.

        On the channel's own thread it does not wait: the rest happens behind it.
        """
        with self._lock:
            first, self._closing = not self._closing, True
        if self.on_thread:
            if first:
                threading.Thread(target=self._finish, args=(message,), daemon=True).start()
            return
        self._finish(message)

    def _finish(self, message: str) -> None:
        self._close_core(message)  # waits; a second call waits for the first
        with self._lock:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _close_core(self, message: str) -> None:
        if not self._unsure:
            self._core.close(int(Code.CANCELLED), message)
            return
        closing = threading.Thread(target=self._core.close, args=(int(Code.CANCELLED), message), daemon=True)
        closing.start()
        while closing.is_alive():
            closing.join(_UNSURE_FOR)
            with self._lock:
                if closing.is_alive() and not self._outstanding:
                    self._outstanding = self._expected = 1
                    self._changed.notify()

    def _poll(self) -> None:
        name_thread("yais-client")
        next_event = self._core.next_call_event
        lock = self._lock
        while True:
            if not self._outstanding:
                with lock:
                    while not self._outstanding:
                        if self._closed:
                            return
                        self._changed.wait()
            event = next_event()
            tag = event.tag
            if tag is None:  # nothing came for a while
                continue
            with lock:
                if self._unsure and tag in self._unsure:
                    self._unsure.discard(tag)
                    self._outstanding -= self._expected
                    self._expected = 0
                else:
                    self._outstanding -= 1
            try:
                tag(event)
            except BaseException:  # SystemExit, too, must not end the thread that all calls need
                _log.exception("unexpected error in the callback of a call")
            # Not kept while the thread waits: they hold the call and its messages.
            del event, tag


class CoreCall:
    """One call of a channel. Operations may be started from any thread, each kind once at a time.

    Callbacks run on the channel's thread. Metadata must have been checked.
    """

    __slots__ = ("_headers", "channel", "core")

    core: Any

    def __init__(self, channel: CoreChannel) -> None:
        self.channel = channel
        self._headers: tuple[Any, ...] = ()  # the operation that is still to be started, if it is

    def unary(
        self,
        method: bytes,
        message: bytes,
        *,
        at: float | None,
        metadata: Sequence[MetadataItem],
        flags: int,
        done: Callable[[bytes | None, CoreStatus, Sequence[MetadataItem]], None],
    ) -> None:
        """Call a unary method.

        Parameters
        ----------
        method
            "/package.Service/Method".
        at
            Deadline in seconds of `time.time`; None for none.
        flags
            Of the headers.
        done
            Gets the reply, which is None without one, the status, and the server's headers.

        Raises
        ------
        FailedPrecondition
            The channel is closed.
        """
        headers, reply, status = _ReceiveInitialMetadata(0), _ReceiveMessage(0), _ReceiveStatus(0)
        send = (_SendInitialMetadata(metadata, flags), _SendMessage(message, 0), _CLOSE)

        def finish(_event: Any) -> None:
            done(reply.message(), _status(status), headers.initial_metadata() or ())

        self.channel.begin(method, at, (((*send, headers, reply, status), finish),), self)

    def open(
        self,
        method: bytes,
        *,
        message: bytes | None = None,
        at: float | None,
        metadata: Sequence[MetadataItem],
        flags: int,
        corked: bool = False,
        on_headers: Callable[[Sequence[MetadataItem]], None],
        on_status: Callable[[CoreStatus], None],
    ) -> None:
        """Begin a call with many replies, or many requests. See `unary`.

        Parameters
        ----------
        message
            The one request; None if they will be sent with `send`.
        corked
            Send the headers with the first message, or the half-close.
        """
        headers, status = _ReceiveInitialMetadata(0), _ReceiveStatus(0)
        batches: list[tuple[tuple[Any, ...], Callable[[Any], None]]] = [
            ((status,), lambda _event: on_status(_status(status))),
            ((headers,), lambda _event: on_headers(headers.initial_metadata() or ())),
        ]
        first: tuple[Any, ...] = (_SendInitialMetadata(metadata, flags),)
        if corked:
            self._headers = first
        else:
            if message is not None:
                first = (*first, _SendMessage(message, 0), _CLOSE)
            batches.append((first, _ignore))
        self.channel.begin(method, at, tuple(batches), self)

    def receive(self, done: Callable[[bytes | None], None]) -> bool:
        """Receive the next message, None when there is none left; False if the call is over."""
        operation = _ReceiveMessage(0)
        return self.channel.start(self.core, (operation,), lambda _event: done(operation.message()))

    def send(self, message: bytes, flags: int, *, last: bool, done: Callable[[bool], None]) -> bool:
        """Send a message, and with `last` that there are no more; False if the call is over.

        `done` is told whether the call was still connected.
        """
        operations = (*self._headers, _SendMessage(message, flags))
        self._headers = ()
        if last:
            operations = (*operations, _CLOSE)
        return self.channel.start(self.core, operations, lambda event: done(event.success))

    def half_close(self) -> bool:
        """Tell the server that there are no more messages; False if the call is over."""
        operations, self._headers = (*self._headers, _CLOSE), ()
        return self.channel.start(self.core, operations, _ignore)

    def cancel(self, code: Code, message: str) -> None:
        """End the call with a status of our own, unless it has one already."""
        self.core.cancel(int(code), message)


def _ignore(_event: Any) -> None:
    pass


def _status(operation: Any) -> CoreStatus:
    code = _CODES.get(operation.code(), Code.UNKNOWN)
    return CoreStatus(code, operation.details() or "", operation.trailing_metadata() or ())
