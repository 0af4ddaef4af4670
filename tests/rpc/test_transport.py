"""What can be set on a server's connections, each shown by what a client sees of it."""

from __future__ import annotations

import dataclasses
import time

import grpc
import pytest
from echo_pb2 import EchoReply, EchoRequest
from echoing import SAY, SOON, Held, echo_service, echoing, eventually
from wire import ACK, ENHANCE_YOUR_CALM, GOAWAY, MAX_CONCURRENT_STREAMS, PING, SETTINGS, Wire, kind

import yais
from yais.rpc.transport import Transport


class Echo(yais.Context[EchoRequest, EchoReply, yais.Resources]):
    def execute(self, request):
        return EchoReply(text=request.text)


# Values


def test_defaults():
    assert Transport().arguments() == {
        "grpc.keepalive_time_ms": 60_000,
        "grpc.keepalive_timeout_ms": 20_000,
        "grpc.http2.ping_timeout_ms": 20_000,
        "grpc.keepalive_permit_without_calls": 0,
        "grpc.http2.min_ping_interval_without_data_ms": 300_000,
        "grpc.http2.max_ping_strikes": 2,
        "grpc.server_handshake_timeout_ms": 120_000,
        "grpc.server.max_pending_requests": 2999,
        "grpc.server.max_pending_requests_hard_limit": 3000,
        "grpc.server_max_unrequested_time_in_server": 30,
        "grpc.max_metadata_size": 16384,
        "grpc.absolute_max_metadata_size": 16384,
        "grpc.default_compression_algorithm": 0,
        "grpc.so_reuseport": 0,
    }


def test_no_keepalive():
    assert Transport(keepalive=None).arguments()["grpc.keepalive_time_ms"] == 2**31 - 1


def test_it_cannot_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Transport().keepalive = 1.0


@pytest.mark.parametrize(
    ("field", "value", "error", "message"),
    [
        ("keepalive", 0, ValueError, "got keepalive=0, expected seconds or None, from 0.001 to"),
        ("keepalive", "60s", TypeError, "got keepalive='60s', expected seconds or None"),
        ("keepalive_timeout", None, TypeError, "got keepalive_timeout=None, expected seconds$"),
        ("max_connection_age", float("inf"), ValueError, "got max_connection_age=inf"),
        ("max_connection_idle", float("nan"), ValueError, "got max_connection_idle=nan"),
        ("handshake_timeout", True, TypeError, "got handshake_timeout=True"),
        ("min_ping_interval", 1e9, ValueError, "from 0.001 to 2147483$"),
        (
            "max_connections",
            0,
            ValueError,
            "got max_connections=0, expected a whole number or None, from 1 to",
        ),
        ("max_connections", 2**31 - 1, ValueError, "to 2147483646$"),  # which aborts the process
        ("max_concurrent_streams", 1.5, TypeError, "expected a whole number or None"),
        ("max_metadata_bytes", None, TypeError, "expected a whole number$"),
        ("max_waiting_time", 0.5, TypeError, "expected a whole number$"),
        ("compression", "brotli", ValueError, "got compression='brotli', expected 'gzip', 'deflate' or None"),
        ("reuse_port", 1, TypeError, "got reuse_port=1, expected True or False"),
        ("keepalive_without_calls", None, TypeError, "expected True or False"),
    ],
)
def test_bad_values(field, value, error, message):
    with pytest.raises(error, match=message):
        Transport(**{field: value})


def test_options_of_the_server_win():
    with (
        echoing(Echo, transport=Transport(max_concurrent_streams=3), options=[(STREAMS, 5)]) as client,
        Wire(client.server.port) as wire,
    ):
        assert settings(wire)[MAX_CONCURRENT_STREAMS] == 5


# Signs of life


def test_keepalive():
    transport = Transport(keepalive=0.05, keepalive_timeout=SOON, keepalive_without_calls=True)
    with echoing(Echo, transport=transport) as client, Wire(client.server.port) as wire:
        for _ in range(3):
            wire.send(PING, wire.wait(kind(PING)).payload, ACK)


def test_keepalive_timeout():
    transport = Transport(keepalive=0.05, keepalive_timeout=0.05, keepalive_without_calls=True)
    with echoing(Echo, transport=transport) as client, Wire(client.server.port) as wire:
        wire.wait(kind(PING))
        wire.wait_closed()


def ping(wire: Wire, count: int, *, pause: float = 0.0) -> list[int]:
    """Ask for signs of life; return for each whether it came (PING) or the server had enough (GOAWAY)."""
    answers = []
    for _ in range(count):
        time.sleep(pause)
        wire.send(PING, bytes(8))
        answer = wire.wait(lambda frame: (frame.kind, frame.flags) in ((PING, ACK), (GOAWAY, 0)))
        answers.append(answer.kind)
        if answer.kind == GOAWAY:
            assert int.from_bytes(answer.payload[4:8]) == ENHANCE_YOUR_CALM
            break
    return answers


# The first is before the interval begins, and one more than the strikes is one too many.
@pytest.mark.parametrize(("strikes", "taken"), [(1, 3), (2, 4), (4, 6)])
def test_max_ping_strikes(strikes, taken):
    with (
        echoing(Echo, transport=Transport(max_ping_strikes=strikes)) as client,
        Wire(client.server.port) as wire,
    ):
        assert ping(wire, 20) == [PING] * taken + [GOAWAY]


@pytest.mark.parametrize(
    ("transport", "pause"),
    [
        (Transport(max_ping_strikes=None), 0.0),
        (Transport(min_ping_interval=0.001, keepalive_without_calls=True), 0.005),
    ],
    ids=["strikes", "interval"],
)
def test_a_client_that_may_ask(transport, pause):
    with echoing(Echo, transport=transport) as client, Wire(client.server.port) as wire:
        assert ping(wire, 20, pause=pause) == [PING] * 20


# Connections


def test_max_connection_idle():
    with (
        echoing(Echo, transport=Transport(max_connection_idle=0.05)) as client,
        Wire(client.server.port) as wire,
    ):
        wire.wait(kind(GOAWAY))


def test_max_connection_age_lets_calls_end():
    held = Held.fresh()
    with echoing(held, transport=Transport(max_connection_age=0.1)) as client:
        states: list[grpc.ChannelConnectivity] = []
        client.channel.subscribe(states.append)
        call = client.begin("hold")
        held.started.wait("hold")
        eventually(lambda: states[-1:] == [grpc.ChannelConnectivity.IDLE])
        held.finish("hold")
        assert call.result(SOON).text == "hold"
        assert client.say("again") == "again"


def test_max_connection_age_grace():
    held = Held.fresh()
    transport = Transport(max_connection_age=0.05, max_connection_age_grace=0.05)
    with echoing(held, transport=transport) as client:
        call = client.begin("hold")
        assert call.exception(SOON).code() is grpc.StatusCode.UNAVAILABLE
        client.idle()


def test_max_connections():
    with (
        echoing(Echo, transport=Transport(max_connections=2)) as client,
        Wire(client.server.port) as first,
        Wire(client.server.port) as second,
    ):
        assert first.frame() and second.frame()
        with Wire(client.server.port, greet=False) as third:
            third.wait_closed()


def test_handshake_timeout():
    with (
        echoing(Echo, transport=Transport(handshake_timeout=0.05)) as client,
        Wire(client.server.port, greet=False) as wire,
    ):
        wire.wait_closed()


# Calls

STREAMS = "grpc.max_concurrent_streams"


def settings(wire: Wire) -> dict[int, int]:
    """Return the settings that a server sends first."""
    payload = wire.wait(kind(SETTINGS)).payload
    parts = [payload[at : at + 6] for at in range(0, len(payload), 6)]
    return {int.from_bytes(part[:2]): int.from_bytes(part[2:]) for part in parts}


def test_max_concurrent_streams():
    with (
        echoing(Echo, transport=Transport(max_concurrent_streams=3)) as client,
        Wire(client.server.port) as wire,
    ):
        assert settings(wire)[MAX_CONCURRENT_STREAMS] == 3


@pytest.mark.parametrize("limit", [1, 3])
def test_max_waiting_calls(limit):
    held = Held.fresh()
    with echoing(held, contexts=1, transport=Transport(max_waiting_calls=limit)) as client:
        first = client.begin("hold")
        held.started.wait("hold")
        waiting = []
        for number in range(limit):
            waiting.append(client.begin(str(number)))
            client.pass_by()
        refused = (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"{limit} calls of {SAY} wait for a context, and no more may",
        )
        assert client.status("one more") == refused
        assert client.server.statistics().methods[SAY].refused == 1
        held.finish("hold")
        assert first.result(SOON).text == "hold"
        assert [call.result(SOON).text for call in waiting] == [str(number) for number in range(limit)]


def test_max_waiting_time():
    held = Held.fresh()
    with echoing(held, contexts=1, transport=Transport(max_waiting_time=1)) as client:
        first = client.begin("hold")
        held.started.wait("hold")
        late = client.begin("late")
        client.pass_by()
        time.sleep(1.1)  # gRPC takes whole seconds
        held.finish("hold")
        assert first.result(SOON).text == "hold"
        assert late.exception(SOON).code() is grpc.StatusCode.UNAVAILABLE
        assert client.say("next") == "next"


@pytest.mark.parametrize("limit", [2000, 16 << 10])
def test_max_metadata_bytes(limit):
    # gRPC's own headers count, and 32 bytes for each.
    with echoing(Echo, transport=Transport(max_metadata_bytes=limit)) as client:
        assert client.say("fits", metadata=[("k", "x" * (limit - 1000))]) == "fits"
        error = client.fail("too much", metadata=[("k", "x" * limit)])
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("compression", "start"), [("gzip", b"\x1f\x8b"), ("deflate", b"\x78"), (None, b"\x0a")]
)
def test_compression(compression, start):
    text = "x" * 10_000
    with echoing(Echo, transport=Transport(compression=compression)) as client:
        assert client.say(text) == text
        as_sent = [("grpc.per_message_decompression", 0)]
        with grpc.insecure_channel(f"127.0.0.1:{client.server.port}", options=as_sent) as channel:
            reply = channel.unary_unary(SAY)(EchoRequest(text=text).SerializeToString(), timeout=SOON)
        assert reply.startswith(start)
        assert (len(reply) < 200) == (compression is not None)


# Addresses


def test_reuse_port():
    with echoing(Echo, transport=Transport(reuse_port=True)) as client:
        other = yais.Server(f"127.0.0.1:{client.server.port}", transport=Transport(reuse_port=True))
        with other:
            assert other.port == client.server.port


def test_a_port_is_not_shared_by_default():
    with echoing(Echo) as client:
        other = yais.Server(f"127.0.0.1:{client.server.port}")
        with pytest.raises(OSError, match="cannot listen on"):
            other.start()


def test_unix_socket(tmp_path):
    address = f"unix:{tmp_path}/echo.sock"
    server = yais.Server(address)
    server.add(echo_service(Echo))
    with server, grpc.insecure_channel(address) as channel:
        say = channel.unary_unary(SAY, EchoRequest.SerializeToString, EchoReply.FromString)
        assert say(EchoRequest(text="near"), timeout=SOON).text == "near"
