"""Requests and responses on a connection: uvicorn's, and whole ones without ASGI's messages."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from yais.errors import Cancelled

__all__ = ["Exchange"]

_ONE_WRITE = 1 << 16  # bytes; to copy less is cheaper than another write


class Exchange(HttpToolsProtocol):
    """Takes requests and sends responses, one after another.

    Attributes
    ----------
    served
        The present request; those behind it, pipelined, wait for it.
    on_lost
        Called when the client hangs up. Whoever serves the present request sets it, and takes it back.
    """

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.served: RequestResponseCycle | None = None
        self.on_lost: Callable[[], object] | None = None
        self._parts: list[bytes] | None = None  # of the body that `body` waits for
        self._room = 0.0
        self._date: tuple[object, bytes] = (None, b"")

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever serves a request."""
        super().connection_lost(exc)
        if self.served is not None:  # uvicorn tells only the last of those pipelined
            self.served.disconnected = True
            self.served.message_event.set()
        if self.on_lost is not None:
            self.on_lost()

    def on_headers_complete(self) -> None:
        """Begin to serve a request, or let it wait for those before it."""
        super().on_headers_complete()
        if not self.pipeline:
            self.served = self.cycle

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if self._parts is None or self.cycle is not self.served:
            super().on_body(body)
            return
        self._parts.append(body)
        self._room -= len(body)
        if self._room < 0:
            self.cycle.message_event.set()

    def on_response_complete(self) -> None:
        """Serve the next request, if there is one."""
        # Instead of uvicorn's, which has a timer for idle connections: `Connection` looks after them.
        self.server_state.total_requests += 1
        self.served = None
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self.served, application = self.pipeline.pop()
            self._start_asgi_task(self.served, application)

    async def body(self, limit: int) -> bytes:
        """Return the body of the present request, of which nothing is taken yet, as soon as it is whole.

        Parameters
        ----------
        limit
            As soon as it has more bytes than that, it is returned as it is; 0 for no limit.

        Raises
        ------
        Cancelled
            The client has hung up.
        """
        cycle = cast(RequestResponseCycle, self.served)
        first, cycle.body = bytes(cycle.body), bytearray()
        if not cycle.more_body and not cycle.disconnected:
            return first
        parts = self._parts = [first]
        self._room = limit - len(first) if limit else math.inf
        self.flow.resume_reading()
        try:
            while cycle.more_body and self._room >= 0 and not cycle.disconnected:
                cycle.message_event.clear()
                await cycle.message_event.wait()
        finally:
            self._parts = None
        if cycle.disconnected:
            raise Cancelled("the client has hung up")
        return b"".join(parts)

    async def answer(self, headers: bytes, body: bytes) -> None:
        """Send a whole response, 200, to the present request: what ASGI's messages do, at once.

        Parameters
        ----------
        headers
            Lines, each with its end. Those of the connection, the date and the length are added.
        """
        cycle = cast(RequestResponseCycle, self.served)
        if self.flow.write_paused:
            await self.flow.drain()
        if cycle.disconnected:
            return
        cycle.response_started = cycle.response_complete = True
        head = b"%b%b%bcontent-length: %d\r\n%b\r\n" % (
            STATUS_LINE[200],
            self._dated(),
            headers,
            len(body),
            b"" if cycle.keep_alive else b"connection: close\r\n",
        )
        if len(body) < _ONE_WRITE:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()

    def _dated(self) -> bytes:
        current = self.server_state.default_headers
        if self._date[0] is not current:  # uvicorn makes a new one every second
            self._date = current, b"".join([b"%b: %b\r\n" % line for line in current])
        return self._date[1]
