"""One interoperability server for all tests here."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

import yais
from tests.interop_server import make_server


@pytest.fixture(scope="module")
def interop_server() -> Iterator[yais.Server]:
    server = make_server("127.0.0.1:0")
    with server:
        yield server


@pytest.fixture
def target(interop_server: yais.Server) -> Iterator[str]:
    """The server's address; afterwards, whatever happened, no call may be left on it."""
    yield f"127.0.0.1:{interop_server.port}"
    deadline = time.monotonic() + 10
    while interop_server.in_flight:
        assert time.monotonic() < deadline, interop_server
        time.sleep(0.001)
