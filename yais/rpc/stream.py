"""The handle of one stream, and the operations behind it."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import InvalidStateError
from typing import Any, Generic, TypeVar

from yais.core.clock import Deadline
from yais.core.dispatcher import current_dispatcher
from yais.core.future import Future
from yais.errors import Code, Internal, status_of
from yais.rpc.completion_queue import NO_COMPRESS, MetadataItem, ServerCall, checked_metadata
from yais.rpc.executor import Executor
from yais.rpc.method import Method
from yais.rpc.stream_state import Status, StreamState

__all__ = ["Stream", "StreamOwner"]

_log = logging.getLogger("yais.rpc")

ReplyT = TypeVar("ReplyT")

_Message = tuple[bytes, int]  # and its flags

_ids = itertools.count(1)


class StreamOwner:
    """Whom a stream tells what happens to it. This one does not care."""

    trailing_metadata: list[MetadataItem]

    def headers(self) -> Sequence[MetadataItem]:
        """Return the initial metadata to send. Any thread."""
        return ()

    def received(self, message: bytes | None) -> None:
        """Deliver a request, or that there are no more; `Stream.consumed` must follow. Executor's thread."""

    def room(self) -> None:
        """Learn that an answer has gone. Executor's thread."""

    def gone(self) -> None:
        """Note that the caller has gone, before anybody learns of it. Executor's thread."""

    def cancelled(self) -> None:
        """Learn that the caller has gone, after `gone`. Executor's thread."""

    def abandon(self) -> None:
        """Give up what the user's code still does for the stream. Any thread."""

    def over(self) -> None:
        """Learn that nothing is under way any more, once. Executor's thread."""


_NOBODY = StreamOwner()
"""The owner of a stream that is over: a handle keeps nothing else alive."""


class Stream(Generic[ReplyT]):
    """The answering side of one call. Thread-safe; may outlive the callback it was given to.

    A stream stays open until somebody finishes, fails or cancels it or the caller goes away, whether or not
    a handle is still held. One left open when the server stops is closed with UNAVAILABLE and a warning.

    Attributes
    ----------
    id
        Number of the stream, unique in the process.
    """

    def __init__(
        self,
        method: Method,
        call: ServerCall,
        executor: Executor,
        state: StreamState[_Message],
        owner: StreamOwner,
    ) -> None:
        self.id = next(_ids)
        self._method = method
        self._call = call
        self._executor = executor
        self._state = state
        self._owner = owner
        self._headers: Sequence[MetadataItem] | None = None  # once they are fixed
        self._headers_sent = False
        self._lock = threading.Lock()
        self._waiting: list[Future[None]] = []  # writers, for room or for the end
        self._when_deaf: Callable[[], None] | None = None
        self._told = False
        self.code = Code.CANCELLED  # what the status says, once it is on its way

    def __repr__(self) -> str:
        return f"<Stream {self.id} of {self._method.path}: {'open' if self.connected else 'closed'}>"

    @property
    def connected(self) -> bool:
        """Whether `write` has a chance: the stream is not finished and the caller has not gone."""
        return self._state.open

    @property
    def room(self) -> bool:
        """Whether an answer would be taken now."""
        return self._state.room

    def write(self, reply: ReplyT, *, timeout: float | None = None, compress: bool = True) -> bool:
        """Send an answer after those before it; return whether it was taken.

        One answer is on its way at a time, and a bounded number waits (`max_unsent` of the context's class).
        Without room, this waits until there is some, except on an executor's thread, which must not wait
        for itself or for another one that waits for it: there it returns False at once. In a coroutine, where
        waiting would hold up the whole loop, use `awrite`.

        Parameters
        ----------
        timeout
            Seconds to wait for room; None as long as the call lives.
        compress
            False sends this answer uncompressed in a call that is compressed.

        Returns
        -------
        bool
            False if the stream is finished or the caller has gone (`connected` is False then, for good), or
            if there was no room in time. The answer is not sent then.

        Raises
        ------
        Internal
            The answer cannot be encoded: it is not what the RPC replies with. Or it is the first one, and
            the initial metadata cannot be sent. The stream stays open.
        """
        message = self._encoded(reply, compress)
        deadline = Deadline.after(timeout)
        while (room := self._offer(message)) is not None:
            if current_dispatcher() is not None or not room.wait(deadline.remaining()):
                return self._withdraw(room)
            if not self.connected:
                return False
        return True

    async def awrite(self, reply: ReplyT, *, compress: bool = True) -> bool:
        """Send an answer as `write` does; a coroutine that waits for room as long as the call lives."""
        message = self._encoded(reply, compress)
        while (room := self._offer(message)) is not None:
            try:
                await room
            except BaseException:
                self._withdraw(room)
                raise
            if not self.connected:
                return False
        return True

    def finish(self, *, at_once: bool = False) -> bool:
        """End the stream with OK after what was written; return whether it had no end yet.

        No more answers are taken. Requests still arrive until the caller has sent its last one; only then
        does it learn that the stream has ended.

        Parameters
        ----------
        at_once
            Do not wait for the caller's last request: what it still sends is dropped. The status goes out
            when the callback that is running, if any, is done.
        """
        return self._finish(Status(Code.OK), at_once=at_once)

    def fail(self, error: BaseException) -> bool:
        """End the stream with the status of an error, at once; return whether it had no end yet."""
        first = self._finish(Status(*status_of(error)), at_once=True)
        self._owner.abandon()
        return first

    def cancel(self) -> bool:
        """End the call with CANCELLED, dropping what is not sent yet; False if it has ended already.

        No callback begins after this, but for `on_cancel` and `on_finish`.
        """
        with self._lock:
            killed = self._state.kill()
            if killed:
                self._call.cancel()
                self._advance()
        self._wake()
        if killed:
            self._owner.abandon()
        return killed

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Put the end of the stream off while the block lasts, whoever finishes it.

        Answers are not taken after `finish` all the same, and the caller may go away: then the block only
        keeps the context from being used for the next call.
        """
        self.acquire()
        try:
            yield
        finally:
            self.release()

    # From here on: for the life cycle and the contexts of this package.

    def begin(self) -> None:
        """Watch the call for its end."""
        self._call.receive_close(self._on_close)

    def when_deaf(self, function: Callable[[], None]) -> None:
        """Call a function once the stream is to end without its other requests, on any thread."""
        self._when_deaf = function
        if self._state.deaf:
            function()

    def acquire(self) -> None:
        """Begin to hold."""
        with self._lock:
            self._state.hold()

    def release(self) -> None:
        """End one hold."""
        with self._lock:
            self._state.release()
            self._advance()

    def consumed(self) -> None:
        """Go on: the user has done with what was delivered."""
        with self._lock:
            self._state.consumed()
            self._advance()

    def answer(self, reply: ReplyT) -> None:
        """Take an answer whether or not there is room; it goes out at the next `consumed` or `go_on`."""
        message = self._encoded(reply, compress=True)
        with self._lock:
            self._state.offer(message, always=True)

    def go_on(self) -> None:
        """Begin to send what was taken."""
        with self._lock:
            self._advance()

    def _encoded(self, reply: ReplyT, compress: bool) -> _Message:
        try:
            message = self._method.encode(reply)
        except BaseException as error:
            _log.exception("%s: cannot encode the reply", self._method.path)
            details = f"{self._method.path}: cannot encode the reply: {status_of(error)[1]}"
            raise Internal(details) from error
        if self._headers is None:
            try:
                self._headers = checked_metadata(self._owner.headers())
            except Internal as error:
                raise Internal(f"initial metadata: {error}") from None
        return message, 0 if compress else NO_COMPRESS

    def _offer(self, message: _Message) -> Future[None] | None:
        """Take a message: None if taken, else a future that is done when that may have changed."""
        with self._lock:
            if self._state.offer(message):
                self._advance()
                return None
            future: Future[None] = Future()
            if self._state.open:
                self._waiting.append(future)
            else:
                future.set_result(None)
            return future

    def _withdraw(self, room: Future[None]) -> bool:
        with self._lock, contextlib.suppress(ValueError):
            self._waiting.remove(room)
        return False

    def _finish(self, status: Status, *, at_once: bool) -> bool:
        with self._lock:
            first = self._state.finish(status, at_once=at_once)
            self._advance()
        self._wake()
        if at_once and self._when_deaf is not None:
            self._when_deaf()
        return first

    def _wake(self) -> None:
        if self._waiting:
            with self._lock:
                waiting, self._waiting = self._waiting, []
            for future in waiting:
                with contextlib.suppress(InvalidStateError):  # cancelled with the task that awaited it
                    future.set_result(None)

    def _advance(self) -> None:
        """Start what is to start; with the lock held."""
        read, write, status = self._state.next()
        if status is not None:
            self._end(status, write)
        elif write is not None:
            message, flags = write
            headers = self._unsent_headers()
            if read and self._method.lockstep:
                self._call.exchange(message, headers=headers, flags=flags, done=self._on_exchange)
                return
            self._call.send_message(message, headers=headers, flags=flags, done=self._on_sent)
        if read:
            self._call.receive_message(self._on_message)

    def _end(self, status: Status, write: _Message | None) -> None:
        message, flags = write if write is not None else (None, 0)
        self.code = status.code
        self._call.finish(
            status.code,
            status.details,
            self._owner.trailing_metadata,
            done=self._on_status_sent if write is None else self._on_last_sent,
            message=message,
            flags=flags,
            headers=self._unsent_headers(),
            close=False,
        )

    def _unsent_headers(self) -> Sequence[MetadataItem] | None:
        if self._headers_sent:
            return None
        self._headers_sent = True
        return self._owner.headers() if self._headers is None else self._headers

    # What gRPC tells, on the executor's thread.

    def _on_message(self, message: bytes | None) -> None:
        with self._lock:
            deliver = self._state.received(message=message is not None)
            if not deliver:
                self._advance()
        self._pass_on(message, deliver)

    def _on_exchange(self, _success: bool, message: bytes | None) -> None:
        with self._lock:
            self._state.sent()
            deliver = self._state.received(message=message is not None)
            if not deliver:
                self._advance()
        self._pass_on(message, deliver)

    def _pass_on(self, message: bytes | None, deliver: bool) -> None:
        if not deliver:
            self._changed()
        elif message is None:
            # A cancelled call has no more messages either; that it is cancelled is mostly the next event.
            self._executor.when_drained(self._deliver_end)
        else:
            self._owner.received(message)

    def _deliver_end(self) -> None:
        if self._state.deaf:
            self.consumed()
        else:
            self._owner.received(None)

    def _on_sent(self, _success: bool) -> None:
        with self._lock:
            self._state.sent()
            self._advance()
        # Not for every single place: while many are unsent one is on its way, and this will be called again.
        if self._state.roomy:
            self._wake()
            self._owner.room()
        self._changed()

    def _on_last_sent(self, event: Any) -> None:
        with self._lock:
            self._state.sent()
        self._on_status_sent(event)

    def _on_status_sent(self, _event: Any) -> None:
        with self._lock:
            self._state.status_sent()
        self._changed()

    def _on_close(self, cancelled: bool) -> None:
        with self._lock:
            self._state.close(cancelled=cancelled)
            self._advance()
        if cancelled:
            self._owner.gone()  # known to those who are woken
        self._wake()
        if cancelled:
            self._owner.cancelled()
        self._changed()

    def _changed(self) -> None:
        if self._state.over and not self._told:
            self._told = True
            owner, self._owner = self._owner, _NOBODY
            owner.over()
