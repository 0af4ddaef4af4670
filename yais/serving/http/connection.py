"""A connection, with limits on what a client may make it wait for and keep."""

from __future__ import annotations

import functools
import logging
import math
import resource
from collections.abc import Iterable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from yais.serving.http.exchange import Exchange

__all__ = ["KEEP_ALIVE", "Connection", "close_overdue"]

_log = logging.getLogger("yais.serving.http")
_log.setLevel(logging.ERROR)  # what clients do wrong is told to them

KEEP_ALIVE = 75
"""Seconds that a connection may be idle between requests."""

# A request must arrive within so many seconds, and for every so many bytes of its body one more.
_ARRIVAL = 60.0
_SLOWEST = 16384.0

_REST = 5.0  # seconds for the rest of a body that is answered already
_STUCK = 60.0  # seconds that a client may leave what is sent to it unread

_MAX_HEAD = 1 << 17  # bytes beside the body: request line, headers, lines between chunks

_CHUNK_LINES = 8  # bytes around the smallest chunk

_BODY = (b"content-length", b"transfer-encoding")

_MAX_PIPELINED = 1000  # requests behind the one that is served


@functools.cache
def _most_connections() -> int:
    # Models, logs and gRPC need files, too.
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 3 // 4


class Connection(Exchange):
    """Parses requests of one client, and sends the responses. Clients get so much time and memory."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.access_log = False
        self.logger = _log
        self._due = math.inf  # when the client must have sent what it is waited for
        self._arriving = True
        self._head = 0
        self._paused_at = math.inf  # since when, and with how much left, nothing is written
        self._unsent = 0

    def connection_made(self, transport: Any) -> None:
        """Wait for the first request."""
        super().connection_made(transport)
        self._due = self.loop.time() + _ARRIVAL
        if len(self.connections) > _most_connections():
            self._refuse(503, "There are too many connections; try again later")

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived."""
        self._head += len(data)
        super().data_received(data)
        if self._arriving and self._head > _MAX_HEAD and not self.transport.is_closing():
            self._refuse(431, "Request header fields too large")

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)["yais.connection"] = self
        self._arriving = True
        self._head = 0
        self._due = self.loop.time() + _ARRIVAL

    def on_headers_complete(self) -> None:
        """Begin to serve a request."""
        if len(self.pipeline) >= _MAX_PIPELINED:
            raise ValueError("too many pipelined requests")  # the parser fails, and the client is told
        if self.parser.should_upgrade() and any(name in _BODY for name, _ in self.headers):
            raise ValueError("an upgrade with a body")  # which the parser would leave unread
        super().on_headers_complete()
        if self.pipeline:
            self._due = math.inf  # no more of it is read before its turn

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: clients may ask."""

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._head -= _CHUNK_LINES * len(body)
        if not self.cycle.response_complete:
            self._due += len(body) / _SLOWEST
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        super().on_message_complete()
        self._arriving = False
        served = self.cycle.response_complete
        self._due = self.loop.time() + KEEP_ALIVE if served else math.inf

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of this one."""
        super().on_response_complete()
        if self.served is None:
            self._due = self.loop.time() + (_REST if self._arriving else KEEP_ALIVE)
        elif self.served is self.cycle and self._arriving:
            self._due = self.loop.time() + _ARRIVAL

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self._paused_at = self.loop.time()
        self._unsent = self.transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        self._paused_at = math.inf
        if self._due < math.inf:  # it could not go on before it had read
            self._due = max(self._due, self.loop.time() + KEEP_ALIVE)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, in JSON like every error."""
        self._refuse(400, msg)

    def _refuse(self, status: int, text: str) -> None:
        if self.served is not None and self.served.response_started:
            self.transport.close()  # the client would take it for a part of that response
            return
        body = b'{"error":"%s"}' % text.encode()
        self.transport.write(
            STATUS_LINE[status]
            + b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            + body
        )
        self.transport.close()

    def overdue(self, now: float) -> bool:
        """Return whether the client has let the connection wait for too long; `now` is the loop's time."""
        if self._paused_at == math.inf:
            return now > self._due
        unsent = self.transport.get_write_buffer_size()
        read, self._unsent = max(0, self._unsent - unsent), unsent
        self._paused_at = min(now, self._paused_at + read / _SLOWEST)
        return now > self._paused_at + _STUCK


def close_overdue(connections: Iterable[Any], now: float) -> None:
    """Close the connections that are overdue."""
    for connection in list(connections):
        if connection.overdue(now):
            connection.transport.abort()
