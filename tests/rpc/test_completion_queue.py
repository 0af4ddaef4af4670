"""The thin layer over gRPC core by itself: what it promises must hold for every grpcio supported."""

from __future__ import annotations

import threading

import grpc
import pytest
from echoing import SOON, on_thread

from yais.errors import Code, Internal
from yais.rpc.completion_queue import CompletionQueue, CoreServer, ServerCall, seconds_left

METHOD = "/tests.Core/Method"


class Core:
    """A server and a queue, polled by the test itself."""

    def __init__(self) -> None:
        self.queue = CompletionQueue()
        self.server = CoreServer([("grpc.so_reuseport", 0)], [self.queue])
        self.port = self.server.add_port("127.0.0.1:0")
        self.server.register_method(METHOD)
        self.server.start()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")

    def until(self, box: list) -> object:
        """Handle events until there is something in `box`; take it out."""
        watchdog = threading.Timer(SOON, self.queue.shutdown)
        watchdog.start()
        while not box:
            assert self.queue.poll(None), "the queue was shut down"
        watchdog.cancel()
        return box.pop(0)

    def accept(self, method: str | None = METHOD) -> ServerCall:
        """Take one call."""
        events = []
        assert self.server.request(method, self.queue, events.append)
        event = self.until(events)
        assert event.success
        return ServerCall(event)

    def receive(self, call: ServerCall) -> bytes | None:
        messages = []
        call.receive_message(messages.append)
        return self.until(messages)

    def finish(self, call: ServerCall, *arguments, **options) -> bool:
        done = []
        call.finish(*arguments, done=done.append, **options)
        return self.until(done).success

    def close(self) -> None:
        self.channel.close()
        done = []
        self.server.shutdown(self.queue, done.append)
        self.until(done)
        self.server.destroy()
        self.queue.shutdown()
        while not self.queue.closed:
            self.queue.poll(None)


@pytest.fixture
def core():
    own = Core()
    yield own
    own.close()


def test_a_unary_call(core):
    future = core.channel.unary_unary(METHOD).future(b"request", timeout=100.0, metadata=[("key", "1")])
    call = core.accept()
    assert ("key", "1") in call.metadata
    assert call.peer.startswith("ipv4:127.0.0.1:")
    assert 0 < seconds_left(call.deadline) < 110
    assert core.receive(call) == b"request"
    done = []
    call.reply(b"reply", done.append)
    assert core.until(done).success
    assert future.result(SOON) == b"reply"


def test_a_call_of_no_registered_method(core):
    future = core.channel.unary_unary("/tests.Core/Other").future(b"")
    call = core.accept(None)
    assert call.method == "/tests.Core/Other"
    assert call.deadline == float("inf")
    assert seconds_left(call.deadline) == float("inf")
    core.finish(call, Code.DATA_LOSS, "lost", [("after", "1")])
    error = future.exception(SOON)
    assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "lost")
    assert [tuple(item) for item in error.trailing_metadata()] == [("after", "1")]


def test_a_stream(core):
    replies = core.channel.stream_stream(METHOD)(iter([b"1", b"", b"3"]), timeout=SOON)
    call = core.accept()
    assert [core.receive(call) for _ in range(4)] == [b"1", b"", b"3", None]
    sent, closed = [], []
    call.receive_close(closed.append)
    call.send_initial_metadata([("before", "1")], sent.append)
    assert core.until(sent) is True
    for message in (b"a", b"b"):
        call.send_message(message, headers=None, done=sent.append)
        assert core.until(sent) is True
    core.finish(call, Code.OK, "", [], message=b"c", headers=None, close=False)
    assert core.until(closed) is False
    assert list(replies) == [b"a", b"b", b"c"]
    assert ("before", "1") in replies.initial_metadata()


def test_the_caller_cancels(core):
    future = core.channel.unary_unary(METHOD).future(b"request")
    call = core.accept()
    closed, sent = [], []
    call.receive_close(closed.append)
    future.cancel()
    assert core.until(closed) is True
    assert core.receive(call) is None
    call.send_message(b"too late", headers=(), done=sent.append)
    assert core.until(sent) is False
    assert core.finish(call, Code.OK, "", [], headers=None, close=False) is False


def test_the_server_cancels(core):
    future = core.channel.unary_unary(METHOD).future(b"request")
    call = core.accept()
    closed = []
    call.receive_close(closed.append)
    call.cancel(Code.RESOURCE_EXHAUSTED, "enough")
    assert core.until(closed) is True
    assert future.exception(SOON) is not None
    core.finish(call, Code.OK, "", [], close=False)


def test_a_refused_operation_raises(core):
    silence = threading.Event()

    def requests():
        yield b"1"
        silence.wait(SOON)

    future = core.channel.stream_unary(METHOD).future(requests(), timeout=SOON)
    call = core.accept()
    assert core.receive(call) == b"1"
    messages = []
    call.receive_message(messages.append)
    with pytest.raises(Internal, match=r"refused to start ReceiveMessageOperation: call error \d+"):
        call.receive_message(messages.append)
    # The call itself is none the worse.
    core.finish(call, Code.OK, "", [], message=b"reply")
    assert future.result(SOON) == b"reply"
    assert core.until(messages) is None
    silence.set()


@pytest.mark.parametrize("item", [("Upper", "x"), ("key", "\n"), ("key-bin", "x"), ("key", None), "xy", 5])
def test_metadata_that_cannot_be_sent(core, item):
    future = core.channel.unary_unary(METHOD).future(b"request", timeout=SOON)
    call = core.accept()
    with pytest.raises(Internal, match="expected a key of"):
        call.send_initial_metadata([item], [].append)
    core.finish(call, Code.OK, "", [item], message=b"reply")
    error = future.exception(SOON)
    assert error.code() is grpc.StatusCode.INTERNAL
    assert error.details().startswith("trailing metadata: got ")


def test_polling_an_empty_queue(core):
    assert core.queue.poll(0.0) is False
    assert not core.queue.closed


def test_a_tag_that_raises_loses_no_event(core):
    future = core.channel.unary_unary(METHOD).future(b"request", timeout=SOON)
    events = []

    def tag(event):
        events.append(event)
        raise LookupError("odd")

    assert core.server.request(METHOD, core.queue, tag)
    with pytest.raises(LookupError, match="odd"):
        core.until(events)
    core.finish(ServerCall(events.pop()), Code.OK, "", [], message=b"reply")
    assert future.result(SOON) == b"reply"


def test_shutdown_fails_the_calls_that_were_asked_for():
    core = Core()
    events, done = [], []
    assert core.server.request(METHOD, core.queue, events.append)
    assert core.server.request(None, core.queue, events.append)
    core.server.shutdown(core.queue, done.append)
    core.server.shutdown(core.queue, done.append)  # without effect
    assert core.server.request(METHOD, core.queue, events.append) is False
    assert core.server.request(None, core.queue, events.append) is False
    assert [core.until(events).success, core.until(events).success] == [False, False]
    core.until(done)
    assert not events and not done
    core.server.cancel_all_calls()  # There are none.
    core.server.destroy()
    core.queue.shutdown()
    while not core.queue.closed:
        assert core.queue.poll(None) is False
    core.server.shutdown(core.queue, done.append)
    core.channel.close()


def test_cancel_all_calls():
    core = Core()
    future = core.channel.unary_unary(METHOD).future(b"request", timeout=SOON)
    call = core.accept()
    closed, done = [], []
    call.receive_close(closed.append)
    core.server.shutdown(core.queue, done.append)
    core.server.cancel_all_calls()
    assert core.until(closed) is True
    core.finish(call, Code.OK, "", [], close=False)
    assert future.exception(SOON) is not None
    core.until(done)
    core.close = None
    core.server.destroy()
    core.queue.shutdown()
    while not core.queue.closed:
        core.queue.poll(None)
    core.channel.close()


def test_an_address_that_cannot_be_bound(core):
    assert core.port > 0
    assert core.server.add_port("no address") == 0


def test_operations_may_be_started_on_any_thread(core):
    future = core.channel.unary_unary(METHOD).future(b"request", timeout=SOON)
    call = core.accept()
    done = []
    on_thread(lambda: call.reply(b"from afar", done.append)).join(SOON)
    assert core.until(done).success
    assert future.result(SOON) == b"from afar"
