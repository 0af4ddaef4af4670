"""A server with routes over HTTP, and calls of them in JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

from serving_models import SOON, serving_models

from yais.repository.repository import ControlMode
from yais.serving.http.options import HttpOptions
from yais.serving.server import InferenceServer


@contextmanager
def routed(*repositories: Path, **options: Any) -> Iterator[Http]:
    """Serve the models of repositories over HTTP, and let clients load them and share memory."""
    all_options = {
        "http": HttpOptions(address="127.0.0.1", port=0),
        "control": ControlMode.EXPLICIT,
        "load": ("*",),
        "allow_client_shm": True,
        **options,
    }
    with serving_models(*repositories, **all_options) as server:
        yield Http(server)


class Http:
    """Calls of a server, each on a connection of its own."""

    def __init__(self, server: InferenceServer) -> None:
        assert server.http_port is not None
        self.server = server
        self.port = server.http_port

    def send(
        self,
        method: str,
        path: str,
        body: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[HTTPConnection, HTTPResponse]:
        """Send a request; return the connection, to be closed, and the beginning of the answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=SOON)
        connection.request(method, path, body, dict(headers or {}))
        return connection, connection.getresponse()

    def send_only(self, method: str, path: str, body: str) -> HTTPConnection:
        """Send a request; return the connection, on which nothing is read."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=SOON)
        connection.request(method, path, body)
        return connection

    def call(
        self,
        method: str,
        path: str,
        body: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, str, bytes]:
        """Send a request; return status, Content-Type and body of the answer."""
        connection, response = self.send(method, path, body, headers)
        with connection_closing(connection):
            return response.status, response.headers.get("Content-Type", ""), response.read()

    def get(self, path: str) -> Any:
        """Return what a path answers in JSON; it must."""
        status, kind, body = self.call("GET", path)
        assert (status, kind) == (200, "application/json"), body
        return json.loads(body)

    def post(self, path: str, value: Any = None) -> Any:
        """Return what a path answers in JSON to a value, or None for nothing; it must."""
        status, _, body = self.call("POST", path, None if value is None else json.dumps(value))
        assert status == 200, body
        return json.loads(body) if body else None

    def refusal(self, path: str, value: Any = None, method: str = "POST") -> tuple[int, str]:
        """Return status and text of what must fail; a value in bytes is sent as it is."""
        sent = value if isinstance(value, bytes | None) else json.dumps(value)
        status, kind, body = self.call(method, path, sent)
        assert status >= 400, body
        assert kind == "application/json"
        said = json.loads(body)
        assert list(said) == ["error"]
        return status, said["error"]


@contextmanager
def connection_closing(connection: HTTPConnection) -> Iterator[None]:
    """Close a connection at the end of the block."""
    try:
        yield
    finally:
        connection.close()
