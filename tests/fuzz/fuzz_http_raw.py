"""Attacks over HTTP: what is hardly HTTP."""

from __future__ import annotations

import io
import socket
import struct
from http.client import HTTPException, HTTPResponse
from random import Random
from typing import Any, cast

from fuzz_bytes import damaged
from fuzz_http import head, judge
from fuzz_http_infer import GOOD
from fuzz_json import text
from fuzz_target import Target, half_close
from serving_models import SOON

_FRAMING = (
    *(
        b"Content-Length: 5",
        b"Content-Length: -1",
        b"Content-Length: x",
        b"Content-Length: 99999999999999999999",
    ),
    *(
        b"Content-Length: 1, 1",
        b"Content-Length:",
        b"Content-Length: 0x10",
        b"Content-Length: +3",
        b"Content-Length",
    ),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Transfer-Encoding: gzip, chunked", b": x"),
    *(
        b"Transfer-Encoding: chunked, identity",
        b" folded: x",
        b"na me: x",
        b"x" * 70000,
        b"\0: \0",
        b"\xff: \xff",
    ),
    *(b"Connection: close", b"Connection: upgrade\r\nUpgrade: h2c", b"Host: y", b"Expect: 100-continue"),
    *(b"Content-Encoding: gzip", b"Inference-Header-Content-Length: 3"),
)

_STARTS = (
    *(b"GET / HTTP/1.1", b"POST /v2/models/simple/infer HTTP/1.1", b"GET /v2/health/live HTTP/1.0"),
    *(b"POST /v2/models/sum/generate HTTP/1.1", b"get / http/1.1", b"GET / HTTP/2.0", b"GET / HTTP/9.9"),
    *(
        b"GET http://[/ HTTP/1.1",
        b"GET * HTTP/1.1",
        b"CONNECT x:1 HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01",
        b"",
        b" ",
    ),
    *(
        b"GET /" + b"a" * 70000 + b" HTTP/1.1",
        b"GET /%zz HTTP/1.1",
        b"GET /\xff HTTP/1.1",
        b"GET /a b HTTP/1.1",
    ),
    *(b"OPTIONS * HTTP/1.1", b"PRI * HTTP/2.0", b"GET //v2 HTTP/1.1", b"POST / HTTP/1.1", b"GET", b"\0\0\0"),
)

_CHUNKS = (
    b"0\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhel",
    b"ffffffffffffffffff\r\n",
    b"-1\r\n",
    b"5;x=y\r\n{}\r\n",
)


_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def _post(path: str, value: Any) -> bytes:
    body = text(value).encode()
    return head("POST", f"/v2/models/{path}", {"Content-Length": str(len(body))}) + body


_POSTS = (
    *(_post(f"{model}/infer", request) for model, request, _ in (GOOD[0], GOOD[6])),
    _post("words/generate_stream", {"x": [40, 8000]}),
    _post("identity_fp32/generate", {"X": [1, 2]}),
)


def raw_request(random: Random) -> bytes:
    """Return what is nearly a request."""
    if not random.randrange(3):  # one that is good
        return random.choice((head("GET", "/v2/health/live", {}), head("GET", "/v2", {}), *_POSTS))
    lines = [random.choice(_STARTS), b"Host: x", *random.choices(_FRAMING, k=random.randrange(4))]
    end = random.choice((b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"))
    body = random.choice((b"", b"hello", b"{}", *_CHUNKS))
    message = end.join(lines) + end * 2 + body
    return damaged(random, message) if not random.randrange(4) else message


def attack_raw(target: Target, random: Random) -> str:
    """Send what is hardly HTTP, several requests at once; return the statuses: all answers must be whole."""
    message = b"".join(raw_request(random) for _ in range(random.choice((1, 1, 1, 2, 5, 20))))
    received = b""
    with socket.create_connection(("127.0.0.1", target.http_port), timeout=SOON) as connection:
        try:
            connection.sendall(message)
            if not random.randrange(4):  # the connection is reset
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return "left"
            half_close(connection)
            while part := connection.recv(1 << 16):
                received += part
        except ConnectionError:  # it was closed with something unread, and what it said may be lost
            return "reset"
    received = received.replace(_CONTINUE, b"")
    answers = io.BytesIO(received)
    statuses = set()
    while (start := answers.tell()) < len(received):
        try:
            response = HTTPResponse(cast(socket.socket, _Received(answers)))
            response.begin()
            body = response.read()
        except HTTPException as error:
            found = (
                f"{received[start:][:500]!r}, after {start} of {len(received)} bytes to {message[-500:]!r}"
            )
            raise AssertionError(f"{found}, is no answer: {error!r}") from None
        statuses.add(judge(response, body))
    return " ".join(sorted(statuses)) or "nothing"


class _Received:
    """As much of a socket as `HTTPResponse` reads from."""

    def __init__(self, data: io.BytesIO) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BufferedReader:
        return cast(io.BufferedReader, _Unclosed(self._data))


class _Unclosed(io.BufferedReader):
    def __init__(self, data: io.BytesIO) -> None:
        super().__init__(cast(io.RawIOBase, data), 1)

    def close(self) -> None:
        """Leave the data for the next response."""
