"""The context of a mounted servicer: each servicer here runs under grpcio's own server and under ours.

What a caller sees of the two must be the same.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from echoing import DEADLINE, SOON, eventually

import yais

KINDS = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]

Behaviour = Callable[[Any, grpc.ServicerContext], Any]


@dataclass
class Outcome:
    """What a caller sees of a call."""

    messages: list[bytes]
    code: grpc.StatusCode
    details: str
    initial: list[tuple[str, str | bytes]]
    trailing: list[tuple[str, str | bytes]]


@contextlib.contextmanager
def grpcio_server(handler: grpc.GenericRpcHandler, compression: Any, **_: Any) -> Iterator[int]:
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, handlers=[handler], compression=compression)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield port
        finally:
            server.stop(0).wait(SOON)


@contextlib.contextmanager
def our_server(handler: grpc.GenericRpcHandler, compression: Any, **options: Any) -> Iterator[int]:
    names = {None: None, grpc.Compression.Gzip: "gzip", grpc.Compression.Deflate: "deflate"}
    transport = yais.Transport(compression=names[compression])
    server = yais.Server("127.0.0.1:0", transport=transport, **options)
    server.add_servicer(lambda servicer, host: host.add_generic_rpc_handlers((servicer,)), handler)
    with server:
        yield server.port


SERVERS = {"grpcio": grpcio_server, "yais": our_server}


@contextlib.contextmanager
def served(which: str, kind: str, behaviour: Behaviour, *, compression: Any = None, **options: Any):
    """Serve one method; yield a function that begins a call of it.

    `behaviour` gets the request (unary), or a list of those that came before the caller had no more, and
    returns the replies, which it may also yield. Replies that are more than the method's kind has are an
    error of the test.
    """

    def method(request: Any, context: grpc.ServicerContext) -> Any:
        replies = behaviour(list(request) if kind.startswith("stream") else [request], context)
        if kind.endswith("stream"):
            return iter(replies)
        [reply] = replies
        return reply

    make = getattr(grpc, f"{kind}_rpc_method_handler")
    handler = grpc.method_handlers_generic_handler("test.Context", {"Call": make(method)})
    as_sent = [("grpc.per_message_decompression", 0), ("grpc.use_local_subchannel_pool", 1)]
    with (
        SERVERS[which](handler, compression, **options) as port,
        grpc.insecure_channel(f"127.0.0.1:{port}", options=as_sent) as channel,
    ):
        stub = getattr(channel, kind)("/test.Context/Call")

        def begin(*requests: bytes, timeout: float | None = SOON, metadata: Any = None) -> Any:
            request = iter(requests) if kind.startswith("stream") else requests[0]
            start = stub if kind.endswith("stream") else stub.future
            return start(request, timeout=timeout, metadata=metadata)

        yield begin


def outcome(kind: str, call: Any) -> Outcome:
    """Wait for a call to end."""
    messages = []
    with contextlib.suppress(grpc.RpcError, grpc.FutureCancelledError):
        if kind.endswith("stream"):
            messages.extend(call)
        else:
            messages.append(call.result(SOON))
    return Outcome(
        messages, call.code(), call.details(), items(call.initial_metadata()), items(call.trailing_metadata())
    )


def items(metadata: Any) -> list[tuple[str, str | bytes]]:
    return [(key, value) for key, value in metadata or () if not key.startswith("grpc-")]


def call(which: str, kind: str, behaviour: Behaviour, **options: Any) -> Outcome:
    with served(which, kind, behaviour, **options) as begin:
        return outcome(kind, begin(b"request", metadata=[("from", "caller"), ("from-bin", b"\x00\xff")]))


# What servicers do with a context, and what they see; each yields or returns one reply


def echo(requests, context):
    yield from requests


def tell(requests, context):
    told = {
        "metadata": items(context.invocation_metadata())[:2],
        "peer": context.peer().rpartition(":")[0],
        "identities": context.peer_identities(),
        "key": context.peer_identity_key(),
        "auth": context.auth_context(),
        "active": context.is_active(),
        "left": SOON / 2 < context.time_remaining() < SOON + 1,
        "code": context.code(),
        "details": context.details(),
        "trailing": context.trailing_metadata(),
    }
    return [repr(told).encode()]


def tell_what_was_set(requests, context):
    context.set_code(grpc.StatusCode.OK)
    context.set_details("détails")
    context.set_trailing_metadata((("k", "v"),))
    return [repr((context.code(), context.details(), context.trailing_metadata())).encode()]


def metadata(requests, context):
    context.send_initial_metadata((("first", "1"), ("first-bin", b"\x00\x01")))
    context.set_trailing_metadata((("lost", "0"),))
    context.set_trailing_metadata((("last", "2"), ("last-bin", b"\xfe\xff"), ("last", "3")))
    return [b"reply"]


def initial_metadata_twice(requests, context):
    context.send_initial_metadata((("first", "1"),))
    try:
        context.send_initial_metadata((("second", "2"),))
    except ValueError as error:
        return [str(error).encode()]
    return [b"taken"]


def no_metadata(requests, context):
    context.send_initial_metadata(None)
    context.set_trailing_metadata(None)
    return [b"reply"]


def set_code(requests, context):
    context.set_code(grpc.StatusCode.NOT_FOUND)
    context.set_details("nichts da: ü")
    return [b"unseen"]


def set_code_without_details(requests, context):
    context.set_code(grpc.StatusCode.OUT_OF_RANGE)
    return [b"unseen"]


def set_code_that_is_none(requests, context):
    context.set_code(5)
    return [b"unseen"]


def set_details_as_bytes(requests, context):
    context.set_code(grpc.StatusCode.NOT_FOUND)
    context.set_details(b"bytes")
    return [b"unseen"]


def details_of_ok(requests, context):
    context.set_details("fine")
    return [b"reply"]


def abort(requests, context):
    context.set_trailing_metadata((("after", "1"),))
    context.abort(grpc.StatusCode.DATA_LOSS, "lost")


def abort_with_ok(requests, context):
    context.abort(grpc.StatusCode.OK, "fine")


def abort_with_what_is_no_code(requests, context):
    context.abort(5, "five")


def abort_and_catch(requests, context):
    with contextlib.suppress(Exception):
        context.abort(grpc.StatusCode.DATA_LOSS, "lost")
    return [b"unseen"]


class Status(grpc.Status):
    code = grpc.StatusCode.ABORTED
    details = "with status"
    trailing_metadata = (("why", "so"),)


def abort_with_status(requests, context):
    context.abort_with_status(Status())


def code_then_raise(requests, context):
    context.set_code(grpc.StatusCode.ALREADY_EXISTS)
    context.set_details("twice")
    context.set_trailing_metadata((("after", "1"),))
    raise ValueError("the reason is another")


def details_then_raise(requests, context):
    context.set_details("what the caller is told")
    raise ValueError("the reason is another")


BEHAVIOURS = [
    echo,
    tell,
    tell_what_was_set,
    metadata,
    initial_metadata_twice,
    no_metadata,
    set_code,
    set_code_without_details,
    set_code_that_is_none,
    set_details_as_bytes,
    details_of_ok,
    abort,
    abort_with_ok,
    abort_with_what_is_no_code,
    abort_and_catch,
    abort_with_status,
    code_then_raise,
    details_then_raise,
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda behaviour: behaviour.__name__)
def test_same_as_grpcio(kind, behaviour):
    expected = call("grpcio", kind, behaviour)
    assert call("yais", kind, behaviour) == expected


def test_same_is_not_nothing():
    """What the comparisons above compare."""
    seen = call("grpcio", "stream_stream", metadata)
    assert seen.messages == [b"reply"]
    assert ("first-bin", b"\x00\x01") in seen.initial
    assert seen.trailing == [("last", "2"), ("last-bin", b"\xfe\xff"), ("last", "3")]
    assert call("grpcio", "unary_unary", abort).code is grpc.StatusCode.DATA_LOSS


def test_who_calls_under_mutual_tls(tmp_path):
    from authority import Authority  # here, since it skips without the package it needs

    authority = Authority()
    server_pair, pair = authority.certify("server", "localhost"), authority.certify("client", "a", "b")
    client_ca = tmp_path / "ca.crt"
    client_ca.write_bytes(authority.certificate)
    told = []

    def tell(request, context):
        told.append((context.peer_identities(), context.peer_identity_key(), context.auth_context()))
        return b""

    handler = grpc.method_handlers_generic_handler(
        "test.Context", {"Call": grpc.unary_unary_rpc_method_handler(tell)}
    )
    server = yais.Server("127.0.0.1:0", tls=yais.Tls(*server_pair.write(tmp_path), client_ca))
    server.add_servicer(lambda servicer, host: host.add_generic_rpc_handlers((servicer,)), handler)
    with ThreadPoolExecutor(1) as pool, server:
        grpcio = grpc.server(pool, handlers=[handler])
        key_and_certificate = [(server_pair.key, server_pair.certificate)]
        credentials = grpc.ssl_server_credentials(key_and_certificate, authority.certificate, True)
        ports = [grpcio.add_secure_port("127.0.0.1:0", credentials), server.port]
        grpcio.start()
        for port in ports:
            client = grpc.ssl_channel_credentials(authority.certificate, pair.key, pair.certificate)
            options = [("grpc.ssl_target_name_override", "localhost")]
            with grpc.secure_channel(f"127.0.0.1:{port}", client, options=options) as channel:
                channel.unary_unary("/test.Context/Call")(b"", timeout=SOON)
        grpcio.stop(0).wait(SOON)
    assert told[0] == told[1]
    assert told[1][:2] == ([b"a", b"b"], "x509_subject_alternative_name")
    assert told[1][2]["x509_common_name"] == [b"client"]


# Compression

TEXT = b"x" * 5000
GZIP, DEFLATE = b"\x1f\x8b", b"\x78"


def starts(outcome: Outcome) -> list[bytes]:
    """Return how each message begins on the wire."""
    assert outcome.code is grpc.StatusCode.OK
    return [message[:2] if message[:2] == GZIP else message[:1] for message in outcome.messages]


@pytest.mark.parametrize("which", SERVERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("headers_first", [False, True])
@pytest.mark.parametrize(
    ("compression", "start"), [(grpc.Compression.Gzip, GZIP), (grpc.Compression.Deflate, DEFLATE)]
)
def test_set_compression(which, kind, compression, start, headers_first):
    def compressed(requests, context):
        context.set_compression(compression)
        if headers_first:
            context.send_initial_metadata((("k", "v"),))
        return [TEXT]

    seen = call(which, kind, compressed)
    assert starts(seen) == [start]
    assert seen.initial == ([("k", "v")] if headers_first else [])


@pytest.mark.parametrize("which", SERVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_compression_of_the_server(which, kind):
    def plain(requests, context):
        return [TEXT]

    assert starts(call(which, kind, plain, compression=grpc.Compression.Gzip)) == [GZIP]
    assert starts(call(which, kind, plain)) == [b"x"]


@pytest.mark.parametrize("which", SERVERS)
def test_no_compression_is_what_the_server_does_by_default(which):
    def plain(requests, context):
        context.set_compression(grpc.Compression.NoCompression)
        return [TEXT]

    assert starts(call(which, "unary_unary", plain, compression=grpc.Compression.Gzip)) == [GZIP]
    assert starts(call(which, "unary_unary", plain)) == [b"x"]


@pytest.mark.parametrize("which", SERVERS)
@pytest.mark.parametrize("kind", ["unary_stream", "stream_stream"])
def test_disable_next_message_compression(which, kind):
    def some(requests, context):
        context.set_compression(grpc.Compression.Gzip)
        yield TEXT
        context.disable_next_message_compression()
        yield TEXT
        yield TEXT

    assert starts(call(which, kind, some)) == [GZIP, b"x", GZIP]


@pytest.mark.parametrize("which", SERVERS)
@pytest.mark.parametrize("kind", ["unary_unary", "stream_unary"])
def test_disable_compression_of_the_only_message(which, kind):
    def plain(requests, context):
        context.disable_next_message_compression()
        return [TEXT]

    assert starts(call(which, kind, plain, compression=grpc.Compression.Gzip)) == [b"x"]


@pytest.mark.parametrize("which", SERVERS)
def test_disable_compression_without_a_thread(which):
    def some(request, context, send_response_callback):
        context.set_compression(grpc.Compression.Gzip)
        for disable in (False, True, False):
            if disable:
                context.disable_next_message_compression()
            send_response_callback(TEXT)
        send_response_callback(None)

    some.experimental_non_blocking = True
    handler = grpc.method_handlers_generic_handler(
        "test.Context", {"Call": grpc.unary_stream_rpc_method_handler(some)}
    )
    as_sent = [("grpc.per_message_decompression", 0)]
    with (
        SERVERS[which](handler, None) as port,
        grpc.insecure_channel(f"127.0.0.1:{port}", options=as_sent) as channel,
    ):
        assert starts(
            outcome("unary_stream", channel.unary_stream("/test.Context/Call")(b"", timeout=SOON))
        ) == [
            GZIP,
            b"x",
            GZIP,
        ]


def test_a_compression_that_is_none():
    def wrong(requests, context):
        with pytest.raises(ValueError, match="9 is not a valid Compression"):
            context.set_compression(9)
        return [TEXT]

    assert starts(call("yais", "unary_unary", wrong)) == [b"x"]


# Time, and the end of the call


@pytest.mark.parametrize("which", SERVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_time_remaining_without_a_deadline(which, kind):
    left = []

    def note(requests, context):
        left.append(context.time_remaining())
        return [b""]

    with served(which, kind, note) as begin:
        assert outcome(kind, begin(b"", timeout=None)).code is grpc.StatusCode.OK
    assert left[0] > 1e9


@pytest.mark.parametrize("which", SERVERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by", ["caller", "servicer", "deadline"])
def test_a_call_that_is_cut_short(which, kind, by):
    begun, over, told = threading.Event(), threading.Event(), {}

    def cut(requests, context):
        assert context.add_callback(over.set)
        begun.set()
        if by == "servicer":
            context.cancel()
            context.cancel()
        over.wait(SOON)
        if by == "deadline":  # that of the server, which began to count a little later than the client
            eventually(lambda: context.time_remaining() < 0.005)
        told.update(
            active=context.is_active(),
            callback=context.add_callback(over.set),
            # To 10 ms: the deadline is rounded up on its way, and the client ends the call at its own.
            late=by == "deadline" and round(context.time_remaining(), 2),
        )
        with contextlib.suppress(grpc.RpcError):
            context.send_initial_metadata(())
            told["sent"] = True
        told["end"] = True
        return [b"unseen"]

    with served(which, kind, cut) as begin:
        call = begin(b"", timeout=DEADLINE if by == "deadline" else SOON)
        assert begun.wait(SOON)
        if by == "caller":
            call.cancel()
        eventually(lambda: "end" in told)
        expected = grpc.StatusCode.DEADLINE_EXCEEDED if by == "deadline" else grpc.StatusCode.CANCELLED
        assert outcome(kind, call).code is expected
    assert told == {"active": False, "callback": False, "late": 0, "end": True} | (
        {"late": False} if by != "deadline" else {}
    )


@pytest.mark.parametrize("which", SERVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_callbacks_of_a_call_that_ends_well(which, kind):
    called = threading.Event()

    def watched(requests, context):
        assert context.add_callback(called.set)
        assert not called.is_set()
        return [b""]

    assert call(which, kind, watched).code is grpc.StatusCode.OK
    assert called.wait(SOON)


@pytest.mark.parametrize("which", SERVERS)
def test_a_context_that_outlives_its_call(which):
    contexts = []

    def keep(requests, context):
        contexts.append(context)
        return [b""]

    assert call(which, "unary_unary", keep).code is grpc.StatusCode.OK
    assert not contexts[0].is_active()
    contexts[0].cancel()


@pytest.mark.parametrize("which", SERVERS)
def test_a_call_with_a_status_is_not_active(which):
    active = []

    def reply(request, context, send_response_callback):
        active.append(context.is_active())
        send_response_callback(None)
        active.append(context.is_active())

    reply.experimental_non_blocking = True
    handler = grpc.method_handlers_generic_handler(
        "test.Context", {"Call": grpc.unary_stream_rpc_method_handler(reply)}
    )
    with SERVERS[which](handler, None) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert list(channel.unary_stream("/test.Context/Call")(b"", timeout=SOON)) == []
        eventually(lambda: len(active) == 2)
    assert active == [True, False]


def test_raising_after_ok_was_said():
    # Under grpcio the status is OK then, although there is no reply.
    def ok_then_raise(requests, context):
        context.set_code(grpc.StatusCode.OK)
        raise ValueError("no")

    seen = call("yais", "unary_unary", ok_then_raise)
    assert seen.code is grpc.StatusCode.UNKNOWN
    assert seen.details == "Exception calling application: ValueError: no"


def test_an_error_of_ours_has_its_own_details():
    def not_found(requests, context):
        context.set_details("found")
        raise yais.NotFound("gone")

    seen = call("yais", "unary_unary", not_found)
    assert (seen.code, seen.details) == (grpc.StatusCode.NOT_FOUND, "gone")


def test_trailing_metadata_of_an_interceptor_and_what_cannot_be_sent():
    class Add(yais.Interceptor):
        def begin(self, call):
            call.trailing_metadata.append(("by", "interceptor"))

    def good(requests, context):
        context.set_trailing_metadata((("by", "method"),))
        return [b""]

    def bad(requests, context):
        context.set_trailing_metadata(5)
        return [b""]

    seen = call("yais", "unary_unary", good, interceptors=[Add()])
    assert seen.trailing == [("by", "interceptor"), ("by", "method")]
    seen = call("yais", "unary_unary", bad, interceptors=[Add()])
    assert (seen.code, seen.details) == (
        grpc.StatusCode.INTERNAL,
        "trailing metadata: got 5, expected a sequence of pairs",
    )
