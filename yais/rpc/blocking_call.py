"""A call in grpcio's blocking style, for servicers mounted on a server."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import grpc

from yais.errors import Code
from yais.rpc.completion_queue import NO_COMPRESS, MetadataItem, ServerCall, compression_header, seconds_left
from yais.rpc.executor import Executor
from yais.rpc.interceptor import Interception

__all__ = ["BlockingCall", "CallCancelled"]

_log = logging.getLogger("yais.rpc")


class CallCancelled(grpc.RpcError):
    """Ends a servicer method that reads the requests of a cancelled call, as grpcio does."""


class BlockingCall:
    """One call in blocking style: an operation is started and its completion waited for.

    Also a `grpc.HandlerCallDetails`: method and metadata.

    Attributes
    ----------
    compression
        How what is sent is compressed, "gzip" or "deflate", if set before the headers are sent; None is what
        the server does by default.
    compress_next
        False sends the next message as it is.
    """

    def __init__(self, call: ServerCall, executor: Executor, live: set[BlockingCall]) -> None:
        self.call = call
        self.method = call.method
        self.invocation_metadata = call.metadata
        self.active = True
        self.headers_sent = False
        self.parked = False  # open, while no thread serves it
        self.compression: str | None = None
        self.compress_next = True
        self._executor = executor
        self._live = live
        self._changed = threading.Condition()
        self._callbacks: list[Callable[[], None]] = []
        self._ended = False
        self._sending = False
        self._unsent: list[tuple[bytes, int]] = []  # messages and their flags
        self._end_wanted: tuple[Code, str, Sequence[MetadataItem], bytes | None, int] | None = None
        self._due = 2  # the close and the status
        self._cancelled = False
        self._code = Code.CANCELLED  # what the status says, once it is on its way
        self.interception: Interception | None = None
        live.add(self)
        executor.occupy()
        call.receive_close(self._on_close)

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Have `callback` called when the call is over; False if it is already."""
        with self._changed:
            if not self.active:
                return False
            self._callbacks.append(callback)
            return True

    def receive(self) -> bytes | None:
        """Wait for the next message; None when there is none left. The call's deadline bounds the wait.

        Raises
        ------
        grpc.RpcError
            The call is over: a request stream that was cut short should not look like a whole one. As
            with grpcio it may, if core tells of the cancellation later than of the end of the stream.
        """
        box: list[bytes | None] = []

        def done(message: bytes | None) -> None:
            if message is None:
                # A cancelled call, too, has no more messages; that it is cancelled is mostly the next event.
                self._executor.when_drained(lambda: deliver(None))
            else:
                deliver(message)

        def deliver(message: bytes | None) -> None:
            with self._changed:
                box.append(message)
                self._changed.notify_all()

        with self._changed:
            if self.active:
                self.call.receive_message(done)
                self._changed.wait_for(lambda: bool(box) or not self.active)
            if not self.active:
                raise CallCancelled
        return box[0]

    @property
    def cancelled(self) -> bool:
        """Whether the call is over without a status of this side having ended it."""
        return self._cancelled

    @property
    def ending(self) -> bool:
        """Whether the status is decided."""
        return self._end_wanted is not None

    def send(self, message: bytes) -> bool:
        """Send a message once those before it have gone; False when the call is over."""
        with self._changed:
            flags = self._next_flags()
            self._changed.wait_for(lambda: not (self._sending or self._unsent) or not self.active)
            return self._send(message, flags)

    def send_later(self, message: bytes) -> None:
        """Send a message after those before it, without waiting."""
        with self._changed:
            flags = self._next_flags()
            if self._sending:
                self._unsent.append((message, flags))
            else:
                self._send(message, flags)

    def _send(self, message: bytes, flags: int) -> bool:
        if not self.active or self._ended:
            return False
        self.call.send_message(message, headers=self._headers(), flags=flags, done=self._on_sent)
        self._sending = self.headers_sent = True
        return True

    def send_initial_metadata(self, metadata: Sequence[MetadataItem]) -> None:
        """Send the headers.

        Raises
        ------
        ValueError
            They have been sent.
        grpc.RpcError
            The call is cancelled.
        """
        with self._changed:
            if self._cancelled:
                raise CallCancelled
            if self.headers_sent:
                raise ValueError("Initial metadata no longer allowed!")
            if self.active and not self._ended:
                headers = self._headers()
                self.call.send_initial_metadata((*headers, *metadata) if headers else metadata, self._on_sent)
                self._sending = self.headers_sent = True

    def _headers(self) -> Sequence[MetadataItem] | None:
        """Return the headers to send along; None if they have been sent."""
        if self.headers_sent:
            return None
        return () if self.compression is None else (compression_header(self.compression),)

    def _next_flags(self) -> int:
        flags = 0 if self.compress_next else NO_COMPRESS
        self.compress_next = True
        return flags

    def end(
        self, code: Code, details: str, trailing: Sequence[MetadataItem] = (), message: bytes | None = None
    ) -> None:
        """End the call, once; a second end is ignored."""
        with self._changed:
            if self._end_wanted is not None:
                return
            self._end_wanted = (code, details, trailing, message, self._next_flags())
            if not self._sending:
                self._end()

    def _end(self) -> None:
        assert self._end_wanted is not None
        self._ended = True
        code, details, trailing, message, flags = self._end_wanted
        self._code = code
        # What is no sequence is left to `finish`, which says so.
        if self.interception is not None and isinstance(trailing, Iterable):
            trailing = (*self.interception.call.trailing_metadata, *trailing)
        self.call.finish(
            code,
            details,
            trailing,
            done=self._on_ended,
            message=message,
            flags=flags,
            headers=self._headers(),
            close=False,
        )

    def _on_sent(self, success: bool) -> None:
        with self._changed:
            self._sending = False
            if not (success and self.active):
                self._unsent.clear()
            if self._unsent:
                self._send(*self._unsent.pop(0))
            elif self._end_wanted is not None:
                self._end()
            self._changed.notify_all()

    def _on_close(self, cancelled: bool) -> None:
        with self._changed:
            self.active = False
            self._cancelled = cancelled
            callbacks, self._callbacks = self._callbacks, []
            self._changed.notify_all()
        for callback in callbacks:
            try:
                callback()
            except BaseException:
                _log.exception("a callback of %s raised", self.method)
        self.end(Code.CANCELLED, "Cancelled")  # unless it was ended: then this is the end's echo
        self._release()

    def _on_ended(self, _event: Any) -> None:
        self._release()

    def _release(self) -> None:
        self._due -= 1  # both on the executor's thread
        if not self._due:
            self._live.discard(self)
            if self.interception is not None:
                self.interception.end(self._outcome())
            self._executor.vacate()

    def _outcome(self) -> Code:
        if not self._cancelled:
            return self._code
        return Code.DEADLINE_EXCEEDED if seconds_left(self.call.deadline) <= 0 else Code.CANCELLED
