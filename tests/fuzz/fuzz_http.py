"""HTTP by hand: connections that are kept, and a look at every answer."""

from __future__ import annotations

import json
import re
import socket
import threading
from http.client import HTTPResponse

from fuzz_target import Target
from serving_models import SOON

_ALLOWED = {200, 400, 404, 405, 431}

_PRESCRIBED = {
    403: re.compile("a page of another site may not send this request"),
    500: re.compile(
        "model 'table' failed: |shared memory size specified with the request for output"
        "|Unable to open shared memory region|failed to poll from model repository"
    ),
    501: re.compile(
        "Unsupported compression type|decoupled transaction policy"
        "|can not be updated through network protocol|expected none: they are one"
    ),
    503: re.compile("Request timeout expired|is not at ready state"),
}


def judge(response: HTTPResponse, body: bytes) -> str:
    """Return the status of an answer; raise AssertionError if a wrong request must not get it."""
    status, kind = response.status, response.headers.get("content-type", "")
    prescribed = _PRESCRIBED.get(status)
    expected = status in _ALLOWED or (prescribed is not None and prescribed.search(body.decode()))
    assert expected, f"{status}: {body!r}"
    if status >= 400:
        assert kind == "application/json", f"{status}, {kind}: {body!r}"
        said = json.loads(body)
        assert list(said) == ["error"] and isinstance(said["error"], str) and said["error"], said
    return str(status)


def head(method: str, path: str, headers: dict[str, str | bytes]) -> bytes:
    """Return the beginning of a request."""
    lines = [f"{method} {path} HTTP/1.1".encode("latin-1", "replace"), b"Host: x"]
    for name, value in headers.items():
        lines.append(name.encode() + b": " + (value if isinstance(value, bytes) else value.encode("latin-1")))
    return b"\r\n".join(lines) + b"\r\n\r\n"


class Line:
    """A connection that is kept as long as the server keeps it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def close(self) -> None:
        """Close it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def exchange(self, method: str, path: str, body: bytes, headers: dict[str, str | bytes]) -> str:
        """Send a whole request; return the status of the answer, which must come, and is judged."""
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=SOON)
        message = head(method, path, {"Content-Length": str(len(body)), **headers}) + body
        try:
            self._socket.sendall(message)
            response = HTTPResponse(self._socket, method=method)
            response.begin()
            text = response.read()
        except BaseException:
            self.close()
            raise
        if response.will_close:
            self.close()
        return judge(response, b'{"error": "unseen"}' if method == "HEAD" else text)


class _Lines(threading.local):
    """The connections of a thread, by their ports."""

    def __init__(self) -> None:
        self.of: dict[int, Line] = {}


_lines = _Lines()


def line(target: Target) -> Line:
    """Return the connection of this thread to a server."""
    return _lines.of.setdefault(target.http_port, Line(target.http_port))
