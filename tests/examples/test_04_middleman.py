"""The middleman: what passes through it, in both directions."""

from __future__ import annotations

import threading
from typing import Self

import grpc
import pytest
from programs import client, lines, module, server

import yais
from yais.rpc.client import Channels, ClientUnary
from yais.testing import serving

forward = module("04_middleman", "forward")
middleman = module("04_middleman", "middleman")
pb = module("04_middleman", "middleman_pb2")

INFER = f"/{middleman.SERVICE}/Infer"
STATUS = f"/{middleman.SERVICE}/Status"


def test_the_client_hears_from_the_backend_through_the_middleman():
    with (
        server("04_middleman/backend.py") as backend,
        server("04_middleman/middleman.py", "--target", f"localhost:{backend}") as port,
    ):
        assert lines("04_middleman/client.py", "--port", port, "--text", "A cat, a CAT,") == [
            "a: 2",
            "cat,: 2",
            "texts counted so far: 1",
            "served by: backend",
        ]
        # Without the middleman nobody prepares the text.
        assert lines("04_middleman/client.py", "--port", backend, "--text", "A a")[:2] == ["A: 1", "a: 1"]
        empty = client("04_middleman/client.py", "--port", port, "--text", "")
        assert (empty.returncode, empty.stderr.split(":")[0]) == (1, "INVALID_ARGUMENT")


def test_without_a_backend_callers_are_told():
    with server("04_middleman/middleman.py", "--target", "localhost:1") as port:
        ended = client("04_middleman/client.py", "--port", port)
        assert (ended.returncode, ended.stderr.split(":")[0]) == (1, "UNAVAILABLE")


class Backend(yais.Resources):
    """Sees what arrives behind the middleman, and answers as it is told."""

    def __init__(self) -> None:
        self.seen: list[Infer] = []
        self.arrived = threading.Semaphore(0)
        self.gone = threading.Event()
        self.error: yais.YaisError | None = None
        self.waits = False


class Infer(yais.Context[bytes, bytes, Backend]):
    def execute(self, request: bytes) -> bytes | yais.Future[bytes]:
        self.request = request
        self.resources.seen.append(self)
        self.resources.arrived.release()
        self.initial_metadata.append(("begun", "yes"))
        self.trailing_metadata.extend([("served-by", "a"), ("served-by", "b"), ("raw-bin", b"\x00\xff")])
        if self.resources.error is not None:
            raise self.resources.error
        return yais.Future() if self.resources.waits else request

    def on_cancel(self) -> None:
        self.resources.gone.set()


class Passed:
    """A backend, the middleman in front of it, and a channel to that."""

    def __init__(self) -> None:
        self.backend = Backend()
        service = yais.Service(middleman.SERVICE)
        for rpc in "Infer", "Status":
            service.register(rpc, Infer, contexts=400, deserialize=bytes, serialize=bytes)
        self._behind = serving(service, resources=self.backend, grace=5.0)

    def __enter__(self) -> Self:
        target = f"127.0.0.1:{self._behind.__enter__().port}"
        self.server = middleman.make_server("127.0.0.1:0", target)
        self.server.start()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.server.port}")
        return self

    def __exit__(self, *error: object) -> None:
        self.channel.close()
        self.server.stop(5.0)
        self._behind.__exit__(None, None, None)

    def infer(self, text: str = "Word", **options: object) -> grpc.Future:
        message = pb.InferRequest(text=text).SerializeToString()
        return self.channel.unary_unary(INFER).future(message, **options)


@pytest.fixture
def passed():
    with Passed() as passed:
        yield passed


def test_the_request_is_prepared_and_its_metadata_and_deadline_arrive(passed):
    metadata = (("tenant", "x"), ("tenant", "y"), ("id-bin", b"\x01\xfe"))
    call = passed.infer("A Word", metadata=metadata, timeout=20.0)
    assert pb.InferRequest.FromString(call.result(20.0)).text == "a word"
    (seen,) = passed.backend.seen
    assert seen.metadata.get_all("tenant") == ["x", "y"]
    assert seen.metadata["id-bin"] == b"\x01\xfe"
    assert seen.metadata["user-agent"].count("grpc-python") == 1
    remaining = seen.deadline.remaining()
    # gRPC rounds a timeout up to what has three digits, and sends that.
    assert remaining is not None and remaining < 25.0
    assert list(call.initial_metadata()) == [("begun", "yes")]
    assert list(call.trailing_metadata()) == [
        ("served-by", "a"),
        ("served-by", "b"),
        ("raw-bin", b"\x00\xff"),
    ]


def test_without_a_deadline_there_is_none_behind(passed):
    passed.infer().result(20.0)
    assert passed.backend.seen[0].deadline.remaining() is None


def test_an_error_passes_with_its_metadata(passed):
    passed.backend.error = yais.NotFound("no such model: ü")
    call = passed.infer(timeout=20.0)
    assert (call.code(), call.details()) == (grpc.StatusCode.NOT_FOUND, "no such model: ü")
    assert ("raw-bin", b"\x00\xff") in call.trailing_metadata()


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_a_caller_that_goes_away_ends_the_call_behind(passed, how):
    passed.backend.waits = True
    call = passed.infer(timeout=2.0 if how == "deadline" else 20.0)
    assert passed.backend.arrived.acquire(timeout=20.0)
    if how == "cancel":
        call.cancel()
    assert passed.backend.gone.wait(20.0)
    expected = grpc.StatusCode.CANCELLED if how == "cancel" else grpc.StatusCode.DEADLINE_EXCEEDED
    assert call.code() is expected


def test_what_the_hook_raises_ends_the_call(passed):
    call = passed.channel.unary_unary(INFER).future(b"\xff no message", timeout=20.0)
    assert call.code() is grpc.StatusCode.UNKNOWN and "DecodeError" in call.details()
    assert not passed.backend.seen


def test_300_calls_pass_at_a_time_and_no_more(passed):
    passed.backend.waits = True
    calls = [passed.infer(timeout=20.0) for _ in range(301)]
    for _ in range(300):
        assert passed.backend.arrived.acquire(timeout=20.0)
    assert not passed.backend.arrived.acquire(timeout=0.1)
    calls[0].cancel()
    assert passed.backend.arrived.acquire(timeout=20.0)
    for call in calls:
        call.cancel()


def test_status_is_answered_while_a_text_is_being_prepared(passed, monkeypatch):
    preparing, prepared = threading.Event(), threading.Event()

    def prepare(self: object, request: bytes) -> bytes:
        preparing.set()
        assert prepared.wait(30.0)
        return request

    monkeypatch.setattr(middleman.Infer, "preprocess", prepare)
    call = passed.infer(timeout=20.0)
    try:
        assert preparing.wait(20.0)
        with Channels(f"127.0.0.1:{passed.server.port}") as channels:
            assert ClientUnary(channels, STATUS).call(b"how are you?", timeout=20.0) == b"how are you?"
    finally:
        prepared.set()
    assert call.result(20.0)
