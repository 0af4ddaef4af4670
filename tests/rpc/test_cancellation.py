"""Callers that go away: they cancel, their deadline passes, or their connection breaks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time

import grpc
import pytest
from echo_pb2 import EchoReply, EchoRequest
from echoing import DEADLINE, SOON, Client, Held, echoing, eventually, on_thread

import yais


class Noting(yais.Future):
    """A future that notes `cancel`."""

    def __init__(self):
        super().__init__()
        self.cancel_called = threading.Event()

    def cancel(self):
        try:
            return super().cancel()
        finally:
            self.cancel_called.set()


@pytest.fixture
def held():
    """One context, whose future notes its cancellation."""
    context = Held.fresh(Noting)
    with echoing(context, contexts=1) as client:
        client.context = context
        yield client


def begin(client: Client, text: str = "hold", **options):
    """Start a call that the server holds."""
    call = client.begin(text, **options)
    client.context.started.wait(text)
    return call, client.context.futures[text], client.context.started.contexts[text]


def test_the_caller_cancels(held):
    call, future, context = begin(held)
    assert not context.cancelled
    call.cancel()
    assert future.cancel_called.wait(SOON)
    assert future.cancelled()
    assert context.cancelled
    assert held.say("next") == "next"


def test_the_deadline_passes(held):
    call, future, context = begin(held, timeout=DEADLINE)
    assert call.exception(SOON).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert future.cancel_called.wait(SOON)
    assert context.cancelled
    eventually(context.deadline.expired)  # The server began to count a little later than the client.
    assert held.say("next") == "next"


def test_work_that_cannot_be_cancelled_keeps_its_context(held):
    call, future, context = begin(held)
    assert future.set_running_or_notify_cancel()
    call.cancel()
    assert future.cancel_called.wait(SOON)
    assert not future.cancelled()
    assert context.cancelled
    following = held.begin("next")
    held.pass_by()
    assert held.server.in_flight == 1 and held.context.started.texts == ["hold"]
    held.context.finish("hold")
    assert following.result(SOON).text == "next"


def test_work_that_fails_after_the_caller_has_gone(held):
    call, future, _ = begin(held)
    assert future.set_running_or_notify_cancel()
    call.cancel()
    assert future.cancel_called.wait(SOON)
    future.set_exception(yais.NotFound("for nobody"))
    assert held.say("next") == "next"


def test_a_context_is_told_only_of_its_own_cancellation(held):
    # A context is recycled before the executor looks for the cancellation of the call it served before.
    for number in range(50):
        assert held.say(f"quick {number}") == f"quick {number}"
        call, future, context = begin(held, f"hold {number}")
        if number % 2:
            call.cancel()
            assert future.cancel_called.wait(SOON)
            assert context.cancelled
        else:
            held.context.finish(f"hold {number}")
            assert call.result(SOON).text == f"hold {number}"
            assert not context.cancelled and not future.cancel_called.is_set()


def test_cancelling_and_completing_at_the_same_time():
    context = Held.fresh(Noting)
    with echoing(context, contexts=4) as client:
        client.context = context
        for number in range(100):
            call, _, _ = begin(client, f"hold {number}")
            race = threading.Barrier(2)

            def complete(number=number, race=race):
                race.wait(SOON)
                with contextlib.suppress(Exception):  # cancelled already
                    context.finish(f"hold {number}")

            thread = on_thread(complete)
            race.wait(SOON)
            call.cancel()
            thread.join(SOON)
        client.idle()
        assert client.say("next") == "next"


# Coroutines


class Waiting(yais.Context[EchoRequest, EchoReply, yais.Resources]):
    """Waits in a coroutine, and notes how it ends."""

    waits: threading.Event
    cancelled_error: threading.Event
    may_end: threading.Event
    heeds = True

    @classmethod
    def fresh(cls, **attributes):
        names = ("waits", "cancelled_error", "may_end")
        return type("OwnWaiting", (cls,), {name: threading.Event() for name in names} | attributes)

    async def execute(self, request):
        if not request.text.startswith("wait"):
            return EchoReply(text=request.text)
        self.waits.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            assert self.cancelled
            self.cancelled_error.set()
            await asyncio.to_thread(self.may_end.wait, SOON)
            if self.heeds:
                raise
        return EchoReply(text="in spite of all")


@pytest.mark.parametrize("heeds", [True, False])
def test_a_coroutine_is_cancelled_and_keeps_its_context_until_it_ends(heeds):
    waiting = Waiting.fresh(heeds=heeds)
    with echoing(waiting, contexts=1) as client:
        call = client.begin("wait")
        assert waiting.waits.wait(SOON)
        call.cancel()
        assert waiting.cancelled_error.wait(SOON)
        following = client.begin("next")
        client.pass_by()
        # It still cleans up: its context is not free, or there would be more at work than allowed.
        assert client.server.in_flight == 1
        assert not following.done()
        waiting.may_end.set()
        assert following.result(SOON).text == "next"


def test_the_deadline_of_a_coroutine_passes():
    waiting = Waiting.fresh()
    waiting.may_end.set()
    with echoing(waiting, contexts=1) as client:
        assert client.fail("wait", timeout=DEADLINE).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert waiting.cancelled_error.wait(SOON)
        assert client.say("next") == "next"


def test_a_coroutine_that_is_cancelled_at_once():
    # Some are cancelled before their first step; none may be left unawaited, which would warn.
    waiting = Waiting.fresh()
    waiting.may_end.set()
    with echoing(waiting, contexts=8) as client:
        for _ in range(100):
            client.begin("wait").cancel()
        client.idle()
        assert client.say("next") == "next"


# Deadlines that pass before a call gets its turn


def test_a_call_whose_deadline_passed_in_the_queue_is_not_executed(held):
    call, _, _ = begin(held)
    assert held.fail("late", timeout=0.1).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    held.pass_by()
    held.context.finish("hold")
    assert call.result(SOON).text == "hold"
    assert held.say("next") == "next"
    assert held.context.started.texts == ["hold", "next"]


class Blocking(yais.Context[EchoRequest, EchoReply, yais.Resources]):
    """Blocks the executor's thread itself on "block"."""

    executed: list
    blocks: threading.Event
    go_on: threading.Event

    def execute(self, request):
        self.executed.append(request.text)
        if request.text == "block":
            self.blocks.set()
            assert self.go_on.wait(SOON)
        return EchoReply(text=request.text)


def test_a_call_whose_deadline_passed_before_its_message_is_read_is_not_executed():
    own = {"executed": [], "blocks": threading.Event(), "go_on": threading.Event()}
    blocking = type("OwnBlocking", (Blocking,), own)
    with echoing(blocking, contexts=2) as client:
        call = client.begin("block")
        assert blocking.blocks.wait(SOON)
        assert client.fail("late", timeout=0.1).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        time.sleep(0.1)  # For the server the time began to run a little later.
        blocking.go_on.set()
        assert call.result(SOON).text == "block"
        assert client.say("next") == "next"
        assert blocking.executed == ["block", "next"]
        client.idle()


# Connections


class Proxy:
    """Forwards bytes between a port of its own and another, until it is cut."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._muted = False
        self._sockets: list[socket.socket] = []
        self._threads = [on_thread(self._accept)]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                for ends in ((client, server), (server, client)):
                    self._threads.append(on_thread(lambda ends=ends: self._forward(*ends)))

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not self._muted:
                    sink.sendall(data)

    def mute(self) -> None:
        """Forward nothing any more, but keep all connections."""
        self._muted = True

    def cut(self) -> None:
        """Break all connections, without a farewell."""
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RD)  # wakes the thread that reads
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(SOON)
        for end in (*self._sockets, self._listener):
            end.close()


@pytest.mark.parametrize("end", [Proxy.cut, Proxy.mute])
def test_the_connection_breaks(end):
    context = Held.fresh(Noting)
    # Core may miss a reset, and cannot see that a peer is silent for ever, until it hears no answer.
    names = ("grpc.keepalive_time_ms", "grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms")
    keepalive = [(name, 200) for name in names]
    with echoing(context, contexts=1, options=keepalive) as client:
        proxy = Proxy(client.server.port)
        with grpc.insecure_channel(f"127.0.0.1:{proxy.port}") as channel:
            through = Client(channel, client.server)
            through.context = context
            _call, future, held = begin(through)
            end(proxy)
            assert future.cancel_called.wait(SOON)
            assert held.cancelled
            assert client.say("next") == "next"
            proxy.cut()


def test_the_channel_is_closed(held):
    with grpc.insecure_channel(f"127.0.0.1:{held.server.port}") as channel:
        through = Client(channel, held.server)
        through.context = held.context
        _, future, context = begin(through)
    assert future.cancel_called.wait(SOON)
    assert context.cancelled
    eventually(lambda: held.server.in_flight == 0)
    assert held.say("next") == "next"
