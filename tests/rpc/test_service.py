"""Services: which class may serve which RPC, and how messages are read and written, on every kind."""

from __future__ import annotations

import asyncio
import re
import struct

import grpc
import pytest
from echoing import SOON, on_thread
from google.protobuf import descriptor_pb2, descriptor_pool, wrappers_pb2
from google.protobuf.wrappers_pb2 import Int64Value, StringValue
from streaming import RAW, SERVICE, Codec, Requests, connected, ended

import yais

KINDS = {"One": (False, False), "Down": (False, True), "Up": (True, False), "Chat": (True, True)}
"""For each RPC whether there are many requests, and many replies."""


def described() -> yais.Service:
    """Make a service of protobuf's with an RPC of each kind."""
    pool = descriptor_pool.Default()
    try:
        file = pool.FindFileByName("tests/kinds.proto")
    except KeyError:
        proto = descriptor_pb2.FileDescriptorProto(name="tests/kinds.proto", package="tests")
        proto.dependency.append(wrappers_pb2.DESCRIPTOR.name)
        service = proto.service.add(name="Kinds")
        for name, (many_requests, many_replies) in KINDS.items():
            service.method.add(
                name=name,
                input_type=".google.protobuf.StringValue",
                output_type=".google.protobuf.Int64Value",
                client_streaming=many_requests,
                server_streaming=many_replies,
            )
        file = pool.AddSerializedFile(proto.SerializeToString()) or pool.FindFileByName(proto.name)
    return yais.Service(file.services_by_name["Kinds"])


class Unary(yais.Context):
    def execute(self, request):
        return request


class ServerStreaming(yais.ServerStreamingContext):
    def execute(self, request):
        yield request
        yield request


class AsyncServerStreaming(yais.ServerStreamingContext):
    async def execute(self, request):
        yield request
        yield request


class Batching(yais.BatchingContext):
    def execute(self, requests):
        return requests


class BatchingOne(yais.BatchingContext):
    def execute(self, requests):
        return requests[-1]


class Streaming(yais.StreamingContext):
    def on_request(self, request, stream):
        stream.write(request)


class AsyncStreaming(yais.StreamingContext):
    async def execute(self, requests):
        async for request in requests:
            yield request


class AsyncStreamingOne(yais.StreamingContext):
    async def execute(self, requests):
        return [request async for request in requests][-1]


class Bidirectional(yais.BidirectionalContext):
    def execute(self, request):
        return request


class Future(yais.Context):
    def execute(self, request):
        future = yais.Future()
        on_thread(lambda: future.set_result(request))
        return future


class Coroutine(yais.Context):
    async def execute(self, request):
        await asyncio.sleep(0)
        return request


# Which class serves which RPC


FITTING = {
    "One": [Unary],
    "Down": [ServerStreaming],
    "Up": [Batching, Streaming],
    "Chat": [Batching, Streaming, Bidirectional],
}
EVERY = [Unary, ServerStreaming, Batching, Streaming, Bidirectional]


@pytest.mark.parametrize("context", EVERY, ids=lambda each: each.__name__)
@pytest.mark.parametrize("rpc", KINDS)
def test_kinds(rpc, context):
    service = described()
    if context in FITTING[rpc]:
        service.register(rpc, context)
        method = service.methods[rpc]
        assert (method.request_stream, method.reply_stream) == KINDS[rpc]
        assert method.path == f"/tests.Kinds/{rpc}"
        return
    expected = " or ".join(each.__bases__[0].__name__ for each in FITTING[rpc])
    wire = {
        "One": "one request and one reply",
        "Down": "one request and a stream of replies",
        "Up": "a stream of requests and one reply",
        "Chat": "a stream of requests and a stream of replies",
    }[rpc]
    message = (
        f"got {context.__name__}, a {context.__bases__[0].__name__}, for tests.Kinds.{rpc}, "
        f"expected a {expected} for {wire}"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        service.register(rpc, context)
    assert not service.methods


@pytest.mark.parametrize(
    "context",
    [Streaming(), dict, yais.Resources, None, "Echo"],
    ids=["instance", "dict", "Resources", "None", "name"],
)
@pytest.mark.parametrize("make", [described, lambda: yais.Service(SERVICE)], ids=["protobuf", "other"])
def test_what_is_no_context_class(make, context):
    expected = "expected a subclass of Context, ServerStreamingContext, BatchingContext, StreamingContext"
    with pytest.raises(TypeError, match=f"^got .*, {expected}, BidirectionalContext$"):
        make().register("Chat", context)


def test_a_subclass_of_a_subclass():
    class Special(Streaming):
        pass

    service = described()
    service.register("Chat", Special)
    with pytest.raises(ValueError, match=r"got Special, a StreamingContext, for tests\.Kinds\.One"):
        service.register("One", Special)


def test_an_rpc_there_is_not():
    message = r"got rpc 'Chatt', expected one of tests\.Kinds: One, Down, Up, Chat"
    with pytest.raises(ValueError, match=message):
        described().register("Chatt", Streaming)


@pytest.mark.parametrize("make", [described, lambda: yais.Service(SERVICE)], ids=["protobuf", "other"])
def test_twice(make):
    service = make()
    service.register("Chat", Streaming, deserialize=bytes, serialize=bytes)
    with pytest.raises(ValueError, match=r"\.Chat is registered already"):
        service.register("Chat", Bidirectional, deserialize=bytes, serialize=bytes)
    assert service.methods["Chat"].context is Streaming


@pytest.mark.parametrize("contexts", [0, -1])
def test_too_few_contexts(contexts):
    with pytest.raises(ValueError, match=f"got contexts={contexts}, expected at least 1"):
        described().register("Chat", Streaming, contexts=contexts)


# Without a descriptor


@pytest.mark.parametrize("given", [{}, {"deserialize": bytes}, {"serialize": bytes}], ids=str)
def test_a_service_without_a_descriptor_needs_a_codec(given):
    service = yais.Service("a.B")
    message = r"a\.B\.Run: got no codec, expected deserialize and serialize"
    with pytest.raises(TypeError, match=message):
        service.register("Run", Unary, **given)
    assert not service.methods


@pytest.mark.parametrize(
    ("context", "reply_stream", "expected"),
    [
        (Unary, True, (False, False)),
        (Unary, False, (False, False)),
        (ServerStreaming, True, (False, True)),
        (ServerStreaming, False, (False, True)),
        (Bidirectional, True, (True, True)),
        (Bidirectional, False, (True, True)),
        (Batching, True, (True, True)),
        (Batching, False, (True, False)),
        (Streaming, True, (True, True)),
        (Streaming, False, (True, False)),
    ],
)
def test_the_kind_follows_from_the_class(context, reply_stream, expected):
    service = yais.Service("a.B")
    service.register("Run", context, deserialize=bytes, serialize=bytes, reply_stream=reply_stream)
    method = service.methods["Run"]
    assert (method.request_stream, method.reply_stream) == expected


def test_status_lines():
    service = yais.Service("a.B")
    assert repr(service) == "<Service a.B: nothing registered>"
    service.register("Run", Unary, deserialize=bytes, serialize=bytes)
    service.register("Walk", Unary, deserialize=bytes, serialize=bytes)
    assert repr(service) == "<Service a.B: Run, Walk>"


# Messages of protobuf's


def protobuf_client(channel, rpc):
    kind = {"One": "unary_unary", "Down": "unary_stream", "Up": "stream_unary", "Chat": "stream_stream"}[rpc]
    return getattr(channel, kind)(f"/tests.Kinds/{rpc}", StringValue.SerializeToString, Int64Value.FromString)


def test_protobuf_on_every_kind():
    class One(yais.Context):
        def execute(self, request):
            return Int64Value(value=int(request.value))

    class Down(yais.ServerStreamingContext):
        def execute(self, request):
            return [Int64Value(value=n) for n in range(int(request.value))]

    class Up(yais.BatchingContext):
        def execute(self, requests):
            return Int64Value(value=sum(int(request.value) for request in requests))

    class Chat(yais.BidirectionalContext):
        def execute(self, request):
            return Int64Value(value=int(request.value))

    service = described()
    for context in (One, Down, Up, Chat):
        service.register(context.__name__, context)
    texts = [StringValue(value=text) for text in ("5", "6")]
    with connected(service) as client:
        channel = client.channel
        assert protobuf_client(channel, "One")(texts[0], timeout=SOON).value == 5
        down = protobuf_client(channel, "Down")(texts[0], timeout=SOON)
        assert [reply.value for reply in down] == [0, 1, 2, 3, 4]
        assert protobuf_client(channel, "Up")(iter(texts), timeout=SOON).value == 11
        chat = protobuf_client(channel, "Chat")(iter(texts), timeout=SOON)
        assert [reply.value for reply in chat] == [5, 6]


@pytest.mark.parametrize("rpc", KINDS)
def test_a_reply_of_another_type(rpc):
    # Any message of protobuf's can be written, but not any can be read as this one.
    wrong = StringValue(value="no number")
    contexts = {
        "One": Unary,
        "Down": ServerStreaming,
        "Up": BatchingOne,
        "Chat": Bidirectional,
    }
    service = described()
    service.register(rpc, contexts[rpc])
    with connected(service) as client:
        # With one message or many it is the same on the wire.
        method = client.channel.stream_stream(f"/tests.Kinds/{rpc}", StringValue.SerializeToString)
        call = method(iter([wrong]), timeout=SOON)
        assert ended(call) == ([], grpc.StatusCode.INTERNAL)
        assert "cannot encode the reply" in call.details()
        assert "got StringValue, expected Int64Value" in call.details()


@pytest.mark.parametrize("rpc", KINDS)
def test_a_request_that_is_not_protobufs(rpc):
    service = described()
    service.register(rpc, FITTING[rpc][0])
    with connected(service) as client:
        call = client.channel.stream_stream(f"/tests.Kinds/{rpc}")(iter([b"\xff"]), timeout=SOON)
        assert ended(call) == ([], grpc.StatusCode.INTERNAL)
        assert f"/tests.Kinds/{rpc}: cannot decode the request" in call.details()


# Messages of other kinds, on every kind of RPC


FORMS = {
    "Unary": (Unary, 1),
    "Future": (Future, 1),
    "Coroutine": (Coroutine, 1),
    "ServerStreaming": (ServerStreaming, 2),
    "AsyncServerStreaming": (AsyncServerStreaming, 2),
    "Batching": (Batching, 1),
    "BatchingOne": (BatchingOne, 1),
    "Streaming": (Streaming, 1),
    "AsyncStreaming": (AsyncStreaming, 1),
    "AsyncStreamingOne": (AsyncStreamingOne, 1),
    "Bidirectional": (Bidirectional, 1),
}
"""Each form that echoes, and how many answers it gives to one request."""

forms = pytest.mark.parametrize("form", FORMS)


def service_with(form, codec: Codec) -> yais.Service:
    deserialize, serialize = codec
    service = yais.Service(SERVICE)
    service.register(
        "Run",
        FORMS[form][0],
        contexts=1,
        deserialize=deserialize,
        serialize=serialize,
        reply_stream=not form.endswith("One"),
    )
    return service


POINT = struct.Struct("<if")


@forms
@pytest.mark.parametrize(
    ("codec", "message", "seen"),
    [
        (RAW, b"\x00\xff", bytes),
        ((memoryview, bytes), b"\x00\xff", memoryview),
        ((memoryview, memoryview.tobytes), b"", memoryview),
        ((POINT.unpack, lambda point: POINT.pack(*point)), POINT.pack(3, 0.5), tuple),
        ((lambda data: data.decode("utf-16"), lambda text: text.encode("utf-16")), "é".encode("utf-16"), str),
    ],
    ids=["bytes", "memoryview", "memoryview both ways", "struct", "text"],
)
def test_codecs(form, codec, message, seen):
    types = []
    deserialize, serialize = codec

    def noting(data):
        types.append((type(data), type(deserialize(data))))
        return deserialize(data)

    with connected(service_with(form, (noting, serialize)), codec=RAW) as client:
        answers, code = ended(client.chat([message]))
    assert (answers, code) == ([message] * FORMS[form][1], grpc.StatusCode.OK)
    assert types == [(bytes, seen)]


@forms
@pytest.mark.parametrize(
    ("error", "code", "details"),
    [
        (yais.InvalidArgument("not mine"), grpc.StatusCode.INVALID_ARGUMENT, "not mine"),
        (
            ValueError("odd"),
            grpc.StatusCode.INTERNAL,
            f"/{SERVICE}/Run: cannot decode the request: ValueError: odd",
        ),
        (
            SystemExit(1),
            grpc.StatusCode.INTERNAL,
            f"/{SERVICE}/Run: cannot decode the request: SystemExit: 1",
        ),
    ],
    ids=["own", "foreign", "exit"],
)
def test_deserialize_raises(form, error, code, details):
    def deserialize(data):
        if data == b"good":
            return data
        raise error

    with connected(service_with(form, (deserialize, bytes)), codec=RAW) as client:
        for _ in range(2):
            call = client.chat([b"bad"])
            assert ended(call) == ([], code)
            assert call.details() == details
            assert ended(client.chat([b"good"])) == ([b"good"] * FORMS[form][1], grpc.StatusCode.OK)


@pytest.mark.parametrize("form", ["Batching", "Streaming", "AsyncStreaming", "Bidirectional"])
def test_a_later_request_that_cannot_be_decoded(form):
    def deserialize(data):
        if data == b"bad":
            raise ValueError("odd")
        return data

    service = service_with(form, (deserialize, bytes))
    with connected(service, codec=RAW) as client, Requests(b"good") as requests:
        call = client.chat(requests)
        if form != "Batching":
            assert next(call) == b"good"
        requests.send(b"bad")
        assert ended(call) == ([], grpc.StatusCode.INTERNAL)
        assert "cannot decode the request: ValueError: odd" in call.details()


@forms
@pytest.mark.parametrize(
    ("serialize", "details"),
    [
        (lambda _: 1 / 0, "cannot encode the reply: ZeroDivisionError"),
        (lambda _: "text", "cannot encode the reply: TypeError: serialize returned str, expected bytes"),
        (memoryview, "serialize returned memoryview, expected bytes"),
        (bytearray, "serialize returned bytearray, expected bytes"),
        (lambda _: None, "serialize returned NoneType, expected bytes"),
    ],
    ids=["raises", "str", "memoryview", "bytearray", "None"],
)
def test_serialize_fails(form, serialize, details):
    def only_good(message):
        return message if message == b"good" else serialize(message)

    with connected(service_with(form, (bytes, only_good)), codec=RAW) as client:
        for _ in range(2):
            call = client.chat([b"bad"])
            assert ended(call) == ([], grpc.StatusCode.INTERNAL)
            assert f"/{SERVICE}/Run: " in call.details() and details in call.details()
            assert ended(client.chat([b"good"])) == ([b"good"] * FORMS[form][1], grpc.StatusCode.OK)


@pytest.mark.parametrize("rpc", KINDS)
def test_a_codec_of_ones_own_for_a_service_of_protobufs(rpc):
    service = described()
    service.register(rpc, FITTING[rpc][0] if rpc != "Up" else BatchingOne, deserialize=bytes, serialize=bytes)
    with connected(service) as client:
        call = client.channel.stream_stream(f"/tests.Kinds/{rpc}")(iter([b"\xff"]), timeout=SOON)
        answers, code = ended(call)
    assert (set(answers), code) == ({b"\xff"}, grpc.StatusCode.OK)


def test_only_half_a_codec_for_a_service_of_protobufs():
    class Length(yais.Context):
        def execute(self, request):
            return Int64Value(value=len(request))

    service = described()
    service.register("One", Length, deserialize=bytes)
    with connected(service) as client:
        method = client.channel.unary_unary("/tests.Kinds/One", None, Int64Value.FromString)
        assert method(b"\xff\xff\xff", timeout=SOON).value == 3
