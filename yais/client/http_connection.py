"""One connection over HTTP/1.1: a request, then its response, then the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

from httptools import HttpParserError, HttpResponseParser

__all__ = ["HttpConnection", "HttpReply"]


class HttpReply(NamedTuple):
    """A response; names of headers in lower case."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes


Ended = Callable[["HttpConnection", "HttpReply | None", str], None]
"""Told of each response, or without one why there will be none: the connection is closed then. An idle
connection that the server closes ends so, too."""


class HttpConnection(asyncio.Protocol):
    """A connection, used by one request at a time, on its loop's thread.

    Attributes
    ----------
    reusable
        Whether another request may follow the response that came.
    """

    def __init__(self) -> None:
        self._ended: Ended = _nobody
        self._transport: asyncio.Transport | None = None
        self._parser = HttpResponseParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._status = 0
        self._whole = False
        self._until_end = False
        self._why = "the server closed the connection"
        self.reusable = False

    @property
    def open(self) -> bool:
        """Whether a request can be sent on it."""
        return self._transport is not None and not self._transport.is_closing()

    def watch(self, ended: Ended) -> None:
        """Tell from now on."""
        self._ended = ended

    def begin(self, request: bytes) -> None:
        """Send a request, whole; only when it is open, and no other request is in flight."""
        self._headers = {}
        self._body = []
        self._whole = self._until_end = self.reusable = False
        cast(asyncio.Transport, self._transport).write(request)

    def abort(self) -> None:
        """Close at once, whatever is in flight; nothing more is told."""
        self._ended = _nobody
        if self._transport is not None:
            self._transport.abort()

    # What follows is called by the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that there will be no response, or that its end is that of the connection."""
        if self._until_end and not exc:
            self._tell()
        else:
            self._ended(self, None, f"the connection was lost: {exc}" if exc else self._why)

    def data_received(self, data: bytes) -> None:
        """Read what came of a response."""
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            if not self._whole:
                self._why = f"the server's answer is no HTTP: {error}"
                cast(asyncio.Transport, self._transport).abort()
                return
        if self._whole:
            self._tell()

    def _tell(self) -> None:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._ended(self, HttpReply(self._status, self._headers, body), "")

    # What follows is called by the parser.

    def on_message_begin(self) -> None:
        """Keep no connection that sends more than was asked for."""
        if self._whole:
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        if not self._whole:
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """See where the response ends."""
        if not self._whole:
            self._status = self._parser.get_status_code()
            self._until_end = self._headers.keys().isdisjoint((b"content-length", b"transfer-encoding"))

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if not self._whole:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Take note of the end."""
        if self._whole:
            return
        self._until_end = False
        if self._status < 200:  # the answer is still to come
            self._headers = {}
            return
        self._whole = True
        self.reusable = self._parser.should_keep_alive()


def _nobody(*_arguments: Any) -> None:
    pass
