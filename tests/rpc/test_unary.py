"""What unary contexts may answer with, and what they are told of the call."""

from __future__ import annotations

import concurrent.futures
import gc
import queue
import threading
import weakref

import grpc
import pytest
from echo_pb2 import EchoReply, EchoRequest
from echoing import DEADLINE, SAY, SOON, Client, echo_service, echoing, on_thread

import yais
from yais.core.clock import NEVER
from yais.core.dispatcher import current_dispatcher
from yais.testing import serving

KINDS = (
    "immediate",
    "done future",
    "done standard future",
    "future",
    "standard future",
    "pool",
    "standard pool",
    "coroutine",
    "awaitable",
)


class Awaitable:
    """No coroutine, and no future either."""

    def __init__(self, reply):
        self.reply = reply

    def __await__(self):
        yield  # once around the loop
        return self.reply


class Pools(yais.Resources):
    def open(self):
        self.pool = yais.ThreadPool(2, name="pool")
        self.standard_pool = concurrent.futures.ThreadPoolExecutor(2)

    def close(self):
        self.pool.shutdown()
        self.standard_pool.shutdown()


class EveryKind(yais.Context[EchoRequest, EchoReply, Pools]):
    def execute(self, request):
        kind = request.text.partition(":")[0]
        reply = EchoReply(text=request.text)
        if "future" in kind:
            future = concurrent.futures.Future() if "standard" in kind else yais.Future()
            if "done" in kind:
                future.set_result(reply)
            else:
                on_thread(lambda: future.set_result(reply))
            return future
        match kind:
            case "immediate":
                return reply
            case "pool":
                return self.resources.pool.submit(lambda: reply)
            case "standard pool":
                return self.resources.standard_pool.submit(lambda: reply)
            case "coroutine":
                return self.coroutine(reply)
            case "awaitable":
                return Awaitable(reply)
        raise yais.InvalidArgument(kind)

    async def coroutine(self, reply):
        assert threading.current_thread().name == "yais-asyncio"
        return reply


@pytest.fixture(scope="module")
def every_kind():
    with echoing(EveryKind, contexts=50, resources=Pools()) as client:
        yield client


@pytest.mark.parametrize("kind", KINDS)
def test_answer(every_kind, kind):
    assert every_kind.say(f"{kind}:1") == f"{kind}:1"


def test_many_calls_of_all_kinds_at_once(every_kind):
    texts = [f"{KINDS[number % len(KINDS)]}:{number}" for number in range(200)]
    calls = [every_kind.begin(text) for text in texts]
    assert [call.result(SOON).text for call in calls] == texts
    every_kind.idle()


def test_a_future_completed_before_execute_returns(every_kind):
    class Prompt(yais.Context):
        def execute(self, request):
            future = yais.Future()
            thread = on_thread(lambda: future.set_result(EchoReply(text="prompt")))
            thread.join(SOON)
            return future

    with echoing(Prompt) as client:
        assert client.say("") == "prompt"


def test_one_future_may_answer_several_calls():
    shared = yais.Future()
    executed = threading.Semaphore(0)

    class Shared(yais.Context):
        def execute(self, request):
            executed.release()
            return shared

    with echoing(Shared) as client:
        calls = [client.begin("") for _ in range(4)]
        for _ in calls:
            assert executed.acquire(timeout=SOON)
        shared.set_result(EchoReply(text="same"))
        assert [call.result(SOON).text for call in calls] == ["same"] * 4


def test_each_call_has_a_context_of_its_own():
    seen = []

    class Kept(yais.Context):
        def execute(self, request):
            seen.append(self)
            return EchoReply(text=type(self.resources).__name__)

    with echoing(Kept, contexts=1, resources=Pools()) as client:
        assert client.say("") == client.say("") == "Pools"
    # That they are still held keeps no server from stopping.
    assert len(set(seen)) == 2


def test_nothing_is_kept_of_a_call_that_is_over():
    references = []

    class Forgotten(yais.Context):
        async def execute(self, request):
            references.append(weakref.ref(self))
            return EchoReply()

    with echoing(Forgotten, contexts=2) as client:
        client.say("")
        client.idle()
        gc.collect()
        assert references[0]() is None


def test_messages_may_be_read_and_written_another_way():
    class Raw(yais.Context[bytes, str, yais.Resources]):
        def execute(self, request):
            return request.decode().upper()

    service = echo_service(Raw, deserialize=lambda message: message[1:], serialize=str.encode)
    with serving(service) as served:
        assert served.channel.unary_unary(SAY)(b"#raw", timeout=SOON) == b"RAW"


# Hooks


class Hooked(yais.Context[EchoRequest, EchoReply, yais.Resources]):
    """Notes its hooks, with the threads they run on."""

    calls: queue.SimpleQueue
    text = ""

    def on_start(self):
        if ("start", "fails") in self.metadata.items():
            self.note("start")
            raise yais.PermissionDenied("no")
        self.note("start")

    def on_finish(self):
        self.note("finish")

    def note(self, hook):
        assert current_dispatcher() is not None
        self.calls.put((hook, self))

    def execute(self, request):
        self.text = request.text
        match request.text:
            case "good":
                return EchoReply(text="good")
            case "raises":
                raise ValueError("raised")
            case "wrong type":
                return 5
            case "bad trailing metadata":
                self.trailing_metadata.append(("Not Legal", "x"))
                return EchoReply()
            case "coroutine":
                return self.coroutine()
            case "failed future":
                future = yais.Future()
                on_thread(lambda: future.set_exception(ValueError("raised")))
                return future
        return yais.Future()

    async def coroutine(self):
        raise ValueError("raised")


@pytest.fixture
def hooked():
    context = type("OwnHooked", (Hooked,), {"calls": queue.SimpleQueue()})
    with echoing(context, contexts=1) as client:
        client.calls = context.calls
        yield client
    # The server is stopped: nothing is called any more.
    assert context.calls.empty()


def hooks(client: Client) -> None:
    start, context = client.calls.get(timeout=SOON)
    finish, same = client.calls.get(timeout=SOON)
    assert (start, finish) == ("start", "finish")
    assert context is same


@pytest.mark.parametrize(
    "text",
    ["good", "raises", "wrong type", "bad trailing metadata", "coroutine", "failed future"],
)
def test_hooks_are_called_once_whatever_comes_of_the_call(hooked, text):
    for _ in range(2):
        hooked.begin(text).exception(SOON)
        hooks(hooked)


def test_hooks_are_called_once_when_on_start_raises(hooked):
    assert hooked.fail("good", metadata=[("start", "fails")]).code() is grpc.StatusCode.PERMISSION_DENIED
    hooks(hooked)


def test_hooks_are_called_once_when_the_caller_cancels(hooked):
    call = hooked.begin("wait")
    start, context = hooked.calls.get(timeout=SOON)
    call.cancel()
    assert (start, *hooked.calls.get(timeout=SOON)) == ("start", "finish", context)


def test_hooks_are_called_once_when_the_deadline_passes(hooked):
    assert hooked.fail("wait", timeout=DEADLINE).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    hooks(hooked)


# What a context is told


class Told(yais.Context[EchoRequest, EchoReply, yais.Resources]):
    told: dict

    def execute(self, request):
        self.told.update(metadata=self.metadata, peer=self.peer, deadline=self.deadline)
        self.told.update(elapsed=(self.elapsed, self.elapsed), cancelled=self.cancelled)
        self.trailing_metadata.append(("after", "1"))
        self.trailing_metadata.extend([("after", "2"), ("after-bin", b"\x00\xff")])
        if request.text == "fail":
            raise yais.NotFound("nothing")
        return EchoReply()


@pytest.fixture
def told():
    context = type("OwnTold", (Told,), {"told": {}})
    with echoing(context) as client:
        client.told = context.told
        yield client


def test_metadata(told):
    told.say("", metadata=[("key", "1"), ("key", "2"), ("key-bin", b"\x00\xfe"), ("other", "3")])
    metadata = told.told["metadata"]
    assert metadata["key"] == "2"
    assert metadata.get_all("key") == ["1", "2"]
    assert metadata["key-bin"] == b"\x00\xfe"
    assert metadata.get_all("absent") == []
    assert metadata.get("absent") is None
    assert "other" in metadata and "absent" not in metadata
    assert set(metadata) >= {"key", "key-bin", "other", "user-agent"}
    assert len(metadata) == len(set(metadata))
    assert repr(metadata).startswith("Metadata([")
    with pytest.raises(KeyError, match="absent"):
        metadata["absent"]


@pytest.mark.parametrize("text", ["good", "fail"])
def test_trailing_metadata(told, text):
    call = told.begin(text)
    call.exception(SOON)
    trailing = [tuple(item) for item in call.trailing_metadata()]
    assert trailing == [("after", "1"), ("after", "2"), ("after-bin", b"\x00\xff")]


@pytest.mark.parametrize(
    "item",
    [
        ("Upper", "x"),
        ("with space", "x"),
        ("", "x"),
        ("key", "no\nline"),
        ("key", "é"),
        ("key", 5),
        ("key-bin", "text"),
        (5, "x"),
        ("key",),
        "ab",
        None,
    ],
)
def test_trailing_metadata_that_cannot_be_sent(item):
    class Wrong(yais.Context):
        def execute(self, request):
            if request.text == "wrong":
                self.trailing_metadata.append(item)
            return EchoReply(text=request.text)

    with echoing(Wrong, contexts=1) as client:
        code, details = client.status("wrong")
        assert code is grpc.StatusCode.INTERNAL
        assert details.startswith(f"trailing metadata: got {item!r}, expected a key of")
        assert client.say("right") == "right"


def test_trailing_metadata_may_hold_text_as_bytes():
    class AsBytes(yais.Context):
        def execute(self, request):
            self.trailing_metadata.append(("key", b"text"))
            return EchoReply()

    with echoing(AsBytes) as client:
        call = client.begin("")
        assert [tuple(item) for item in call.trailing_metadata()] == [("key", "text")]


def test_peer_and_elapsed(told):
    told.say("")
    assert told.told["peer"].startswith("ipv4:127.0.0.1:")
    first, second = told.told["elapsed"]
    assert 0 < first < second
    assert told.told["cancelled"] is False


def test_deadline(told):
    told.say("", timeout=1000.0)
    # On the wire a deadline is the time left, rounded to few digits.
    assert 900.0 < told.told["deadline"].remaining() < 1100.0


def test_no_deadline(told):
    told.say("", timeout=None)
    assert told.told["deadline"] is NEVER
