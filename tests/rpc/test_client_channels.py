"""`Channels`: several connections, balancing, retries, health, credentials, closing."""

from __future__ import annotations

import os
import threading
from collections import Counter
from contextlib import ExitStack

import grpc
import pytest
from client_peer import CHAT, ECHO, WHERE, Peer, client_threads, no_client_threads, peering
from echoing import SOON, eventually, on_thread
from grpc_health.v1 import health_pb2

import yais
from yais.rpc.client import Channels, ClientStreaming, ClientUnary, Retry

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def peer():
    with peering() as running:
        yield running


def address(peer: Peer) -> str:
    return f"127.0.0.1:{peer.port}"


def test_each_channel_has_its_own_connection(peer):
    with Channels(address(peer), count=3) as channels:
        echo = ClientUnary(channels, ECHO, timeout=SOON)
        for _ in range(6):
            echo.call(b"x")
        assert len(peer.connections) == 3
        assert client_threads() == 3


def test_clients_of_the_same_server_share_nothing(peer):
    for _ in range(2):
        with Channels(address(peer)) as channels:
            ClientUnary(channels, ECHO, timeout=SOON).call(b"x")
    assert len(peer.connections) == 2


def test_round_robin_over_addresses():
    with peering() as first, peering() as second:
        addresses = [address(first), address(second)]
        with Channels(addresses, balancing="round_robin") as channels:
            where = ClientUnary(channels, WHERE, deserialize=int, timeout=SOON)
            both = {first.port, second.port}
            eventually(lambda: {where.call(b""), where.call(b"")} == both)  # once both are connected
            answers = Counter(where.call(b"") for _ in range(20))
    assert answers == {first.port: 10, second.port: 10}


def test_one_address_is_enough_without_balancing():
    with peering() as first, peering() as second, Channels([address(first), address(second)]) as channels:
        where = ClientUnary(channels, WHERE, deserialize=int, timeout=SOON)
        assert len({where.call(b"") for _ in range(10)}) == 1


def test_servers_that_do_not_serve_get_no_calls():
    with peering() as first, peering() as second:
        first.health.set("", NOT_SERVING)
        second.health.set("", SERVING)
        addresses = [address(first), address(second)]
        with Channels(addresses, balancing="round_robin", health_service="") as channels:
            where = ClientUnary(channels, WHERE, deserialize=int, timeout=SOON)
            assert {where.submit(b"", wait_for_ready=True).result(SOON) for _ in range(20)} == {second.port}
            first.health.set("", SERVING)
            eventually(lambda: where.call(b"") == first.port)
            second.health.set("", NOT_SERVING)
            eventually(lambda: {where.call(b"", wait_for_ready=True) for _ in range(5)} == {first.port})


def test_retries(peer):
    peer.refusals = 2
    retry = Retry(attempts=3, initial_backoff=0.01, max_backoff=0.02)
    with Channels(address(peer), retry=retry) as channels:
        assert ClientUnary(channels, WHERE, deserialize=int, timeout=SOON).call(b"") == peer.port
    assert peer.calls == 3


@pytest.mark.parametrize(
    "retry", [None, Retry(attempts=2, initial_backoff=0.01), Retry(codes=("NOT_FOUND",))]
)
def test_retries_end(peer, retry):
    peer.refusals = 5
    with Channels(address(peer), retry=retry) as channels, pytest.raises(yais.Unavailable, match="not now"):
        ClientUnary(channels, WHERE, timeout=SOON).call(b"")
    assert peer.calls == (2 if retry and retry.attempts == 2 else 1)


def test_a_complete_service_config(peer):
    config = {"methodConfig": [{"name": [{}], "timeout": "0.05s"}]}
    with Channels(address(peer), service_config=config) as channels, pytest.raises(yais.DeadlineExceeded):
        ClientUnary(channels, ECHO, timeout=SOON).call(b"hold")


def test_wait_for_ready():
    with ExitStack() as stack:
        with peering() as peer:
            port = peer.port
        channels = stack.enter_context(
            Channels(f"127.0.0.1:{port}", options=[("grpc.initial_reconnect_backoff_ms", 100)])
        )
        where = ClientUnary(channels, WHERE, deserialize=int, timeout=SOON)
        with pytest.raises(yais.Unavailable):
            where.call(b"")
        call = where.submit(b"", wait_for_ready=True)
        stack.enter_context(peering(address=f"127.0.0.1:{port}"))
        assert call.result(SOON) == port


def test_credentials():
    credentials = grpc.local_channel_credentials()
    with (
        peering(credentials=grpc.local_server_credentials()) as peer,
        Channels(address(peer), tls=credentials) as channels,
    ):
        assert ClientUnary(channels, ECHO, timeout=SOON).call(b"x") == b"x"


def test_tls_is_not_spoken_by_a_plain_server(peer):
    with Channels(address(peer), tls=True) as channels, pytest.raises(yais.Unavailable):
        ClientUnary(channels, ECHO, timeout=SOON).call(b"x")


def test_long_replies():
    with peering(max_message_bytes=-1) as peer:
        with Channels(address(peer)) as channels, pytest.raises(yais.ResourceExhausted):
            ClientUnary(channels, ECHO, timeout=SOON).call(bytes(5 << 20))
        with Channels(address(peer), max_message_bytes=6 << 20) as channels:
            assert ClientUnary(channels, ECHO, None, len, timeout=SOON).call(bytes(5 << 20)) == 5 << 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"addresses": "a:1", "count": 0}, "got 0 channels, expected at least 1"),
        ({"addresses": []}, r"got addresses \[\], expected some"),
        ({"addresses": ["127.0.0.1:1", "[::1]:1"]}, "all IPv4 or all IPv6"),
        ({"addresses": ["localhost:1"]}, "got address 'localhost:1', expected a numeric one"),
        ({"addresses": ["127.0.0.1"]}, "got address '127.0.0.1', expected a numeric one"),
        ({"addresses": ["127.0.0.1:0"]}, "expected a numeric one"),
        ({"addresses": "a:1", "service_config": {}, "retry": Retry()}, "got a service config and"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(yais.InvalidArgument, match=message):
        Channels(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attempts": 1}, "got 1 attempts, expected 2 to 5"),
        ({"attempts": 6}, "got 6 attempts"),
        ({"initial_backoff": 0.001}, "got initial_backoff 0.001, expected at least 0.01 s"),
        ({"max_backoff": 0}, "got max_backoff 0, expected at least"),
        ({"multiplier": 0}, "got multiplier 0, expected more than 0"),
        ({"codes": ()}, "got codes"),
        ({"codes": ("OK",)}, "got codes"),
        ({"codes": "UNAVAILABLE"}, "got codes 'UNAVAILABLE'"),
    ],
)
def test_bad_retries(arguments, message):
    with pytest.raises(yais.InvalidArgument, match=message):
        Retry(**arguments)


def test_closing_cancels_what_is_in_flight(peer):
    channels = Channels(address(peer), count=2)
    echo = ClientUnary(channels, ECHO, timeout=SOON)
    calls = [echo.submit(b"hold") for _ in range(4)]
    streams = [ClientStreaming(channels, CHAT, timeout=SOON).open(corked=corked) for corked in (False, True)]
    assert peer.opened.wait(SOON)
    channels.close()
    for call in calls:
        assert call.done()
        with pytest.raises(yais.Cancelled, match="the client was closed"):
            call.result()
    for stream in streams:
        assert stream.status.done()
        assert stream.status.result().code is yais.Code.CANCELLED
        assert not stream.write(b"x")
        stream.cancel()
    channels.close()
    with pytest.raises(yais.FailedPrecondition, match=f"the channel to {address(peer)} is closed"):
        echo.submit(b"x")
    with pytest.raises(yais.FailedPrecondition, match="is closed"):
        ClientStreaming(channels, CHAT).open()


def test_closing_what_was_never_used():
    Channels("127.0.0.1:1", count=2).close()


def test_closing_in_a_callback(peer):
    channels = Channels(address(peer))
    echo = ClientUnary(channels, ECHO, timeout=SOON)
    held = echo.submit(b"hold")
    assert peer.opened.wait(SOON)
    assert echo.submit(b"x", then=lambda _reply: channels.close()).result(SOON) is None
    assert isinstance(held.exception(SOON), yais.Cancelled)
    no_client_threads()


def test_closing_while_others_call(peer):
    for _ in range(10):
        channels = Channels(address(peer))
        echo = ClientUnary(channels, ECHO, timeout=SOON)
        begun = threading.Semaphore(0)
        outcomes: list[BaseException] = []

        def work(echo=echo, begun=begun, outcomes=outcomes) -> None:
            try:
                while True:
                    echo.submit(b"x").exception(SOON)
                    begun.release()
            except yais.FailedPrecondition as error:
                outcomes.append(error)

        threads = [on_thread(work) for _ in range(4)]
        for _ in range(20):
            assert begun.acquire(timeout=SOON)
        channels.close()
        for thread in threads:
            thread.join(SOON)
        assert len(outcomes) == 4
    no_client_threads()


def test_nothing_is_leaked(peer):
    def use() -> None:
        with Channels(address(peer), count=2) as channels:
            ClientUnary(channels, ECHO, timeout=SOON).call(b"x")
            with ClientStreaming(channels, CHAT, timeout=SOON).open() as stream:
                stream.write(b"x")
                assert next(stream) == b"x"

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def own_threads() -> set[threading.Thread]:
        # The pool of the server that answers grows when it likes.
        return {each for each in threading.enumerate() if not each.name.startswith("ThreadPoolExecutor")}

    use()  # what gRPC opens once
    threads, before = own_threads(), descriptors()
    for _ in range(5):
        use()
    assert client_threads() == 0
    eventually(lambda: own_threads() <= threads)
    eventually(lambda: descriptors() <= before)
