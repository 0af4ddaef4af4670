"""The caller's side of an RPC with many replies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from yais.core.future import Future
from yais.errors import Code, FailedPrecondition, status_of
from yais.rpc.client.method import ClientMethod
from yais.rpc.client.status import Status
from yais.rpc.completion_queue import MetadataItem
from yais.rpc.core_channel import CoreCall, CoreChannel, CoreStatus
from yais.rpc.metadata import Metadata

__all__ = ["ReplyStream"]

Reply = TypeVar("Reply")

_log = logging.getLogger("yais.rpc")


class ReplyStream(Generic[Reply]):
    """A call with many replies, iterated with `for` or `async for`. Thread-safe; a context manager.

    Several threads and tasks may iterate: each reply goes to one of them. Iterating raises the error of a
    status other than OK, after the replies that came before it. At most `max_replies` replies are kept; the
    next is received when there is room, and a server that is not read from has to wait. A call whose replies
    nobody reads therefore ends only with its deadline, or `cancel`.

    Leaving a `with` block cancels the call if it is not over. A call that is neither ended nor cancelled
    lives until its deadline, whether or not the stream is still referenced.

    Attributes
    ----------
    initial_metadata
        A future of the headers of the answer; empty if it ended without.
    status
        A future of the `Status`, which never fails: `status.result().check()` raises the error. It is done
        after the last reply was received. Cancelling either future does nothing.
    """

    def __init__(
        self,
        channel: CoreChannel,
        method: ClientMethod,
        on_reply: Callable[[Reply], object] | None,
        max_replies: int,
    ) -> None:
        self.initial_metadata: Future[Metadata] = Future()
        self.initial_metadata.set_running_or_notify_cancel()
        self.status: Future[Status] = Future()
        self.status.set_running_or_notify_cancel()
        self._call = CoreCall(channel)
        self._method = method
        self._on_reply = on_reply
        self._max_replies = max_replies
        self._replies: deque[Reply] = deque()
        self._receiving = False
        self._ended: Status | None = None
        self._failure: Status | None = None  # ours, and then the status whatever gRPC core makes of it
        self._lock = threading.Lock()  # taken by itself, which is cheaper than by the condition
        self._changed = threading.Condition(self._lock)
        self._waiting = 0  # threads
        self._awaiting: list[asyncio.Future[None]] = []

    def __repr__(self) -> str:
        ended = self._ended
        state = "open" if ended is None else f"ended with {ended.code.name}"
        return f"<{type(self).__name__} {self._method.path}: {state}, {len(self._replies)} replies unread>"

    def _open(self, message: bytes | None, options: dict[str, Any]) -> None:
        self._call.open(
            self._method.core_path,
            message=message,
            on_headers=self._headers_received,
            on_status=self._status_received,
            **options,
        )
        with self._lock:
            self._receive()

    @property
    def over(self) -> bool:
        """Whether the call has ended; replies may still be unread."""
        return self._ended is not None

    def cancel(self) -> None:
        """End the call; the server is told. Nothing happens when it is over."""
        self._call.cancel(Code.CANCELLED, "cancelled by the caller")

    def __enter__(self) -> Self:
        """Return the stream itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel the call if it is not over."""
        self.cancel()

    async def __aenter__(self) -> Self:
        """Return the stream itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel the call if it is not over."""
        self.cancel()

    def __iter__(self) -> Self:
        """Return the stream itself."""
        self._check_iterable()
        return self

    def __next__(self) -> Reply:
        """Wait for the next reply, as long as the call lives."""
        self._check_iterable()
        with self._lock:
            if not self._readable():
                self._check_may_wait()
                self._wait(self._readable, None)
            if self._replies:
                return self._pop()
            ended = self._ended
        assert ended is not None
        ended.check()
        raise StopIteration

    def __aiter__(self) -> Self:
        """Return the stream itself."""
        self._check_iterable()
        return self

    async def __anext__(self) -> Reply:
        """Wait for the next reply, as long as the call lives."""
        self._check_iterable()
        while True:
            with self._lock:
                if self._replies:
                    return self._pop()
                ended = self._ended
                if ended is not None and not self._receiving:
                    break
                change = self._next_change()
            await change
        ended.check()
        raise StopAsyncIteration

    def _check_iterable(self) -> None:
        if self._on_reply is not None:
            raise FailedPrecondition("the replies of this stream go to on_reply, expected none to iterate")

    def _check_may_wait(self) -> None:
        if self._call.channel.on_thread:
            raise FailedPrecondition("a callback must not wait for a call of its own connection")

    # What follows is called with the lock held.

    def _readable(self) -> bool:
        return bool(self._replies) or (self._ended is not None and not self._receiving)

    def _pop(self) -> Reply:
        reply = self._replies.popleft()
        self._receive()
        return reply

    def _receive(self) -> None:
        if not self._receiving and self._ended is None and len(self._replies) < self._max_replies:
            self._receiving = self._call.receive(self._received)

    def _next_change(self) -> asyncio.Future[None]:
        change: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaiting.append(change)
        return change

    def _wait(self, until: Callable[[], bool], timeout: float | None) -> None:
        self._waiting += 1
        try:
            self._changed.wait_for(until, timeout)
        finally:
            self._waiting -= 1

    def _announce(self) -> None:
        if self._waiting:
            self._changed.notify_all()
        if not self._awaiting:
            return
        awaiting, self._awaiting = self._awaiting, []
        for change in awaiting:
            with contextlib.suppress(RuntimeError):  # its loop is closed
                change.get_loop().call_soon_threadsafe(_wake, change)

    # What follows runs on the channel's thread.

    def _received(self, message: bytes | None) -> None:
        if message is None:
            with self._lock:
                self._receiving = False
                self._announce()
        else:
            self._deliver(message)
        self._settle()

    def _deliver(self, message: bytes) -> None:
        try:
            reply = self._method.decode(message)
            if self._on_reply is not None:
                self._on_reply(reply)
        except BaseException as error:
            self._fail(error)
            return
        with self._lock:
            self._receiving = False
            if self._on_reply is None:
                self._replies.append(reply)
            self._receive()
            self._announce()

    def _fail(self, error: BaseException) -> None:
        _log.error("%s: a reply could not be delivered", self._method.path, exc_info=error)
        code, text = status_of(error)
        with self._lock:
            self._failure = Status(code, text)
            self._receiving = False
            if self._ended is not None:
                self._ended = self._failure
            self._announce()
        self._call.cancel(code, text)

    def _headers_received(self, metadata: Sequence[MetadataItem]) -> None:
        self.initial_metadata.set_result(Metadata(metadata))

    def _status_received(self, status: CoreStatus) -> None:
        with self._lock:
            self._ended = self._failure or Status.of(status)
            self._announce()
        self._settle()

    def _settle(self) -> None:
        # No lock: once the call has ended no receive starts, and only this thread ends one.
        if self._ended is not None and not self._receiving and not self.status.done():
            self.status.set_result(self._ended)


def _wake(change: asyncio.Future[None]) -> None:
    if not change.done():
        change.set_result(None)
