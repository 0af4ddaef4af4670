"""Bodies of HTTP requests: received, decompressed, and no larger than allowed."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping

from starlette.requests import Request
from starlette.types import Receive

from yais.errors import Cancelled, InvalidArgument, Unimplemented
from yais.serving.http.connection import Connection

__all__ = ["read_body", "receive_body"]

_MAX_MEMBERS = 1000  # of gzip; to begin one costs much more than to send it
_STEP = 1 << 20  # bytes decompressed at a time, so that the loop is never busy for long


async def read_body(request: Request) -> bytes:
    """Return the body of a request; `request.app` is the `HttpApp`, which says how large it may be.

    Raises
    ------
    YaisError
        See `receive_body`.
    """
    headers = dict(request.scope["headers"])
    limit = request.app.options.max_input_bytes
    return await receive_body(request.receive, headers, limit, request.scope["yais.connection"])


async def receive_body(
    receive: Receive, headers: Mapping[bytes, bytes], limit: int, connection: Connection
) -> bytes:
    """Return the body of a request.

    Parameters
    ----------
    receive
        ASGI's.
    headers
        Of the request, by their names in lower case.
    limit
        Bytes that it may have, decompressed; 0 for any number.
    connection
        By which the request came.

    Raises
    ------
    InvalidArgument
        It is larger than that, or not compressed as it says.
    Unimplemented
        It is compressed in a way that is not supported.
    Cancelled
        The client has hung up.
    """
    length = headers.get(b"content-length", b"")
    if limit and length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    encoding = headers.get(b"content-encoding")
    inflate = None if encoding is None else _inflate(encoding)
    if inflate is None and b"expect" not in headers:
        body = await connection.body(limit)
        if limit and len(body) > limit:
            raise _too_large(limit)
        return body
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Cancelled("the client has hung up")
        part: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        if inflate is not None:
            part = await inflate.feed(part, limit and limit - size)
        size += len(part)
        if limit and size > limit:
            raise _too_large(limit)
        parts.append(part)
    if inflate is not None:
        inflate.end()
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(limit: int) -> InvalidArgument:
    return InvalidArgument(
        f"request body exceeds the maximum allowed input size of {limit} bytes. "
        "Use --http-max-input-size to increase the limit."
    )


def _inflate(encoding: bytes) -> _Inflate | None:
    match encoding.strip().lower():
        case b"" | b"identity":
            return None
        case b"gzip" | b"x-gzip" | b"deflate":
            return _Inflate()
    raise Unimplemented("Unsupported compression type")


class _Inflate:
    """Decompresses gzip, in one member or several, and zlib, which HTTP calls deflate."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)  # looks which of them it is
        self._members = 1

    async def feed(self, data: bytes, limit: int) -> bytes:
        """Return what more data makes; no more than one step beyond `limit` bytes, unless that is 0."""
        parts: list[bytes] = []
        size = 0
        while data and (not limit or size <= limit):
            if self._stream.eof:  # another member
                self._members += 1
                if self._members > _MAX_MEMBERS:
                    raise InvalidArgument("failed to decompress the request body: too many gzip members")
                self._stream = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)
            try:
                part = self._stream.decompress(data, _STEP)
            except zlib.error as error:
                raise InvalidArgument(f"failed to decompress the request body: {error}") from None
            parts.append(part)
            size += len(part)
            data = self._stream.unused_data or self._stream.unconsumed_tail
            await asyncio.sleep(0)
        return b"".join(parts)

    def end(self) -> None:
        """Raise InvalidArgument if there should have been more."""
        if not self._stream.eof:
            raise InvalidArgument("failed to decompress the request body: it ends too early")
