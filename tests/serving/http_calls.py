"""Servers over HTTP, and calls of them made by hand."""

from __future__ import annotations

import http.client
import json
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
from serving_models import SOON

from yais.serving.access import AccessOptions
from yais.serving.frontends.supervisor import Supervisor
from yais.serving.http.server import HttpOptions, HttpServer
from yais.serving.model_server import ModelServer

sys.path.append(str(Path(__file__).parents[1] / "rpc"))  # certificates


@contextmanager
def serving_http(
    server: ModelServer | Supervisor, access: AccessOptions | None = None, **options: Any
) -> Iterator[HttpServer | SimpleNamespace]:
    """Serve the models of a server over HTTP on a free port while the block lasts; frontends do anyway."""
    if isinstance(server, Supervisor):
        if access is not None or options:
            pytest.skip("frontends serve HTTP as they were told at their start")
        yield SimpleNamespace(port=server.http_port)
        return
    chosen = HttpOptions(**{"address": "127.0.0.1", "port": 0, **options})
    running = HttpServer(server._resources, chosen, access or AccessOptions(), str)
    try:
        yield running
    finally:
        running.stop(5.0)


@dataclass
class Reply:
    """A response; the names of its headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Its JSON, without binary tensors behind it."""
        length = self.headers.get("inference-header-content-length")
        return json.loads(self.body if length is None else self.body[: int(length)])

    @property
    def tail(self) -> bytes:
        """The binary tensors."""
        return self.body[int(self.headers["inference-header-content-length"]) :]

    @property
    def error(self) -> tuple[int, str]:
        """Status and text of an error."""
        assert self.headers["content-type"] == "application/json"
        (text,) = self.json.values()
        return self.status, text


class Http:
    """Calls made by hand, on one connection."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SOON)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.connection.close()

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a request; return the response."""
        self.connection.request(method, path, body, dict(headers or {}))
        response = self.connection.getresponse()
        lines = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, lines, response.read())

    def infer(self, model: str, request: Any, tail: bytes | None = None, **headers: str) -> Reply:
        """Send an inference request: what becomes JSON, or bytes, and binary tensors behind it."""
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        if tail is not None:
            headers.setdefault("Inference-Header-Content-Length", str(len(body)))
            body += tail
        return self.call("POST", f"/v2/models/{model}/infer", body, headers)


def given(name: str, datatype: str, shape: list[int], data: Any = None, **parameters: Any) -> dict[str, Any]:
    """Describe an input."""
    described: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
    if data is not None:
        described["data"] = data
    if parameters:
        described["parameters"] = parameters
    return described


def exchange(port: int, data: bytes) -> bytes:
    """Send bytes on a connection of their own; return all that comes until the server closes it."""
    with socket.create_connection(("127.0.0.1", port), timeout=SOON) as connection:
        connection.sendall(data)
        return received(connection)


def received(connection: socket.socket) -> bytes:
    """Return what comes until the server closes the connection."""
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)
