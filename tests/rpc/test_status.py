"""How errors end an RPC, and that they end nothing else."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging

import grpc
import pytest
from echo_pb2 import EchoReply, EchoRequest
from echoing import SAY, SOON, Client, echo_service, echoing, eventually, on_thread

import yais
from yais import errors
from yais.testing import serving

ERRORS = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, yais.YaisError)
]


class Exit(BaseException):
    """What nobody expects."""


class Raising(yais.Context[EchoRequest, EchoReply, yais.Resources]):
    """Raises `errors[text]` where the text's first word says."""

    errors: dict[str, BaseException] = {}

    def on_start(self):
        self.at("on_start")

    def on_finish(self):
        self.at("on_finish")

    def at(self, place):
        text = dict(self.metadata).get("text", "")
        if text.partition(" ")[0] == place:
            raise self.errors[text]

    def execute(self, request):
        text = request.text
        match text.partition(" ")[0]:
            case "execute":
                raise self.errors[text]
            case "coroutine":
                return self.coroutine(self.errors[text])
            case "task":
                return self.task(self.errors[text])
            case "future":
                future = yais.Future()
                on_thread(lambda: future.set_exception(self.errors[text]))
                return future
            case "standard":
                future = concurrent.futures.Future()
                future.set_exception(self.errors[text])
                return future
        return EchoReply(text=text)

    async def coroutine(self, error):
        await asyncio.sleep(0)
        raise error

    async def task(self, error):
        """Start a task of the user's own, which fails by itself."""

        async def fail():
            raise error

        task = asyncio.create_task(fail())
        await asyncio.wait([task])
        return EchoReply(text="went on")


PLACES = ("execute", "coroutine", "future", "standard", "on_start")


@pytest.fixture(scope="module")
def raising():
    # One context: each call proves that the call before has given it back.
    with echoing(Raising, contexts=1) as client:
        yield client


def raise_at(client: Client, place: str, error: BaseException) -> grpc.Call:
    """Call so that `error` is raised at `place`, then show that the server still serves."""
    text = f"{place} {type(error).__name__}"
    Raising.errors[text] = error
    call = client.begin(text, metadata=[("text", text)])
    call.exception(SOON)
    assert client.say("fine") == "fine"
    return call


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_a_yais_error_is_the_status(raising, caplog, kind):
    for place in PLACES:
        call = raise_at(raising, place, kind("what is wrong"))
        assert (call.code().value[0], call.details()) == (kind.code, "what is wrong")
    assert not caplog.records  # Expected, hence nothing to log.


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyError("x"), "UNKNOWN"),
        (TimeoutError("late"), "DEADLINE_EXCEEDED"),
        (NotImplementedError(), "UNIMPLEMENTED"),
        (MemoryError(), "RESOURCE_EXHAUSTED"),
        (SystemExit(1), "UNKNOWN"),
        (KeyboardInterrupt(), "UNKNOWN"),
        (GeneratorExit(), "UNKNOWN"),
        (Exit("now"), "UNKNOWN"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_any_other_exception_is_translated_and_logged(raising, caplog, place, error, code):
    call = raise_at(raising, place, error)
    assert call.code().name == code
    assert call.details().startswith(type(error).__name__)
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.name == "yais.rpc"
    assert record.exc_info[1] is error
    assert f"{SAY} raised" in record.message


@pytest.mark.parametrize("error", [asyncio.CancelledError(), concurrent.futures.CancelledError()], ids=repr)
@pytest.mark.parametrize("place", PLACES)
def test_a_cancellation_is_not_logged(raising, caplog, place, error):
    assert raise_at(raising, place, error).code() is grpc.StatusCode.CANCELLED
    assert not caplog.records


def test_a_task_of_user_code_that_exits_ends_no_other_call(raising, caplog):
    # asyncio lets SystemExit end the loop. There are other calls on it.
    call = raise_at(raising, "task", SystemExit(1))
    assert call.result(SOON).text == "went on"
    assert raise_at(raising, "coroutine", yais.NotFound("still here")).details() == "still here"
    assert "unexpected error on the loop" in caplog.text
    caplog.clear()


@pytest.mark.parametrize("error", [ValueError("late"), SystemExit(1)], ids=repr)
def test_on_finish_raises(raising, caplog, error):
    call = raise_at(raising, "on_finish", error)
    assert call.code() is grpc.StatusCode.OK
    assert caplog.records[0].exc_info[1] is error
    assert "on_finish raised" in caplog.text


def test_a_context_that_cannot_be_made(caplog):
    class Demanding(yais.Context):
        def __init__(self, demand):
            pass

    with echoing(Demanding, contexts=1) as client:
        for _ in range(2):
            code, details = client.status("")
            assert code is grpc.StatusCode.UNKNOWN
            assert details.startswith("TypeError") and "'demand'" in details
    assert "TypeError" in caplog.text


def test_a_context_without_execute():
    class Empty(yais.Context):
        pass

    with echoing(Empty) as client:
        code, details = client.status("")
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert "Empty has no execute method" in details


@pytest.mark.parametrize("answer", [None, 5, b"bytes", EchoRequest(), EchoReply], ids=str)
def test_an_answer_of_the_wrong_type(caplog, answer):
    class Wrong(yais.Context):
        def execute(self, request):
            if request.text == "future":
                future = yais.Future()
                on_thread(lambda: future.set_result(answer))
                return future
            return answer if request.text == "wrong" else EchoReply(text="right")

    with echoing(Wrong, contexts=1) as client:
        for text in ("wrong", "future"):
            code, details = client.status(text)
            assert code is grpc.StatusCode.INTERNAL
            assert (
                f"{SAY}: cannot encode the reply: TypeError: got {type(answer).__name__}, expected EchoReply"
                in details
            )
            assert client.say("") == "right"
    assert "cannot encode the reply" in caplog.text


class Echo(yais.Context):
    def execute(self, request):
        return request


def convert_with(error):
    def convert(message):
        if message == b"raise":
            raise error
        return message

    return convert


@pytest.mark.parametrize(
    ("error", "code", "details"),
    [
        (yais.OutOfRange("too far"), "OUT_OF_RANGE", "too far"),
        (ValueError("odd"), "INTERNAL", f"{SAY}: cannot decode the request: ValueError: odd"),
        (SystemExit(2), "INTERNAL", f"{SAY}: cannot decode the request: SystemExit: 2"),
    ],
    ids=repr,
)
def test_deserialize_raises(error, code, details):
    service = echo_service(Echo, contexts=1, deserialize=convert_with(error), serialize=bytes)
    with serving(service) as served:
        say = served.channel.unary_unary(SAY)
        with pytest.raises(grpc.RpcError) as caught:
            say(b"raise", timeout=SOON)
        assert (caught.value.code().name, caught.value.details()) == (code, details)
        assert say(b"fine", timeout=SOON) == b"fine"


@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit(2)], ids=repr)
def test_serialize_raises(caplog, error):
    service = echo_service(Echo, contexts=1, deserialize=bytes, serialize=convert_with(error))
    with serving(service) as served:
        say = served.channel.unary_unary(SAY)
        with pytest.raises(grpc.RpcError) as caught:
            say(b"raise", timeout=SOON)
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert say(b"fine", timeout=SOON) == b"fine"
    assert caplog.records[0].exc_info[1] is error


@pytest.mark.parametrize(
    "message", [bytearray(b"x"), memoryview(b"x"), "x", None], ids=lambda message: type(message).__name__
)
def test_serialize_returns_no_bytes(caplog, message):
    def serialize(reply):
        return message if reply == b"wrong" else reply

    with serving(echo_service(Echo, contexts=1, deserialize=bytes, serialize=serialize)) as served:
        say = served.channel.unary_unary(SAY)
        with pytest.raises(grpc.RpcError) as caught:
            say(b"wrong", timeout=SOON)
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert f"serialize returned {type(message).__name__}, expected bytes" in caught.value.details()
        assert say(b"fine", timeout=SOON) == b"fine"
    assert "cannot encode the reply" in caplog.text


@pytest.mark.parametrize("letter", ["x", "é", "\n", "\U0001f600"])
def test_a_long_message_is_cut_so_that_the_client_gets_the_status(raising, letter):
    # Clients refuse more than 8 KiB of trailing metadata, and then answer with a status of their own.
    text = letter * 100_000
    call = raise_at(raising, "execute", yais.NotFound(text))
    assert call.code() is grpc.StatusCode.NOT_FOUND
    assert call.details().endswith("...")
    assert len(call.details().encode()) <= 2048
    assert text.startswith(call.details()[:-3]) and len(call.details()) > 400


def test_a_message_that_is_no_valid_unicode(raising):
    assert raise_at(raising, "execute", yais.NotFound("\ud800x")).details() == "?x"


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no")

    __repr__ = __str__


@pytest.mark.parametrize("place", PLACES)
def test_an_error_that_cannot_be_printed(raising, place):
    call = raise_at(raising, place, Unprintable())
    assert (call.code(), call.details()) == (grpc.StatusCode.UNKNOWN, "Unprintable")


def test_trailing_metadata_that_cannot_be_printed():
    class Context(yais.Context):
        def execute(self, request):
            self.trailing_metadata.append(Unprintable())
            return EchoReply()

    with echoing(Context) as client:
        assert client.status("")[0] is grpc.StatusCode.INTERNAL


def test_cancelling_a_future_that_refuses_noisily(caplog):
    class Noisy(yais.Future):
        def cancel(self):
            self.set_result(EchoReply())
            raise SystemExit(3)

    class Context(yais.Context):
        def execute(self, request):
            return EchoReply(text="fine") if request.text == "fine" else Noisy()

    with echoing(Context, contexts=1) as client:
        call = client.begin("wait")
        eventually(lambda: client.server.in_flight)
        client.pass_by()
        call.cancel()
        assert client.say("fine") == "fine"
    assert "cancelling the future raised" in caplog.text
