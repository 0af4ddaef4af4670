"""The network that fails on command, between grpcio's client and a server of this package."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

import yais
from yais.testing import FaultyNetwork, serving

SOON = 20.0
CHAT = "/test.Chat/Chat"


class Chat(yais.BidirectionalContext[bytes, bytes, yais.Resources]):
    ended: queue.SimpleQueue[bool]

    def execute(self, request: bytes) -> bytes:
        return request

    def on_finish(self) -> None:
        self.ended.put(self.cancelled)


class Requests(Iterator[bytes]):
    """What a test sends, when it sends it."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def send(self, message: bytes | None) -> None:
        self.queue.put(message)

    def __next__(self) -> bytes:
        message = self.queue.get(timeout=30.0)
        if message is None:
            raise StopIteration
        return message


@contextmanager
def chatting() -> Iterator[tuple[FaultyNetwork, Requests, grpc.CallIterator[bytes], queue.SimpleQueue[bool]]]:
    ended: queue.SimpleQueue[bool] = queue.SimpleQueue()
    service = yais.Service("test.Chat")
    context = type("OwnChat", (Chat,), {"ended": ended})
    service.register("Chat", context, deserialize=bytes, serialize=bytes)
    requests = Requests()
    with serving(service, grace=1.0) as served, FaultyNetwork(served.port) as network:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{network.port}", options=options) as channel:
            replies = channel.stream_stream(CHAT)(requests, timeout=SOON)
            requests.send(b"first")
            assert next(replies) == b"first"
            try:
                yield network, requests, replies, ended
            finally:
                requests.send(None)


def test_a_network_without_faults():
    with chatting() as (network, requests, replies, ended):
        assert network.connections == 1
        requests.send(b"x" * 1_000_000)
        assert next(replies) == b"x" * 1_000_000
        requests.send(None)
        assert list(replies) == []
        assert ended.get(timeout=SOON) is False


def test_a_reset_ends_the_call_on_both_sides():
    with chatting() as (network, _requests, replies, ended):
        network.reset()
        with pytest.raises(grpc.RpcError) as caught:
            next(replies)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert ended.get(timeout=SOON) is True


def test_a_reset_in_the_middle_of_a_request():
    with chatting() as (network, requests, replies, ended):
        network.reset_after(50_000, "requests")
        requests.send(b"x" * 100_000)
        with pytest.raises(grpc.RpcError) as caught:
            next(replies)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert ended.get(timeout=SOON) is True


def test_a_reset_in_the_middle_of_a_reply():
    with chatting() as (network, requests, replies, ended):
        network.reset_after(50_000, "replies")
        requests.send(b"x" * 100_000)
        with pytest.raises(grpc.RpcError) as caught:
            next(replies)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert ended.get(timeout=SOON) is True


@pytest.mark.parametrize("directions", [(), ("requests",), ("replies",)])
def test_what_is_held_back_arrives_in_the_end(directions):
    with chatting() as (network, requests, replies, ended):
        network.stall(*directions)
        requests.send(b"late")
        arrived = threading.Event()
        got: list[bytes] = []
        reader = threading.Thread(target=lambda: (got.append(next(replies)), arrived.set()), daemon=True)
        reader.start()
        assert not arrived.wait(0.1)
        network.resume()
        assert arrived.wait(SOON)
        assert got == [b"late"]
        requests.send(None)
        assert list(replies) == []
        assert ended.get(timeout=SOON) is False


def test_new_connections_are_taken_after_a_reset():
    with chatting() as (network, _requests, _replies, _ended):
        network.reset()
        with grpc.insecure_channel(f"127.0.0.1:{network.port}") as channel:
            assert list(channel.stream_stream(CHAT)(iter([b"again"]), timeout=SOON)) == [b"again"]
