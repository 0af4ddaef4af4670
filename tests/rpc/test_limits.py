"""Bounded contexts, bounded messages, and calls that are not what the method takes."""

from __future__ import annotations

import threading

import grpc
import pytest
from echo_pb2 import EchoReply, EchoRequest
from echoing import SAY, SOON, Held, echoing, eventually

import yais


class Echo(yais.Context[EchoRequest, EchoReply, yais.Resources]):
    def execute(self, request):
        return EchoReply(text=request.text)


@pytest.fixture
def one():
    """One context: a call is answered only if the call before has given it back."""
    with echoing(Echo, contexts=1) as client:
        yield client


def test_contexts_are_a_hard_limit_and_the_rest_waits():
    held = Held.fresh()
    with echoing(held, contexts=2) as client:
        texts = [f"hold {number}" for number in range(5)]
        calls = []
        for text in texts:
            calls.append(client.begin(text))
            client.pass_by()
        assert held.started.texts == texts[:2]
        assert client.server.in_flight == 2
        for number, text in enumerate(texts):
            held.started.wait(*texts[: number + 2])
            client.pass_by()
            assert len(held.started.texts) == min(number + 2, 5)
            held.finish(text)
        assert [call.result(SOON).text for call in calls] == texts
        client.idle()


def test_the_limit_holds_for_each_executor_thread():
    held = Held.fresh()
    with echoing(held, contexts=2, threads=2) as client:
        texts = [f"hold {number}" for number in range(5)]
        calls = [client.begin(text) for text in texts]
        eventually(lambda: len(held.started.texts) == 4)
        client.pass_by()
        [late] = set(texts) - set(held.started.texts)
        held.finish(held.started.texts[0])
        held.started.wait(late)
        for text in set(held.started.texts[1:]):
            held.finish(text)
        assert {call.result(SOON).text for call in calls} == set(texts)


def test_all_contexts_can_be_in_use_at_once():
    barrier = threading.Barrier(30)

    class Meet(yais.Context[EchoRequest, EchoReply, yais.Resources]):
        def execute(self, request):
            future = yais.Future()

            def meet():
                barrier.wait(SOON)
                future.set_result(EchoReply(text=request.text))

            threading.Thread(target=meet, daemon=True).start()
            return future

    with echoing(Meet, contexts=30) as client:
        for _ in range(2):
            calls = [client.begin(str(number)) for number in range(30)]
            assert [call.result(SOON).text for call in calls] == [str(number) for number in range(30)]


# Sizes


def test_a_request_that_is_too_large(one):
    code, details = one.status("x" * (5 << 20))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in details
    assert one.say("fine") == "fine"


def test_a_reply_that_is_too_large():
    class Grow(yais.Context[EchoRequest, EchoReply, yais.Resources]):
        def execute(self, request):
            return EchoReply(text="x" * int(request.text))

    with echoing(Grow, contexts=1, max_message_bytes=1000) as client:
        code, details = client.status("1000")
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in details
        assert client.say("5") == "xxxxx"


def test_messages_without_a_limit():
    with echoing(Echo, contexts=1, max_message_bytes=None) as client:
        unlimited = [("grpc.max_receive_message_length", -1)]
        with grpc.insecure_channel(f"127.0.0.1:{client.server.port}", options=unlimited) as channel:
            message = EchoRequest(text="x" * (9 << 20)).SerializeToString()
            assert channel.unary_unary(SAY)(message, timeout=SOON) == message


# Calls that are not what the method takes


def test_an_undecodable_request(one):
    with pytest.raises(grpc.RpcError) as caught:
        one.channel.unary_unary(SAY)(b"\xff\xff\xff", timeout=SOON)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details().startswith(f"{SAY}: cannot decode the request: DecodeError")
    assert one.say("fine") == "fine"


@pytest.mark.parametrize(
    "method", ["/yais.examples.echo.Echo/Shout", "/yais.examples.Other/Say", "/", "", "/a/b/c", "/é/x"]
)
def test_an_unknown_method(one, method):
    with pytest.raises(grpc.RpcError) as caught:
        one.channel.unary_unary(method)(b"", timeout=SOON)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert one.say("fine") == "fine"


def test_no_request_message(one):
    for _ in range(2):
        with pytest.raises(grpc.RpcError) as caught:
            one.channel.stream_unary(SAY)(iter(()), timeout=SOON)
        # What gRPC's list of status codes prescribes for a wrong number of requests.
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert caught.value.details() == f"{SAY} requires exactly one request message"
    assert one.say("fine") == "fine"


def test_two_request_messages(one):
    # As grpcio's and the C++ server do it: the first counts.
    messages = [EchoRequest(text=text).SerializeToString() for text in ("first", "second")]
    for _ in range(2):
        reply = one.channel.stream_unary(SAY)(iter(messages), timeout=SOON)
        assert EchoReply.FromString(reply).text == "first"
    assert one.say("fine") == "fine"


def test_a_request_message_that_never_comes(one):
    silence = threading.Event()

    def requests():
        silence.wait(SOON)
        yield from ()

    call = one.channel.stream_unary(SAY).future(requests(), timeout=SOON)
    eventually(lambda: one.server.in_flight == 1)
    call.cancel()
    assert one.say("fine") == "fine"
    silence.set()
