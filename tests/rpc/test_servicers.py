"""Ordinary grpcio servicers, mounted unchanged: what works under `grpc.server` must work here."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator

import grpc
import pytest
from echo_pb2 import DESCRIPTOR as ECHO
from echo_pb2 import EchoReply
from echoing import DEADLINE, SOON, eventually, on_thread
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import yais
from yais.rpc.blocking_call import BlockingCall
from yais.rpc.service import Service
from yais.testing import Served

SERVICE = "tests.Four"


class Four:
    """A servicer with a method of each kind; messages are plain bytes. Each test replaces what it needs."""

    def unary_unary(self, request, context):
        return request.upper()

    def unary_stream(self, request, context):
        for number in range(int(request)):
            yield str(number).encode()

    def stream_unary(self, requests, context):
        return b"+".join(requests)

    def stream_stream(self, requests, context):
        for request in requests:
            yield request.upper()


def add_four_to_server(servicer, server):
    """Do what generated code does."""
    kinds = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
    handlers = {kind: getattr(grpc, f"{kind}_rpc_method_handler")(getattr(servicer, kind)) for kind in kinds}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_registered_method_handlers(SERVICE, handlers)


@contextlib.contextmanager
def mounted(servicer, add=add_four_to_server, **options) -> Iterator[Served]:
    server = yais.Server("127.0.0.1:0", **options)
    server.add_servicer(add, servicer)
    with server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield Served(server, server.port, channel)


@contextlib.contextmanager
def four(**methods) -> Iterator[Stub]:
    """Mount `Four` with some of its methods replaced."""
    own = type("OwnFour", (Four,), methods)
    with mounted(own()) as served:
        yield Stub(served)


class Stub:
    """Calls a method of each kind."""

    def __init__(self, served: Served) -> None:
        self.served = served
        for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            setattr(self, kind, getattr(served.channel, kind)(f"/{SERVICE}/{kind}"))

    def works(self) -> None:
        """Show that the server still serves all four kinds."""
        assert self.unary_unary(b"x", timeout=SOON) == b"X"
        assert list(self.unary_stream(b"2", timeout=SOON)) == [b"0", b"1"]
        assert self.stream_unary(iter([b"a", b"b"]), timeout=SOON) == b"a+b"
        assert list(self.stream_stream(iter([b"a", b"b"]), timeout=SOON)) == [b"A", b"B"]


def status(call) -> tuple[grpc.StatusCode, str]:
    """Run a call that must fail; return code and message."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def test_all_four_kinds():
    with four() as stub:
        for _ in range(3):
            stub.works()


def test_empty_streams_and_messages():
    with four() as stub:
        assert list(stub.unary_stream(b"0", timeout=SOON)) == []
        assert stub.stream_unary(iter(()), timeout=SOON) == b""
        assert list(stub.stream_stream(iter(()), timeout=SOON)) == []
        assert stub.unary_unary(b"", timeout=SOON) == b""


def test_many_calls_at_once():
    with four() as stub:
        calls = [stub.unary_unary.future(str(number).encode(), timeout=SOON) for number in range(200)]
        assert [call.result(SOON) for call in calls] == [str(number).encode() for number in range(200)]


def test_more_calls_than_may_wait():
    may_end = threading.Event()

    def wait(self, request, context):
        assert may_end.wait(SOON)
        return request

    with four(unary_unary=wait) as stub:
        calls = [stub.unary_unary.future(b"x", timeout=SOON) for _ in range(1050)]
        refused = queue.SimpleQueue()
        for call in calls:
            call.add_done_callback(refused.put)
        # 8 threads and 1,000 places
        for _ in range(42):
            assert refused.get(timeout=SOON).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        may_end.set()
        assert sum(call.exception(SOON) is None for call in calls) == 1008


def test_an_unknown_method_and_no_message():
    with four() as stub:
        other = stub.served.channel.unary_unary(f"/{SERVICE}/other")
        assert status(lambda: other(b"", timeout=SOON)) == (
            grpc.StatusCode.UNIMPLEMENTED,
            f"Method not found: /{SERVICE}/other",
        )
        none = stub.served.channel.stream_unary(f"/{SERVICE}/unary_unary")
        code, details = status(lambda: none(iter(()), timeout=SOON))
        assert code is grpc.StatusCode.UNIMPLEMENTED
        assert "requires exactly one request message" in details
        stub.works()


def test_messages_that_are_too_large():
    def large(self, request, context):
        return b"x" * (5 << 20)

    with four(unary_stream=lambda self, request, context: iter([large(self, request, context)])) as stub:
        code, details = status(lambda: stub.unary_unary(large(None, None, None), timeout=SOON))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details
        code, details = status(lambda: list(stub.unary_stream(b"", timeout=SOON)))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details
        assert stub.unary_unary(b"x", timeout=SOON) == b"X"


# Status


def test_set_code():
    def not_found(self, request, context):
        context.set_code(grpc.StatusCode.NOT_FOUND)
        context.set_details("nothing")
        assert (context.code(), context.details()) == (grpc.StatusCode.NOT_FOUND, b"nothing")
        return b""

    with four(unary_unary=not_found) as stub:
        expected = (grpc.StatusCode.NOT_FOUND, "nothing")
        assert status(lambda: stub.unary_unary(b"", timeout=SOON)) == expected


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
def test_abort(kind):
    def abort(self, request, context):
        context.set_trailing_metadata((("after", "1"),))
        if kind == "unary_stream":
            return iter(lambda: context.abort(grpc.StatusCode.DATA_LOSS, "lost"), None)
        try:
            context.abort(grpc.StatusCode.DATA_LOSS, "lost")
        except Exception:  # As user code does; aborted is aborted.
            return b""

    with four(**{kind: abort}) as stub:
        with pytest.raises(grpc.RpcError) as caught:
            list(getattr(stub, kind)(b"", timeout=SOON))
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.DATA_LOSS, "lost")
        assert [tuple(item) for item in caught.value.trailing_metadata()] == [("after", "1")]


def test_abort_with_ok_is_unknown():
    def abort(self, request, context):
        context.abort(grpc.StatusCode.OK, "fine")

    with four(unary_unary=abort) as stub:
        assert status(lambda: stub.unary_unary(b"", timeout=SOON))[0] is grpc.StatusCode.UNKNOWN


def test_abort_with_status():
    class Status(grpc.Status):
        code = grpc.StatusCode.ABORTED
        details = "again"
        trailing_metadata = None

    def abort(self, request, context):
        context.abort_with_status(Status())

    with four(unary_unary=abort) as stub:
        assert status(lambda: stub.unary_unary(b"", timeout=SOON)) == (grpc.StatusCode.ABORTED, "again")


class Exit(BaseException):
    """What nobody expects."""


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
@pytest.mark.parametrize(
    ("error", "code", "details"),
    [
        (KeyError("x"), "UNKNOWN", "Exception calling application: KeyError: 'x'"),
        (SystemExit(1), "UNKNOWN", "Exception calling application: SystemExit: 1"),
        (Exit(), "UNKNOWN", "Exception calling application: Exit"),
        (yais.NotFound("nothing"), "NOT_FOUND", "nothing"),
    ],
    ids=repr,
)
def test_exceptions(caplog, kind, error, code, details):
    def fail(self, request, context):
        yield b"first"
        raise error

    def fail_at_once(self, request, context):
        raise error

    streams = kind.endswith("stream")
    with four(**{kind: fail if streams else fail_at_once}) as stub:
        request = iter([b"x"]) if kind.startswith("stream") else b"x"

        def run():
            answer = getattr(stub, kind)(request, timeout=SOON)
            if streams:
                assert next(answer) == b"first"
                next(answer)

        got, text = status(run)
        assert (got.name, text) == (code, details)
    logged = [record.exc_info[1] for record in caplog.records]
    assert logged == ([] if isinstance(error, yais.YaisError) else [error])


def test_an_exception_after_a_status_was_set():
    # What the methods of generated servicers do that nobody has written.
    def unimplemented(self, request, context):
        context.set_code(grpc.StatusCode.UNIMPLEMENTED)
        context.set_details("Method not implemented!")
        raise NotImplementedError("Method not implemented!")

    with four(unary_unary=unimplemented) as stub:
        expected = (grpc.StatusCode.UNIMPLEMENTED, "Method not implemented!")
        assert status(lambda: stub.unary_unary(b"", timeout=SOON)) == expected


def add_converting(servicer, server):
    def fail(message):
        if message == b"odd":
            raise SystemExit(1)
        return message

    handlers = {
        "decode": grpc.unary_unary_rpc_method_handler(Four().unary_unary, request_deserializer=fail),
        "encode": grpc.unary_unary_rpc_method_handler(lambda request, _: request, response_serializer=fail),
        "no_bytes": grpc.unary_stream_rpc_method_handler(
            lambda request, _: iter([request]), response_serializer=bytearray
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


@pytest.mark.parametrize(
    ("method", "details"),
    [
        ("decode", "Exception deserializing request!"),
        ("encode", "Failed to serialize response!"),
        ("no_bytes", "Failed to serialize response!"),
    ],
)
def test_messages_that_cannot_be_converted(method, details):
    with mounted(None, add_converting) as served:
        call = served.channel.unary_stream(f"/{SERVICE}/{method}")
        expected = (grpc.StatusCode.INTERNAL, details)
        assert status(lambda: list(call(b"odd", timeout=SOON))) == expected
        assert served.server.stop(SOON) is True


def test_a_handler_that_cannot_be_found():
    class Broken(grpc.GenericRpcHandler):
        def service(self, handler_call_details):
            raise SystemExit(handler_call_details.method)

    def add(_servicer, server):
        server.add_generic_rpc_handlers((Broken(),))

    with mounted(None, add) as served:
        for _ in range(2):
            code, details = status(lambda: served.channel.unary_unary("/a/b")(b"", timeout=SOON))
            assert code is grpc.StatusCode.UNKNOWN and details == "SystemExit: /a/b"


# What a method is told, and may do


def test_metadata():
    def metadata(self, request, context):
        given = dict(context.invocation_metadata())
        context.send_initial_metadata((("before", given["key"]), ("before-bin", given["key-bin"])))
        with pytest.raises(ValueError, match="no longer allowed"):
            context.send_initial_metadata((("too", "late"),))
        context.set_trailing_metadata((("after", "1"), ("after", "2")))
        assert len(context.trailing_metadata()) == 2
        return request

    with four(unary_unary=metadata) as stub:
        call = stub.unary_unary.future(b"x", timeout=SOON, metadata=[("key", "1"), ("key-bin", b"\xff")])
        assert call.result() == b"x"
        assert dict(call.initial_metadata()) == {"before": "1", "before-bin": b"\xff"}
        assert [tuple(item) for item in call.trailing_metadata()] == [("after", "1"), ("after", "2")]


@pytest.mark.parametrize("metadata", [(("Not Legal", "x"),), (("key-bin", "text"),), 5])
@pytest.mark.parametrize("method", ["send_initial_metadata", "set_trailing_metadata"])
def test_metadata_that_cannot_be_sent(metadata, method):
    def illegal(self, request, context):
        getattr(context, method)(metadata)
        return request

    with four(unary_unary=illegal) as stub:
        code, details = status(lambda: stub.unary_unary(b"x", timeout=SOON))
        assert code is grpc.StatusCode.INTERNAL
        assert "expected a" in details
        assert stub.served.server.stop(SOON) is True


def test_what_a_context_tells():
    told = {}

    def tell(self, request, context):
        context.set_compression(grpc.Compression.Gzip)
        context.disable_next_message_compression()
        told.update(
            peer=context.peer(),
            left=context.time_remaining(),
            active=context.is_active(),
            identity=(context.peer_identities(), context.peer_identity_key(), context.auth_context()),
            code=context.code(),
        )
        return request

    with four(unary_unary=tell) as stub:
        stub.unary_unary(b"", timeout=100.0)
        assert told["peer"].startswith("ipv4:127.0.0.1:")
        assert 0 < told["left"] < 110
        assert told["active"] is True
        assert told["identity"][:2] == (None, None)
        assert told["identity"][2]["transport_security_type"] == [b"insecure"]
        assert told["code"] is None
        stub.unary_unary(b"")
        assert told["left"] == float("inf")


def test_callbacks():
    calls = queue.SimpleQueue()
    kept = []

    def add(self, request, context):
        def fail():
            calls.put("fails")
            raise SystemExit(1)

        assert context.add_callback(fail)
        assert context.add_callback(lambda: calls.put(context.is_active()))
        kept.append(context)
        return request

    with four(unary_unary=add) as stub:
        assert stub.unary_unary(b"x", timeout=SOON) == b"x"
        assert calls.get(timeout=SOON) == "fails"
        assert calls.get(timeout=SOON) is False
        assert not kept[0].add_callback(lambda: None)
        assert kept[0].time_remaining() > 0
        assert stub.unary_unary(b"y", timeout=SOON) == b"y"


# Callers that go away


def test_the_caller_cancels_a_stream_of_replies():
    ended = queue.SimpleQueue()

    def endless(self, request, context):
        context.add_callback(lambda: ended.put("called back"))
        try:
            while True:
                yield b"x" * 10000
        finally:
            ended.put(context.is_active())

    with four(unary_stream=endless) as stub:
        replies = stub.unary_stream(b"", timeout=SOON)
        assert len(next(replies)) == 10000
        replies.cancel()
        assert {ended.get(timeout=SOON), ended.get(timeout=SOON)} == {"called back", False}
        assert stub.unary_unary(b"x", timeout=SOON) == b"X"


class Reading:
    """Reads requests to their end, and notes what that is; the first time at once, then again at leisure."""

    def __init__(self):
        self.outcomes = queue.SimpleQueue()
        self.silence = threading.Event()

    def stream_unary(self, requests, context):
        ended = threading.Event()
        context.add_callback(ended.set)
        self.outcomes.put("begun")
        for _ in range(2):
            try:
                self.outcomes.put(list(requests))
            except grpc.RpcError as error:
                self.outcomes.put(error)
            assert ended.wait(SOON)
        self.outcomes.put((context.time_remaining(), context.is_active()))
        return b""

    def requests(self):
        """Send one request, and then neither another nor an end."""
        yield b"first"
        self.silence.wait(SOON)

    def check(self) -> tuple[object, tuple[float, bool]]:
        """Return how the first attempt ended, and what the context told at the end."""
        first, second = self.outcomes.get(timeout=SOON), self.outcomes.get(timeout=SOON)
        assert isinstance(second, grpc.RpcError)
        return first, self.outcomes.get(timeout=SOON)


@pytest.fixture
def reading():
    own = Reading()
    yield own
    own.silence.set()


def test_a_stream_of_requests_that_is_cut_short_does_not_look_whole(reading):
    with four(stream_unary=reading.stream_unary) as stub:
        firsts = []
        for _ in range(20):
            call = stub.stream_unary.future(reading.requests(), timeout=SOON)
            assert reading.outcomes.get(timeout=SOON) == "begun"
            call.cancel()
            first, (_, active) = reading.check()
            firsts.append(first)
            assert not active
        # gRPC tells of the end of the stream just before it tells of the cancellation, so that now and
        # then, as with grpcio itself, the end is taken for a regular one.
        assert any(isinstance(first, grpc.RpcError) for first in firsts)
        assert stub.unary_unary(b"x", timeout=SOON) == b"X"


def test_the_deadline_passes_while_a_method_waits_for_requests(reading):
    with four(stream_unary=reading.stream_unary) as stub:
        code, _ = status(lambda: stub.stream_unary(reading.requests(), timeout=DEADLINE))
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert reading.outcomes.get(timeout=SOON) == "begun"
        _, (left, active) = reading.check()
        assert left < 0.1 and not active  # The server began to count a little later than the client.


def test_the_end_of_a_stream_counts_only_when_no_cancellation_comes_with_it():
    class Call:
        method, metadata = "/a/b", ()

        def receive_close(self, done):
            self.close = done

        def receive_message(self, done):
            self.message = done
            receiving.set()

        def finish(self, code, *arguments, done, **options):
            done(None)

    class Executor:
        def __init__(self):
            self.drained = []
            self.when_drained = self.drained.append

        def occupy(self):
            pass

        vacate = occupy

    for cancelled in (True, False):
        receiving, outcome = threading.Event(), queue.SimpleQueue()
        call, executor = Call(), Executor()
        rpc = BlockingCall(call, executor, set())

        def receive(rpc=rpc, outcome=outcome):
            try:
                outcome.put(rpc.receive())
            except grpc.RpcError as error:
                outcome.put(error)

        thread = on_thread(receive)
        assert receiving.wait(SOON)
        call.message(None)
        assert len(executor.drained) == 1  # to be told later
        if cancelled:
            call.close(True)
        for callback in executor.drained:
            callback()
        thread.join(SOON)
        assert isinstance(outcome.get(timeout=SOON), grpc.RpcError if cancelled else type(None))


def test_a_cancelled_call_that_waits_for_a_thread_is_not_served():
    may_end = threading.Event()
    served = queue.SimpleQueue()

    def wait(self, request, context):
        served.put(request)
        assert may_end.wait(SOON)
        return request

    def streams(self, requests, context):
        served.put(b"streams")
        return b"".join(requests)

    with four(unary_unary=wait, stream_unary=streams) as stub:
        busy = [stub.unary_unary.future(b"busy", timeout=SOON) for _ in range(8)]
        assert [served.get(timeout=SOON) for _ in busy] == [b"busy"] * 8
        late = [
            stub.unary_unary.future(b"late", timeout=0.1),
            stub.stream_unary.future(iter([b"late"]), timeout=0.1),
        ]
        assert {call.exception(SOON).code() for call in late} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        # Not before the server knows of it, too.
        assert status(lambda: stub.served.channel.unary_unary("/a/b")(b"", timeout=SOON))
        may_end.set()
        assert [call.result(SOON) for call in busy] == [b"busy"] * 8
        assert stub.unary_unary(b"next", timeout=SOON) == b"next"
        assert [served.get(timeout=SOON)] == [b"next"]


def test_a_method_cancels_its_own_call():
    def cancel(self, request, context):
        context.cancel()
        return request

    with four(unary_unary=cancel) as stub:
        assert status(lambda: stub.unary_unary(b"", timeout=SOON))[0] is grpc.StatusCode.CANCELLED


@pytest.mark.usefixtures("unhurried")
def test_a_method_that_outlives_its_call_stops_no_server():
    may_end, started = threading.Event(), threading.Event()
    outcome = queue.SimpleQueue()
    before = set(threading.enumerate())

    def stubborn(self, requests, context):
        started.set()
        assert may_end.wait(SOON)
        try:
            next(requests)
        except grpc.RpcError as error:
            outcome.put(error)
        yield b"too late"
        outcome.put("went on")  # Nobody takes a reply, so nobody asks for the next.

    with four(stream_stream=stubborn) as stub:
        call = stub.stream_stream(iter([b"x"]), timeout=SOON)
        assert started.wait(SOON)
        assert stub.served.server.stop(0.0) is True
        may_end.set()
        assert isinstance(outcome.get(timeout=SOON), grpc.RpcError)
        assert call.code() is not grpc.StatusCode.OK
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("servicer")]
    eventually(lambda: not any(thread.is_alive() for thread in threads if thread not in before))
    assert outcome.empty()


# Streams


def test_a_slow_consumer_holds_the_producer_back():
    produced = []

    def produce(self, request, context):
        for _ in range(200):
            produced.append(len(produced))
            yield b"x" * 100_000

    with four(unary_stream=produce) as stub:
        replies = stub.unary_stream(b"", timeout=SOON)
        assert len(next(replies)) == 100_000
        stub.unary_unary(b"", timeout=SOON)
        # 20 MB do not fit into the windows of HTTP/2 and the buffers of the sockets.
        assert len(produced) < 150
        assert sum(len(reply) for reply in replies) == 199 * 100_000
        assert len(produced) == 200


def test_large_streams_both_ways():
    messages = [bytes([number % 256]) * 50_000 for number in range(100)]

    def echo(self, requests, context):
        yield from requests

    with four(stream_stream=echo) as stub:
        assert list(stub.stream_stream(iter(messages), timeout=SOON)) == messages


def test_requests_may_be_read_on_another_thread():
    def relay(self, requests, context):
        relayed = queue.SimpleQueue()

        def read():
            for request in requests:
                relayed.put(request)
            relayed.put(None)

        on_thread(read)
        yield b"ready"
        yield from iter(lambda: relayed.get(timeout=SOON), None)

    with four(stream_stream=relay) as stub:
        assert list(stub.stream_stream(iter([b"a", b"b"]), timeout=SOON)) == [b"ready", b"a", b"b"]


def add_pushing(servicer, server):
    servicer.experimental_non_blocking = True
    handlers = {"push": grpc.unary_stream_rpc_method_handler(servicer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


def test_replies_may_be_pushed_without_a_thread():
    # As grpcio's health servicer does it.
    pushed = queue.SimpleQueue()

    def push(request, context, send_response_callback):
        pushed.put((send_response_callback, context))

    with mounted(push, add_pushing) as served:
        method = served.channel.unary_stream(f"/{SERVICE}/push")
        calls = [method(b"", timeout=SOON) for _ in range(20)]  # more than there are threads
        senders = [pushed.get(timeout=SOON) for _ in calls]
        for number in range(50):
            for send, _ in senders:
                send(str(number).encode())
        for send, _ in senders:
            send(None)
        for call in calls:
            assert list(call) == [str(number).encode() for number in range(50)]


def test_replies_that_are_pushed_while_the_caller_goes():
    # The last reply is under way when the call ends, and more of them wait: the call must end for all that.
    pushed = queue.SimpleQueue()

    def push(request, context, send_response_callback):
        pushed.put((send_response_callback, context))

    with mounted(push, add_pushing) as served:
        for _ in range(30):
            call = served.channel.unary_stream(f"/{SERVICE}/push")(b"", timeout=SOON)
            send, context = pushed.get(timeout=SOON)
            for _ in range(100):
                send(b"x" * 10_000)
            call.cancel()
            eventually(lambda context=context: not context.is_active())
            send(b"too late")
            send(None)
        assert served.server.stop(SOON) is True


# Health and reflection


def test_health_check():
    with four() as stub:
        health = health_pb2_grpc.HealthStub(stub.served.channel)
        request = health_pb2.HealthCheckRequest()
        assert health.Check(request, timeout=SOON).status == health_pb2.HealthCheckResponse.SERVING
        stub.served.server.health.report(serving=False)
        assert health.Check(request, timeout=SOON).status == health_pb2.HealthCheckResponse.NOT_SERVING
        request.service = "unknown"
        assert status(lambda: health.Check(request, timeout=SOON))[0] is grpc.StatusCode.NOT_FOUND


def test_health_watch_by_many():
    with four() as stub:
        health = health_pb2_grpc.HealthStub(stub.served.channel)
        watches = [health.Watch(health_pb2.HealthCheckRequest(), timeout=SOON) for _ in range(20)]
        told = [[next(watch).status] for watch in watches]
        for serving in (False, True, False):
            stub.served.server.health.report(serving=serving)
        for watch, statuses in zip(watches, told, strict=True):
            statuses += [next(watch).status for _ in range(3)]
            watch.cancel()
        assert told == [[1, 2, 1, 2]] * 20
        stub.works()


def reflect(channel, **request):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    [answer] = stub.ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(**request)]), timeout=SOON
    )
    return answer


def file_names(answer):
    files = answer.file_descriptor_response.file_descriptor_proto
    return [descriptor_pb2.FileDescriptorProto.FromString(file).name for file in files]


def test_reflection_lists_all_services():
    server = yais.Server("127.0.0.1:0")
    server.add(Service(ECHO.services_by_name["Echo"]))
    server.add_servicer(add_four_to_server, Four())
    with server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        services = reflect(channel, list_services="").list_services_response.service
        assert [service.name for service in services] == [
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
            SERVICE,
            "yais.examples.echo.Echo",
        ]
        for symbol in ("yais.examples.echo.Echo", "yais.examples.echo.EchoReply"):
            assert file_names(reflect(channel, file_containing_symbol=symbol)) == ["echo.proto"]
        assert file_names(reflect(channel, file_by_filename="echo.proto")) == ["echo.proto"]
        assert reflect(channel, file_by_filename="no.proto").error_response.error_code == 5
        assert reflect(channel, file_containing_symbol="no.Such").error_response.error_code == 5


def test_reflection_finds_what_is_described_in_pools_of_their_own():
    file = descriptor_pb2.FileDescriptorProto(name="apart.proto", package="apart", syntax="proto2")
    message = file.message_type.add(name="Message")
    message.extension_range.add(start=100, end=200)
    file.extension.add(name="extra", number=101, label=1, type=5, extendee=".apart.Message")
    method = file.service.add(name="Apart").method.add(name="Say")
    method.input_type = method.output_type = ".apart.Message"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    descriptor = pool.FindServiceByName("apart.Apart")
    message_class = GetMessageClass(pool.FindMessageTypeByName("apart.Message"))

    class Echo(yais.Context):
        def execute(self, request):
            assert type(request) is message_class
            return request

    apart, echo = Service(descriptor), Service(ECHO.services_by_name["Echo"])
    apart.register("Say", Echo)
    server = yais.Server("127.0.0.1:0")
    server.add(apart)
    server.add(echo)
    with server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        assert channel.unary_unary("/apart.Apart/Say")(b"", timeout=SOON) == b""
        for request in (
            {"file_by_filename": "apart.proto"},
            {"file_containing_symbol": "apart.Apart"},
            {"file_containing_extension": {"containing_type": "apart.Message", "extension_number": 101}},
        ):
            assert file_names(reflect(channel, **request)) == ["apart.proto"]
        numbers = reflect(channel, all_extension_numbers_of_type="apart.Message")
        assert list(numbers.all_extension_numbers_response.extension_number) == [101]
        # The other pool, and what both lack.
        assert file_names(reflect(channel, file_containing_symbol=EchoReply.DESCRIPTOR.full_name)) == [
            "echo.proto"
        ]
        echo_numbers = reflect(channel, all_extension_numbers_of_type=EchoReply.DESCRIPTOR.full_name)
        assert list(echo_numbers.all_extension_numbers_response.extension_number) == []
        unknown = {"containing_type": EchoReply.DESCRIPTOR.full_name, "extension_number": 7}
        assert reflect(channel, file_containing_extension=unknown).error_response.error_code == 5


def test_no_reflection():
    with mounted(Four(), reflection=False) as served:
        code, _ = status(lambda: reflect(served.channel, list_services=""))
        assert code is grpc.StatusCode.UNIMPLEMENTED
