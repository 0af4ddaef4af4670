"""The question that HAProxy asks for health, asked of a real server."""

from __future__ import annotations

import re
import socket

import pytest
from serving_models import SOON

from yais.lb.grpc_probe import ANY_STATUS, SERVING, health_question
from yais.rpc.server import Server


@pytest.fixture(scope="module")
def server():
    with Server("127.0.0.1:0") as server:
        server.health.report(serving=True, service="good")
        server.health.report(serving=False, service="bad/one")
        yield server


def answer(port: int, service: str) -> str:
    """Return what the server has sent when there is a status, or when the call is over."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=SOON) as connection:
        connection.sendall(health_question(service))
        while not re.search(ANY_STATUS, received.hex()) and b"grpc-status" not in received:
            piece = connection.recv(4096)
            assert piece, "the server has closed the connection"
            received += piece
    return received.hex()


@pytest.mark.parametrize("service", ["", "good"])
def test_a_server_that_serves(server, service):
    assert SERVING in answer(server.port, service)


def test_one_that_does_not(server):
    said = answer(server.port, "bad/one")
    assert re.search(ANY_STATUS, said) and SERVING not in said


def test_a_service_that_is_not_known(server):
    assert not re.search(ANY_STATUS, answer(server.port, "x" * 100))
