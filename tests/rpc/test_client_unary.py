"""`ClientUnary`: blocking, with futures and callbacks, and with `await`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading

import pytest
from client_peer import COUNT, ECHO, Peer, peering
from echo_pb2 import DESCRIPTOR, EchoReply, EchoRequest
from echoing import SOON
from grpc_health.v1 import health_pb2

import yais
from yais.rpc.client import Channels, ClientServerStreaming, ClientUnary


@pytest.fixture
def peer():
    with peering() as running:
        yield running


@pytest.fixture
def channels(peer: Peer):
    with Channels(f"127.0.0.1:{peer.port}") as opened:
        yield opened


@pytest.fixture
def echo(channels: Channels):
    return ClientUnary(channels, ECHO, timeout=SOON)


def test_a_blocking_call(echo):
    assert echo.call(b"hello") == b"hello"
    assert [echo.call(str(number).encode()) for number in range(20)] == [b"%d" % n for n in range(20)]


def test_messages_of_a_protobuf_method(channels):
    say = ClientUnary(channels, DESCRIPTOR.services_by_name["Echo"].methods_by_name["Say"], timeout=SOON)
    assert say.call(EchoRequest(text="hello")) == EchoReply(text="hello")


def test_any_pair_of_functions_is_a_codec(channels):
    echo = ClientUnary(channels, ECHO, str.encode, bytes.decode, timeout=SOON)
    assert echo.call("häh") == "häh"


def test_a_future_and_its_metadata(echo):
    call = echo.submit(b"hello")
    assert call.result(SOON) == b"hello"
    assert call.code() is yais.Code.OK
    assert call.initial_metadata()["head"] == "1"
    assert call.trailing_metadata()["tail"] == "2"
    assert call.trailing_metadata()["tail-bin"] == b"\x00\xff"


def test_many_in_flight(echo):
    calls = [echo.submit(str(number).encode()) for number in range(200)]
    assert [int(call.result(SOON)) for call in calls] == list(range(200))


def test_what_then_returns_is_the_result(echo):
    assert echo.submit(b"hello", then=len).result(SOON) == 5


def test_what_then_raises_is_the_error(echo):
    call = echo.submit(b"hello", then=int)
    assert isinstance(call.exception(SOON), ValueError)
    assert call.code() is yais.Code.OK


def test_a_callback_that_exits_does_not_end_the_thread(echo):
    def leave(_reply: bytes) -> None:
        raise SystemExit

    assert isinstance(echo.submit(b"x", then=leave).exception(SOON), SystemExit)
    assert echo.call(b"still there") == b"still there"


def test_a_done_callback_that_exits_does_not_end_the_thread(peer, echo, caplog):
    def leave(_call: concurrent.futures.Future[bytes]) -> None:
        raise SystemExit

    call = echo.submit(b"hold")
    call.add_done_callback(leave)  # before the call is over, so that it runs on the connection's thread
    peer.gate.set()
    assert call.result(SOON) == b"hold"
    assert echo.submit(b"still there").result(SOON) == b"still there"
    assert "a callback of <Call" in caplog.text and "SystemExit" in caplog.text


def test_a_callback(echo):
    answers: list[bytes] = []
    seen = threading.Event()

    def done(call: concurrent.futures.Future[bytes]) -> None:
        answers.append(call.result())
        seen.set()

    echo.submit(b"hello").add_done_callback(done)
    assert seen.wait(SOON)
    assert answers == [b"hello"]


async def test_await(echo):
    assert await echo.submit(b"hello") == b"hello"
    numbers = await asyncio.gather(*(echo.submit(b"%d" % number, then=int) for number in range(50)))
    assert numbers == list(range(50))


def test_an_error_has_the_servers_words(echo):
    with pytest.raises(yais.NotFound, match=r"^no such thing$") as caught:
        echo.call(b"fail")
    assert caught.value.trailing_metadata["tail"] == "2"
    call = echo.submit(b"fail", then=len)
    assert isinstance(call.exception(SOON), yais.NotFound)
    assert call.code() is yais.Code.NOT_FOUND
    assert call.trailing_metadata()["tail"] == "2"


def test_an_unknown_method(channels):
    with pytest.raises(yais.Unimplemented):
        ClientUnary(channels, "/test.Peer/Nothing", timeout=SOON).call(b"")


def test_nobody_listens():
    with Channels("127.0.0.1:1") as channels, pytest.raises(yais.Unavailable):
        ClientUnary(channels, ECHO, timeout=SOON).call(b"")


@pytest.mark.parametrize(
    "metadata", [{"a": "1", "b-bin": b"\x00\xff"}, [("a", "1"), ("a", "2"), ("b-bin", b"\x00\xff")]]
)
def test_metadata_is_sent(peer, echo, metadata):
    echo.call(b"x", metadata=metadata)
    pairs = list(metadata.items()) if isinstance(metadata, dict) else metadata
    assert [item for item in peer.metadata if item[0] in {"a", "b-bin"}] == pairs


@pytest.mark.parametrize(
    "metadata", [{"Big": "1"}, {"a": "line\nbreak"}, {"a-bin": "text"}, [("a",)], "ab", {"a": 1}]
)
def test_metadata_that_cannot_be_sent(peer, echo, metadata):
    with pytest.raises(yais.InvalidArgument, match="metadata: got"):
        echo.submit(b"x", metadata=metadata)
    assert echo.call(b"fine") == b"fine"


def test_a_deadline(peer, echo):
    with pytest.raises(yais.DeadlineExceeded):
        echo.call(b"hold", timeout=0.05)
    assert peer.ended.wait(SOON)


def test_deadlines_are_the_clients_unless_the_call_has_its_own(peer, channels, echo):
    echo.call(b"x")  # what gRPC sends is rounded
    assert SOON / 2 < peer.time_left < SOON * 2
    echo.call(b"x", timeout=1000)
    assert 900 < peer.time_left < 1100
    echo.call(b"x", timeout=None)
    assert peer.time_left is None or peer.time_left > 1e9
    ClientUnary(channels, ECHO).call(b"x")
    assert 25 < peer.time_left < 35


def test_cancel(peer, echo):
    call = echo.submit(b"hold")
    assert peer.opened.wait(SOON)
    assert call.cancel()
    assert call.cancelled()
    assert call.code() is yais.Code.CANCELLED
    assert peer.ended.wait(SOON)
    with pytest.raises(concurrent.futures.CancelledError):
        call.result(SOON)
    assert not echo.submit(b"x", then=lambda _reply: None).exception(SOON)


def test_cancel_when_it_is_over(echo):
    call = echo.submit(b"x")
    assert call.result(SOON) == b"x"
    assert not call.cancel()
    assert call.code() is yais.Code.OK


async def test_a_cancelled_task_cancels_its_call(peer, echo):
    async def wait() -> None:
        await echo.submit(b"hold")

    task = asyncio.create_task(wait())
    await asyncio.to_thread(peer.opened.wait, SOON)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(peer.ended.wait, SOON)


def test_a_callback_must_not_wait_for_its_own_connection(echo):
    for wait in (
        lambda _reply: echo.call(b"inner"),
        lambda _reply: echo.submit(b"inner").code(),
        lambda _reply: echo.submit(b"inner").trailing_metadata(),
    ):
        assert isinstance(echo.submit(b"outer", then=wait).exception(SOON), yais.FailedPrecondition)


def test_a_callback_may_call(echo):
    inner = echo.submit(b"outer", then=lambda reply: echo.submit(reply + b", inner")).result(SOON)
    assert inner.result(SOON) == b"outer, inner"


def test_a_reply_that_cannot_be_read(channels):
    echo = ClientUnary(channels, ECHO, None, int, timeout=SOON)
    with pytest.raises(yais.Internal, match=r"/test\.Peer/Echo: got a reply of 1 bytes that cannot be read"):
        echo.call(b"x")


def test_requests_that_are_no_bytes(channels, echo):
    assert echo.call(memoryview(b"view")) == b"view"
    with pytest.raises(yais.InvalidArgument, match="got a message of type str, expected bytes"):
        echo.submit("text")
    with pytest.raises(yais.InvalidArgument, match="serialize returned int, expected bytes"):
        ClientUnary(channels, ECHO, len).submit(b"x")


@pytest.mark.parametrize("path", ["test.Peer/Echo", "/Echo", "/test.Peer/Echö", "/a/b/c"])
def test_paths_that_are_none(channels, path):
    with pytest.raises(yais.InvalidArgument, match=r"expected '/package.Service/Method'"):
        ClientUnary(channels, path)


def test_methods_of_another_kind(channels):
    methods = health_pb2.DESCRIPTOR.services_by_name["Health"].methods_by_name
    with pytest.raises(yais.InvalidArgument, match="one request and many replies"):
        ClientUnary(channels, methods["Watch"])
    with pytest.raises(yais.InvalidArgument, match="expected one request and many replies"):
        ClientServerStreaming(channels, methods["Check"])
    assert COUNT in repr(ClientServerStreaming(channels, COUNT))


def test_a_reply_that_is_missing_is_an_error(channels):
    # A method that streams, called as if it were unary, may end well without any reply.
    with pytest.raises(yais.YaisError) as caught:
        ClientUnary(channels, COUNT, timeout=SOON).call(b"0")
    assert caught.value.code in {yais.Code.INTERNAL, yais.Code.UNIMPLEMENTED}
