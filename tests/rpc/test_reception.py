"""Calls that wait for a context: in which order, how long, how many, and how they end."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from echoing import DEADLINE, SAY, SOON, Client, Held, echoing, eventually, on_thread
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from streaming import BOUND, LARGE, PLENTY, RAW, SERVICE, Log, connected, failed, service_of, streaming

import yais
from yais.core.clock import NANOSECONDS, monotonic
from yais.errors import Code
from yais.rpc.reception import Reception
from yais.rpc.transport import Transport
from yais.testing import FaultyNetwork, ManualClock

ROOM = 64
"""Calls that may wait where the server can see them, for as many contexts or fewer."""

KINDS = ("Unary", "ServerStreaming", "Batching", "Bidirectional", "Streaming")


def waiting(server: yais.Server) -> int:
    """Return how many calls wait where the server can see them."""
    return sum(method.waiting for method in server.statistics().methods.values())


def occupants(server: yais.Server) -> list[str]:
    """Return what keeps each executor from ending."""
    return [repr(executor) for executor in server._executors]


def nothing_is_left(server: yais.Server, before: list[str]) -> None:
    """Wait for the end of all calls; the executors are as they were, and end when the server does."""
    eventually(lambda: server.in_flight == 0)
    assert waiting(server) == 0
    assert occupants(server) == before
    assert server.stop(SOON)
    assert all(each.endswith("not running, 0 in use>") for each in occupants(server))


def hold(client: Client, held: type[Held], text: str = "hold") -> Any:
    """Take a context until `held.finish(text)`."""
    call = client.begin(text)
    held.started.wait(text)
    return call


def queue_up(client: Client, texts: list[str], **options: Any) -> list[Any]:
    """Begin calls that wait, one after the other."""
    calls = []
    for text in texts:
        calls.append(client.begin(text, **options))
        client.pass_by()
    return calls


class Ends(yais.Interceptor):
    """Notes how each call ends, and how long it had waited; but for those of the health service."""

    def __init__(self) -> None:
        self.codes = Log()
        self.waits: list[int] = []

    def begin(self, call: Any) -> Any:
        if call.method.startswith("/grpc.health."):
            return None
        self.waits.append(call.waited)
        return self.codes.add


# Order and number


def test_calls_are_executed_in_the_order_of_arrival_whereever_they_wait():
    held = Held.fresh()
    with echoing(held, contexts=1) as client:
        texts = [str(number) for number in range(ROOM + 30)]
        first = hold(client, held)
        calls = queue_up(client, texts)
        assert waiting(client.server) == ROOM
        assert client.server.in_flight == 1 and held.started.texts == ["hold"]
        held.finish("hold")
        assert first.result(SOON).text == "hold"
        assert [call.result(SOON).text for call in calls] == texts
        assert held.started.texts == ["hold", *texts]
        client.idle()
        assert waiting(client.server) == 0


def test_so_many_are_executed_at_once_as_there_are_contexts():
    contexts = ROOM + 6
    held = Held.fresh()
    with echoing(held, contexts=contexts) as client:
        texts = [f"hold {number}" for number in range(3 * contexts)]
        calls = queue_up(client, texts)
        held.started.wait(*texts[:contexts])
        assert waiting(client.server) == contexts
        for number in range(contexts):
            held.finish(texts[number])
            held.started.wait(texts[number + contexts])
            assert client.server.in_flight <= contexts
        eventually(lambda: waiting(client.server) == contexts)  # who waited in core has come up
        for text in texts[contexts:]:
            held.started.wait(text)
            held.finish(text)
        assert [call.result(SOON).text for call in calls] == texts
        assert held.started.texts == texts


def test_methods_wait_for_their_own_contexts():
    future = yais.Future()

    class Waiting(yais.Context):
        def execute(self, request):
            return future

    class Echo(yais.Context):
        def execute(self, request):
            return request

    with connected(service_of(contexts=1, Wait=Waiting, Echo=Echo)) as client:
        calls = [client.one(number, rpc="Wait") for number in range(3)]
        eventually(lambda: waiting(client.server) == 2)
        assert client.one(7, rpc="Echo").result(SOON) == 7
        methods = client.server.statistics().methods
        assert methods[f"/{SERVICE}/Wait"].waiting == 2 and methods[f"/{SERVICE}/Echo"].waiting == 0
        future.set_result(1)
        assert [call.result(SOON) for call in calls] == [1, 1, 1]


def test_with_several_threads_all_wait_in_core():
    held = Held.fresh()
    with echoing(held, contexts=1, threads=2) as client:
        calls = [client.begin(f"hold {number}") for number in range(5)]
        eventually(lambda: client.server.in_flight == 2)
        client.pass_by()
        assert waiting(client.server) == 0
        for number in range(5):
            eventually(lambda count=number: len(held.started.texts) > count)
            held.finish(held.started.texts[number])
        assert [call.result(SOON).text for call in calls] == [f"hold {number}" for number in range(5)]
        assert [context.waited for context in held.started.contexts.values()] == [0] * 5


# How long


def test_contexts_and_interceptors_know_how_long_a_call_waited():
    held, ends = Held.fresh(), Ends()
    with echoing(held, contexts=1, interceptors=[ends]) as client:
        first = hold(client, held)
        before = monotonic()
        second = client.begin("later")
        eventually(lambda: waiting(client.server) == 1)
        seen = monotonic()
        time.sleep(0.02)  # a wait that can be told from none
        finished = monotonic()
        held.finish("hold")
        assert [first.result(SOON).text, second.result(SOON).text] == ["hold", "later"]
        contexts = held.started.contexts
        assert contexts["hold"].waited == 0
        later = contexts["later"]
        assert before <= later.accepted <= seen
        assert finished - seen <= later.waited <= monotonic() - before
        assert later.elapsed >= later.waited / NANOSECONDS
        assert ends.waits == [0, later.waited]


def test_streams_know_how_long_they_waited():
    log, future = Log(), yais.Future()

    class Chat(yais.BidirectionalContext):
        def execute(self, request):
            log.add(self)
            return future

    with streaming(Chat, contexts=1) as client:
        first = client.chat([1])
        log.wait_for_count(1)
        before = monotonic()
        second = client.chat([2])
        eventually(lambda: waiting(client.server) == 1)
        seen = monotonic()
        future.set_result(3)
        assert [list(first), list(second)] == [[3], [3]]
        [one, two] = log.entries
        assert one.waited == 0
        assert before <= two.accepted <= seen
        assert 0 < two.waited <= monotonic() - before


# How many, and how long at most


def test_one_more_stream_than_may_wait_is_refused():
    future = yais.Future()

    class Chat(yais.BidirectionalContext):
        def execute(self, request):
            return future

    with streaming(Chat, contexts=1, transport=Transport(max_waiting_calls=2)) as client:
        calls = [client.chat([1])]
        eventually(lambda: client.server.in_flight == 1)
        for number in range(2):
            calls.append(client.chat([1]))
            eventually(lambda count=number + 1: waiting(client.server) == count)
        text = f"2 calls of /{SERVICE}/Run wait for a context, and no more may"
        for _ in range(5):
            assert failed(client.chat([1])) == (grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        future.set_result(5)
        assert [list(call) for call in calls] == [[5]] * 3


def test_who_has_waited_too_long_is_refused_when_the_turn_comes(monkeypatch):
    clock, held = ManualClock(), Held.fresh()
    monkeypatch.setattr("yais.rpc.server.Reception", functools.partial(Reception, clock=clock))
    with echoing(held, contexts=1, transport=Transport(max_waiting_time=5)) as client:
        before = occupants(client.server)
        first = hold(client, held)
        late = queue_up(client, ["late", "later"])
        clock.advance(2.5)
        [in_time] = queue_up(client, ["in time"])
        clock.advance(5.0)
        assert waiting(client.server) == 3  # nobody looks before
        held.finish("hold")
        for call in late:
            error = call.exception(SOON)
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert error.details() == f"no context of {SAY} became free in time"
        assert [first.result(SOON).text, in_time.result(SOON).text] == ["hold", "in time"]
        assert held.started.texts == ["hold", "in time"]
        assert held.started.contexts["in time"].waited == 5.0 * NANOSECONDS  # no longer than that
        nothing_is_left(client.server, before)


# The end of the server


@contextlib.contextmanager
def held_kinds() -> Iterator[tuple[Any, Log, yais.Future[int]]]:
    """Serve an RPC of each kind, with one context, which a call has until the future is done."""
    log, future = Log(), yais.Future()

    class Unary(yais.Context):
        def execute(self, request):
            log.add(request)
            return future

    class ServerStreaming(yais.ServerStreamingContext):
        async def execute(self, request):
            log.add(request)
            yield await future

    class Batching(yais.BatchingContext):
        async def execute(self, requests):
            log.add(*requests)
            return [await future]

    class Bidirectional(yais.BidirectionalContext):
        def execute(self, request):
            log.add(request)
            return future

    class Streaming(yais.StreamingContext):
        async def on_request(self, request, stream):
            log.add(request)
            await stream.awrite(await future)

        def on_requests_done(self, stream):
            stream.finish()

    classes = {name: each for name, each in locals().items() if name in KINDS}
    with connected(service_of(contexts=1, **classes), grace=SOON) as client:
        yield client, log, future


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_stops_refuses_who_waits(kind):
    with held_kinds() as (client, log, future):
        first = client.chat([1], rpc=kind)
        log.wait(1)
        others = [client.chat([number], rpc=kind) for number in (2, 3, 4)]
        eventually(lambda: waiting(client.server) == 3)
        clean = []
        stopping = on_thread(lambda: clean.append(client.server.stop(SOON)))
        for call in others:
            assert failed(call) == (grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
        assert waiting(client.server) == 0 and not clean
        future.set_result(5)
        assert list(first) == [5]
        stopping.join(SOON)
        assert clean == [True] and log.entries == [1]


def test_contexts_become_free_while_the_server_stops():
    for _ in range(20):
        held = Held.fresh()
        with echoing(held, contexts=2) as client:
            first = [hold(client, held, f"hold {number}") for number in range(2)]
            calls = [client.begin(str(number)) for number in range(100)]
            eventually(lambda: waiting(client.server) == ROOM)
            stopping = on_thread(lambda server=client.server: server.stop(SOON))
            for number in range(2):
                held.finish(f"hold {number}")
            assert [call.result(SOON).text for call in first] == ["hold 0", "hold 1"]
            stopping.join(SOON)
            assert client.server.wait(0)
            codes = Counter(call.code() for call in calls)
            assert not codes.keys() - {
                grpc.StatusCode.OK,
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.CANCELLED,
            }
            assert codes[grpc.StatusCode.OK] == len(held.started.texts) - 2


@pytest.mark.usefixtures("unhurried")
def test_a_server_without_grace_stops_at_once(caplog):
    held = Held.fresh()
    with echoing(held, contexts=1) as client:
        first = hold(client, held)
        calls = queue_up(client, ["a", "b"])
        assert client.server.stop(0.0) is True
        assert first.exception(SOON) is not None
        for call in calls:
            assert call.exception(SOON).code() is grpc.StatusCode.UNAVAILABLE
    assert [record.getMessage().partition(" ")[2] for record in caplog.records] == [
        "calls are still in flight, their time is over: cancelling them"
    ]


# Callers that go away


def test_callers_that_cancel_while_they_wait():
    held, ends = Held.fresh(), Ends()
    with echoing(held, contexts=1, interceptors=[ends]) as client:
        before = occupants(client.server)
        first = hold(client, held)
        gone, stays = queue_up(client, ["gone", "stays"])
        gone.cancel()
        client.pass_by()
        assert waiting(client.server) == 2  # until its turn comes
        held.finish("hold")
        assert [first.result(SOON).text, stays.result(SOON).text] == ["hold", "stays"]
        assert held.started.texts == ["hold", "stays"]
        ends.codes.wait_for_count(3)
        assert ends.codes.entries == [Code.OK, Code.CANCELLED, Code.OK]
        nothing_is_left(client.server, before)


@pytest.mark.parametrize("kind", KINDS)
def test_streams_that_are_cancelled_while_they_wait(kind):
    with held_kinds() as (client, log, future):
        before = occupants(client.server)
        first = client.chat([1], rpc=kind)
        log.wait(1)
        gone = client.chat([2], rpc=kind)
        eventually(lambda: waiting(client.server) == 1)
        stays = client.chat([3], rpc=kind)
        eventually(lambda: waiting(client.server) == 2)
        gone.cancel()
        client.pass_by()
        future.set_result(5)
        assert [list(first), list(stays)] == [[5], [5]]
        assert log.entries == [1, 3]
        nothing_is_left(client.server, before)


def test_deadlines_that_pass_while_a_call_waits():
    held, ends = Held.fresh(), Ends()
    with echoing(held, contexts=1, interceptors=[ends]) as client:
        first = hold(client, held)
        late = client.begin("late", timeout=DEADLINE)
        eventually(lambda: waiting(client.server) == 1)
        arrived = time.monotonic()
        assert late.exception(SOON).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert client.server.in_flight == 1  # the caller need not wait for its turn
        # The server counts from a little later, and what it is told is rounded up.
        eventually(lambda: time.monotonic() > arrived + 1.1 * DEADLINE)
        held.finish("hold")
        assert first.result(SOON).text == "hold"
        ends.codes.wait_for_count(2)
        assert ends.codes.entries == [Code.OK, Code.DEADLINE_EXCEEDED]
        assert held.started.texts == ["hold"]
        assert client.say("next") == "next"


def test_callers_that_go_before_they_have_sent_a_request():
    ends, silence = Ends(), threading.Event()

    def requests():
        silence.wait(SOON)
        yield from ()

    with echoing(Held.fresh(), contexts=1, interceptors=[ends]) as client:
        before = occupants(client.server)
        call = client.channel.stream_unary(SAY).future(requests(), timeout=SOON)
        eventually(lambda: client.server.in_flight == 1)
        call.cancel()
        ends.codes.wait(Code.CANCELLED)
        nothing_is_left(client.server, before)
        silence.set()


def test_connections_that_break_while_calls_wait():
    held, ends = Held.fresh(), Ends()
    with echoing(held, contexts=1, interceptors=[ends]) as client:
        before = occupants(client.server)
        with FaultyNetwork(client.server.port) as network:
            far = Client(grpc.insecure_channel(f"127.0.0.1:{network.port}"), client.server)
            with far.channel:
                first = hold(client, held)
                calls = [far.begin(f"far {number}") for number in range(10)]
                eventually(lambda: waiting(client.server) == 10)
                network.reset()
                for call in calls:
                    assert call.exception(SOON).code() is grpc.StatusCode.UNAVAILABLE
        # Of what came after them the server hears after it has heard that they are gone.
        near = client.begin("near")
        eventually(lambda: waiting(client.server) == 11)
        held.finish("hold")
        assert first.result(SOON).text == "hold"
        ends.codes.wait_for_count(12)
        assert ends.codes.entries == [Code.OK] + [Code.CANCELLED] * 10 + [Code.OK]
        assert near.result(SOON).text == "near" and held.started.texts == ["hold", "near"]
        nothing_is_left(client.server, before)


def test_nothing_is_left_of_thousands_of_calls():
    held, ends = Held.fresh(), Ends()
    transport = Transport(max_waiting_calls=40)
    codes: Counter[grpc.StatusCode] = Counter()
    with echoing(held, contexts=3, interceptors=[ends], transport=transport) as client:
        before = occupants(client.server)
        for turn in range(15):
            first = [hold(client, held, f"hold {turn} {number}") for number in range(3)]
            calls = [client.begin(str(number)) for number in range(39)]
            client.pass_by()
            calls += [client.begin("one too many") for _ in range(100)]
            for call in calls[:39:3]:
                call.cancel()
            client.pass_by()
            for number in range(3):
                held.finish(f"hold {turn} {number}")
            codes.update(call.code() for call in (*first, *calls))
        nothing_is_left(client.server, before)
        assert codes.keys() == {
            grpc.StatusCode.OK,
            grpc.StatusCode.CANCELLED,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        }
        assert codes.total() == 15 * 142
    assert len(ends.codes) == len(ends.waits)


# Messages of those that wait


def test_requests_stay_with_their_callers():
    future, sent = yais.Future(), Log()

    class Chat(yais.BidirectionalContext):
        def execute(self, request):
            return future

    def requests():
        for _ in range(PLENTY):
            sent.add(None)
            yield LARGE

    with streaming(Chat, codec=RAW, contexts=1) as client:
        first = client.chat([b"x"])
        eventually(lambda: client.server.in_flight == 1)
        second = client.chat(requests())
        eventually(lambda: waiting(client.server) == 1)
        assert client.at_rest(lambda: len(sent)) < BOUND
        future.set_result(b"y")
        assert [list(first), len(list(second))] == [[b"y"], PLENTY]


def test_a_large_request_stays_with_its_caller():
    held = Held.fresh()
    fixed_window = [("grpc.http2.bdp_probe", 0)]
    with (
        echoing(held, contexts=1, options=fixed_window) as client,
        FaultyNetwork(client.server.port) as network,
        grpc.insecure_channel(f"127.0.0.1:{network.port}", options=fixed_window) as channel,
    ):
        first = hold(client, held)
        far = Client(channel, client.server)
        far.pass_by()
        network.reset_after(1 << 20, "requests")  # which would break the connection
        large = far.begin("x" * (3 << 20))
        eventually(lambda: waiting(client.server) == 1)
        for _ in range(50):
            far.pass_by()
        assert not large.done() and network.connections == 1
        held.finish("hold")
        assert first.result(SOON).text == "hold"
        assert large.exception(SOON).code() is grpc.StatusCode.UNAVAILABLE  # now it is sent


def test_a_call_without_a_request_is_told_so_after_its_wait():
    held, ends = Held.fresh(), Ends()
    with echoing(held, contexts=1, interceptors=[ends]) as client:
        first = hold(client, held)
        empty = client.channel.stream_unary(SAY).future(iter(()), timeout=SOON)
        eventually(lambda: waiting(client.server) == 1)
        held.finish("hold")
        assert first.result(SOON).text == "hold"
        error = empty.exception(SOON)
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert error.details() == f"{SAY} requires exactly one request message"
        ends.codes.wait_for_count(2)
        assert ends.codes.entries == [Code.OK, Code.UNIMPLEMENTED]


def test_a_request_that_is_too_large_is_refused_after_its_wait():
    held = Held.fresh()
    with echoing(held, contexts=1, max_message_bytes=1000) as client:
        first = hold(client, held)
        large = client.begin("x" * 2000)
        eventually(lambda: waiting(client.server) == 1)
        held.finish("hold")
        assert first.result(SOON).text == "hold"
        assert large.exception(SOON).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert client.say("fine") == "fine"


# The reception alone


class _Core:
    """Calls that arrive, and requests for them, as gRPC core has them."""

    def __init__(self) -> None:
        self.tags: deque[Any] = deque()
        self.stopping = False

    def request(self, method: str, queue: Any, tag: Any) -> bool:
        if not self.stopping:
            self.tags.append(tag)
        return not self.stopping


class _Call:
    """What remembers that it was refused, until the refusal is sent."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.refusal_sent: Any = None

    def start_server_batch(self, operations: Any, tag: Any) -> Any:
        assert self.refusal_sent is None
        self.refusal_sent = tag
        return 0


class _Executor:
    queue = None
    occupants = 0

    def occupy(self) -> None:
        self.occupants += 1

    def vacate(self) -> None:
        self.occupants -= 1
        assert self.occupants >= 0


class _Slot:
    """Notes what it serves."""

    def __init__(self, served: list[tuple[int, int, int]]) -> None:
        self.served = served
        self.call: _Call | None = None

    def serve(self, event: Any, arrived: int, waited: int) -> None:
        assert self.call is None
        self.call = event.call
        self.served.append((event.call.number, arrived, waited))


class ReceptionMachine(RuleBasedStateMachine):
    """Calls arrive, end, wait and are refused, while a model says what should come of each."""

    @initialize(slots=st.integers(1, 3), limit=st.sampled_from([0, 1, 2, 5, 100]))
    def open(self, slots, limit):
        self.core, self.executor, self.clock = _Core(), _Executor(), ManualClock()
        self.served: list[tuple[int, int, int]] = []
        self.slots = [_Slot(self.served) for _ in range(slots)]
        self.room = min(limit, ROOM)
        self.closed, self.calls = False, []
        self.expected: list[tuple[int, int, int]] = []
        self.queue: deque[tuple[_Call, int]] = deque()
        self.refused: list[_Call] = []
        self.reception = Reception(
            "/a.B/C",
            self.executor,
            self.core,
            slots=slots,
            max_waiting=limit,
            max_seconds=1,
            clock=self.clock,
        )
        self.reception.open(self.slots)

    @precondition(lambda self: self.core.tags)
    @rule(count=st.integers(1, 4))
    def arrive(self, count):
        for _ in range(min(count, len(self.core.tags))):
            call = _Call(len(self.calls))
            self.calls.append(call)
            if any(slot.call is None for slot in self.slots):
                self.expected.append((call.number, self.clock(), 0))
            elif len(self.queue) == self.room or self.closed:
                self.refused.append(call)
            else:
                self.queue.append((call, self.clock()))
            event = SimpleNamespace(success=True, call=call, call_details=None, invocation_metadata=())
            self.core.tags.popleft()(event)

    @precondition(lambda self: any(slot.call for slot in self.slots))
    @rule(data=st.data())
    def end(self, data):
        slot = data.draw(st.sampled_from([slot for slot in self.slots if slot.call]))
        slot.call = None
        while self.queue:
            call, arrived = self.queue.popleft()
            if self.clock() - arrived <= NANOSECONDS:
                self.expected.append((call.number, arrived, self.clock() - arrived))
                break
            self.refused.append(call)
        self.reception.free(slot)

    @precondition(lambda self: self.refused)
    @rule(data=st.data())
    def refusal_is_sent(self, data):
        call = data.draw(st.sampled_from(self.refused))
        assert call.refusal_sent is not None
        self.refused.remove(call)
        call.refusal_sent(SimpleNamespace(success=True))

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0]))
    def wait(self, seconds):
        self.clock.advance(seconds)

    @precondition(lambda self: not self.core.stopping)
    @rule(fail_at_once=st.booleans())
    def shut_down(self, fail_at_once):
        self.core.stopping = True
        while fail_at_once and self.core.tags:
            self.core.tags.popleft()(SimpleNamespace(success=False))

    @precondition(lambda self: self.core.stopping and not self.closed)
    @rule()
    def close(self):
        self.closed = True
        self.refused += [call for call, _ in self.queue]
        self.queue.clear()
        self.reception.close()

    @invariant()
    def every_call_is_where_it_should_be(self):
        assert self.served == self.expected
        assert len(self.reception) == len(self.queue) <= self.room
        assert {call.number for call in self.refused} <= {
            call.number for call in self.calls if call.refusal_sent
        }
        idle = sum(slot.call is None for slot in self.slots)
        assert not (idle and self.queue)

    @invariant()
    def the_queue_is_occupied_by_what_will_still_use_it(self):
        in_slots = sum(slot.call is not None for slot in self.slots)
        users = len(self.core.tags) + in_slots + len(self.queue) + len(self.refused)
        assert self.executor.occupants == users
        if not self.core.stopping:
            assert users == len(self.slots) + self.room + (self.room in {1, 2, 5})

    def teardown(self):
        """Whatever has happened, the executor can end."""
        self.core.stopping = True
        while self.core.tags:
            self.core.tags.popleft()(SimpleNamespace(success=False))
        self.refused += [call for call, _ in self.queue]
        self.queue.clear()
        self.reception.close()
        for slot in self.slots:
            if slot.call is not None:
                slot.call = None
                self.reception.free(slot)
        for call in self.refused:
            call.refusal_sent(SimpleNamespace(success=True))
        assert self.executor.occupants == len(self.reception) == 0


TestReceptionMachine = ReceptionMachine.TestCase
TestReceptionMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
