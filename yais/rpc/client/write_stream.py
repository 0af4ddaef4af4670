"""The caller's side of an RPC with many requests."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from yais.core.future import Future
from yais.rpc.client.method import ClientMethod
from yais.rpc.client.reply_stream import ReplyStream
from yais.rpc.client.status import Status
from yais.rpc.core_channel import BUFFER, CoreChannel, CoreStatus

__all__ = ["WriteStream"]

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class WriteStream(ReplyStream[Reply], Generic[Request, Reply]):
    """A call with many requests, and one reply or many; see `ReplyStream`. Thread-safe.

    At most `max_unsent` messages wait to be sent: a writer that is faster than the server waits for room.
    Messages that wait together leave together. While the stream is corked, nothing leaves, the headers of a
    stream that was opened so included, until `uncork`, `done`, or `max_unsent` messages wait.
    """

    def __init__(
        self,
        channel: CoreChannel,
        method: ClientMethod,
        on_reply: Callable[[Reply], object] | None,
        max_replies: int,
        max_unsent: int,
        corked: bool,
    ) -> None:
        super().__init__(channel, method, on_reply, max_replies)
        self._max_unsent = max_unsent
        self._corked = corked
        self._unsent: deque[bytes] = deque()
        self._released = 0  # of the unsent messages, how many may leave
        self._sending = False
        self._half_closed = False
        self._close_sent = False
        self._broken = False

    def _open(self, message: bytes | None, options: dict[str, Any]) -> None:
        super()._open(message, {**options, "corked": self._corked})

    def write(self, message: Request, timeout: float | None = None) -> bool:
        """Send a message, waiting for room for it.

        Parameters
        ----------
        timeout
            Seconds to wait for room; None for as long as the call lives. In a callback of the same
            connection it never waits.

        Returns
        -------
        bool
            Whether the message was taken. False when the call is over, or `done`, or there was no room.

        Raises
        ------
        InvalidArgument
            The message is no bytes where bytes are wanted. What `serialize` raises goes to the caller.
        """
        data = self._method.encode(message)
        with self._lock:
            if not self._decided() and not self._call.channel.on_thread:
                self._wait(self._decided, timeout)
            return self._take(data)

    async def awrite(self, message: Request) -> bool:
        """Send a message, waiting in asyncio for room for it, as long as the call lives; see `write`."""
        data = self._method.encode(message)
        while True:
            with self._lock:
                if self._decided():
                    return self._take(data)
                change = self._next_change()
            await change

    def cork(self) -> None:
        """Keep what is written from now on until `uncork`."""
        with self._lock:
            self._corked = True

    def uncork(self) -> None:
        """Let what was written leave together, and send at once from now on."""
        with self._lock:
            self._corked = False
            self._release()

    def done(self) -> Future[Status]:
        """Tell the server that there are no more messages, and return `status`. May be called again."""
        with self._lock:
            self._half_closed = True
            self._release()
            self._announce()
        return self.status

    # What follows is called with the lock held.

    def _writable(self) -> bool:
        return not (self._half_closed or self._broken or self._ended is not None)

    def _decided(self) -> bool:
        return len(self._unsent) < self._max_unsent or not self._writable()

    def _take(self, data: bytes) -> bool:
        if len(self._unsent) >= self._max_unsent or not self._writable():
            return False
        self._unsent.append(data)
        if not self._corked or len(self._unsent) == self._max_unsent:
            self._release()
        return True

    def _release(self) -> None:
        self._released = len(self._unsent)
        self._send()

    def _send(self) -> None:
        if self._sending or self._close_sent:
            return
        if self._released:
            message = self._unsent.popleft()
            self._released -= 1
            self._close_sent = self._half_closed and not self._unsent
            flags = BUFFER if self._released else 0
            self._sending = self._call.send(message, flags, last=self._close_sent, done=self._sent)
            if not self._sending:
                self._break()
        elif self._half_closed:
            self._close_sent = True
            self._call.half_close()

    def _break(self) -> None:
        self._broken = True
        self._unsent.clear()
        self._released = 0

    # What follows runs on the channel's thread.

    def _sent(self, connected: bool) -> None:
        with self._lock:
            self._sending = False
            if connected:
                self._send()
            else:
                self._break()
            self._announce()

    def _status_received(self, status: CoreStatus) -> None:
        with self._lock:
            self._break()
        super()._status_received(status)
