"""A plain grpcio server that the tests of the clients call: raw bytes, all four kinds of RPC."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from echoing import SOON, eventually
from grpc_health.v1 import health, health_pb2_grpc

ECHO, WHERE, COUNT, CHAT, TOTAL, MUTE = (
    f"/test.Peer/{name}" for name in ("Echo", "Where", "Count", "Chat", "Total", "Mute")
)


class Peer:
    """What the server has seen, and what the tests tell it."""

    def __init__(self) -> None:
        self.health = health.HealthServicer()
        self.gate = threading.Event()
        self.opened = threading.Event()
        self.ended = threading.Event()
        self.metadata: list[tuple[str, str | bytes]] = []
        self.time_left: float | None = None
        self.refusals = 0
        self.connections: set[str] = set()
        self.calls = 0
        self.sent = 0
        self.port = 0

    def begin(self, context: grpc.ServicerContext) -> None:
        self.metadata = [(key, value) for key, value in context.invocation_metadata()]
        self.time_left = context.time_remaining()
        self.connections.add(context.peer())
        self.calls += 1
        context.add_callback(self.ended.set)
        self.opened.set()

    def echo(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.begin(context)
        context.send_initial_metadata((("head", "1"),))
        context.set_trailing_metadata((("tail", "2"), ("tail-bin", b"\x00\xff")))
        if request == b"hold":
            self.gate.wait(SOON)
        if request == b"fail":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
        return request

    def where(self, _request: bytes, context: grpc.ServicerContext) -> bytes:
        self.begin(context)
        if self.refusals:
            self.refusals -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        return str(self.port).encode()

    def count(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Answer "N": N replies; "N fail": then an error; "N hold": then wait."""
        self.begin(context)
        number, _, then = request.decode().partition(" ")
        for index in range(int(number)):
            self.sent += 1
            yield str(index).encode().ljust(20_000 if then == "long" else 1)
        if then == "hold":
            self.gate.wait(SOON)
        if then == "fail":
            context.abort(grpc.StatusCode.DATA_LOSS, "the rest is lost")

    def chat(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        self.begin(context)
        yield from requests

    def total(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        self.begin(context)
        return str(sum(map(len, requests))).encode()

    def mute(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """Read nothing before the gate is open; answer with the first bytes of what came."""
        self.begin(context)
        self.gate.wait(SOON)
        return b"".join(request[:1] for request in requests)


@contextmanager
def peering(
    *,
    address: str = "127.0.0.1:0",
    credentials: grpc.ServerCredentials | None = None,
    max_message_bytes: int = 4 << 20,
) -> Iterator[Peer]:
    """Run a server while the block lasts."""
    peer = Peer()
    handlers: dict[str, Any] = {
        "Echo": grpc.unary_unary_rpc_method_handler(peer.echo),
        "Where": grpc.unary_unary_rpc_method_handler(peer.where),
        "Count": grpc.unary_stream_rpc_method_handler(peer.count),
        "Chat": grpc.stream_stream_rpc_method_handler(peer.chat),
        "Total": grpc.stream_unary_rpc_method_handler(peer.total),
        "Mute": grpc.stream_unary_rpc_method_handler(peer.mute),
    }
    # Messages of the echo example are bytes to this server.
    example = {"Say": handlers["Echo"]}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", max_message_bytes)]
        server = grpc.server(pool, options=options)
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler("test.Peer", handlers),
                grpc.method_handlers_generic_handler("yais.examples.echo.Echo", example),
            )
        )
        health_pb2_grpc.add_HealthServicer_to_server(peer.health, server)
        if credentials is None:
            peer.port = server.add_insecure_port(address)
        else:
            peer.port = server.add_secure_port(address, credentials)
        server.start()
        try:
            yield peer
        finally:
            peer.gate.set()
            assert server.stop(0).wait(SOON)


def client_threads() -> int:
    """Count the threads of clients that are alive."""
    return sum(thread.name == "yais-client" for thread in threading.enumerate())


def no_client_threads() -> None:
    """Wait until the threads of all clients have ended."""
    eventually(lambda: client_threads() == 0)
