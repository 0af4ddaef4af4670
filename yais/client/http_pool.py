"""Requests over HTTP/1.1, many in flight: each has a connection to itself, and leaves it to the next."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable

from yais.client.http_connection import HttpConnection, HttpReply
from yais.client.http_peer import HttpPeer
from yais.client.transport import tell
from yais.core.loop_thread import LoopThread
from yais.errors import Code, FailedPrecondition

__all__ = ["HttpDone", "HttpPool"]

HttpDone = Callable[[Code, str, HttpReply | None], None]
"""Told how a request ended: OK with a response, whatever its status, or why there is none."""

_CLOSED = "the client was closed"

_PATIENCE = 30.0  # seconds that callbacks of what is ended are given


class _Exchange:
    __slots__ = ("connection", "done", "due", "opening", "request")

    def __init__(self, request: bytes, done: HttpDone) -> None:
        self.request = request
        self.done = done
        self.due = 0.0
        self.connection: HttpConnection | None = None
        self.opening: asyncio.Task[None] | None = None


class HttpPool:
    """Connections to one server, kept alive, as many as there are requests in flight. Thread-safe.

    Parameters
    ----------
    loop
        Where they live; `done` is called on its thread.
    peer
        The server.
    timeout
        Seconds a request may take, with the time it takes to connect.
    most
        Connections; requests above it wait for one.
    """

    def __init__(self, loop: LoopThread, peer: HttpPeer, timeout: float, most: int = 1000) -> None:
        self._loop = loop
        self._peer = peer
        self._timeout = timeout
        self._most = most
        self._lock = threading.Lock()
        self._closed = False
        self._given: deque[_Exchange] = deque()
        self._woken = False
        # What follows belongs to the loop's thread.
        self._live: dict[_Exchange, None] = {}  # in the order in which they are due
        self._waiting: deque[_Exchange] = deque()
        self._idle: list[HttpConnection] = []
        self._serving: dict[HttpConnection, _Exchange] = {}
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def send(self, request: bytes, done: HttpDone) -> None:
        """Send a request as it is on the wire; returns at once.

        Raises
        ------
        FailedPrecondition
            The pool is closed.
        """
        exchange = _Exchange(request, done)
        with self._lock:
            if self._closed:
                raise FailedPrecondition(f"the connections to {self._peer} are closed")
            if not self._loop.on_thread:
                self._given.append(exchange)
                if not self._woken:
                    self._woken = True
                    self._loop.call_soon(self._take)
                return
        self._begin(exchange)

    def close(self) -> None:
        """End what is in flight with CANCELLED and disconnect; wait for it, but on the loop's own thread."""
        with self._lock:
            first, self._closed = not self._closed, True
        if self._loop.on_thread:
            self._end_all()
        elif first:
            self._loop.spawn(self._ending()).result(_PATIENCE)

    # What follows runs on the loop's thread.

    async def _ending(self) -> None:
        self._end_all()

    def _end_all(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for connection in self._idle:
            connection.abort()
        self._idle.clear()
        self._live.update(dict.fromkeys(self._given))
        self._given.clear()
        for exchange in list(self._live):
            self._give_up(exchange)
            self._end(exchange, Code.CANCELLED, _CLOSED)

    def _take(self) -> None:
        self._woken = False  # before the first is taken: one that is given meanwhile wakes again
        while self._given:
            self._begin(self._given.popleft())

    def _begin(self, exchange: _Exchange) -> None:
        loop = asyncio.get_running_loop()
        exchange.due = loop.time() + self._timeout
        self._live[exchange] = None
        if self._timer is None:
            self._timer = loop.call_at(exchange.due, self._end_overdue)
        while self._idle:
            connection = self._idle.pop()
            if connection.open:  # else it is about to tell that it is lost
                self._serve(connection, exchange)
                return
        if self._count < self._most:
            self._count += 1
            exchange.opening = loop.create_task(self._open(exchange))
        else:
            self._waiting.append(exchange)

    def _serve(self, connection: HttpConnection, exchange: _Exchange) -> None:
        self._serving[connection] = exchange
        exchange.connection = connection
        connection.begin(exchange.request)

    async def _open(self, exchange: _Exchange) -> None:
        try:
            connection = await self._peer.connect()
        except (OSError, UnicodeError) as error:
            exchange.opening = None
            self._lost()
            self._end(exchange, Code.UNAVAILABLE, f"cannot connect: {error}")
        else:
            exchange.opening = None
            connection.watch(self._ended)
            self._serve(connection, exchange)

    def _ended(self, connection: HttpConnection, reply: HttpReply | None, why: str) -> None:
        exchange = self._serving.pop(connection, None)
        if reply is not None and exchange is not None and connection.reusable:
            self._free(connection)
        else:
            with contextlib.suppress(ValueError):
                self._idle.remove(connection)
            connection.abort()
            self._lost()
        if exchange is not None:
            code = Code.UNAVAILABLE if reply is None else Code.OK
            self._end(exchange, code, why, reply)

    def _free(self, connection: HttpConnection) -> None:
        while self._waiting:
            exchange = self._waiting.popleft()
            if exchange in self._live:
                self._serve(connection, exchange)
                return
        self._idle.append(connection)

    def _lost(self) -> None:
        self._count -= 1
        while self._waiting and not self._closed:
            exchange = self._waiting.popleft()
            if exchange in self._live:
                self._count += 1
                exchange.opening = asyncio.get_running_loop().create_task(self._open(exchange))
                return

    def _end(self, exchange: _Exchange, code: Code, text: str, reply: HttpReply | None = None) -> None:
        del self._live[exchange]
        tell(exchange.done, code, text, reply)

    def _end_overdue(self) -> None:
        loop = asyncio.get_running_loop()
        while self._live:
            exchange = next(iter(self._live))
            if exchange.due > loop.time():
                self._timer = loop.call_at(exchange.due, self._end_overdue)
                return
            self._give_up(exchange)
            self._end(exchange, Code.DEADLINE_EXCEEDED, f"no answer within {self._timeout:g} s")
        self._timer = None  # not before: what a callback sends would start a second one

    def _give_up(self, exchange: _Exchange) -> None:
        """Stop what works for a request."""
        if exchange.opening is not None:
            exchange.opening.cancel()
        elif exchange.connection is not None:
            del self._serving[exchange.connection]
            exchange.connection.abort()
        else:
            return
        self._lost()
