"""Streams whose parties meet at bad moments: threads, executors, callers that leave, a server that stops."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import queue
import random
import threading
import time
import weakref
from concurrent.futures import CancelledError
from dataclasses import replace

import grpc
import pytest
from echoing import DEADLINE, SOON, eventually, on_thread

import yais
from yais.testing import serving

BIG = b"x" * (3 << 20)  # more than a connection takes that nobody reads from


def service(**contexts: type) -> yais.Service:
    """Serve each RPC, of bytes, with its context class."""
    made = yais.Service("tests.Races")
    for rpc, context in contexts.items():
        made.register(rpc, context, deserialize=bytes, serialize=bytes)
    return made


class Requests:
    """What a caller sends, one by one, until `end`."""

    def __init__(self, *first: bytes) -> None:
        self.queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        for request in first:
            self.queue.put(request)

    def __iter__(self):
        return iter(self.queue.get, None)

    def end(self) -> None:
        self.queue.put(None)


@contextlib.contextmanager
def caller(served, rpc: str = "Rpc", *first: bytes, timeout: float = SOON):
    """Begin a call that stays open while the block lasts, unless it ends before."""
    requests = Requests(*first)
    call = served.channel.stream_stream(f"/tests.Races/{rpc}")(iter(requests), timeout=timeout)
    call.requests = requests
    try:
        yield call
    finally:
        requests.end()
        call.cancel()


def outcome(call) -> tuple[list[bytes], grpc.StatusCode]:
    """Read a call to its end: what was answered, and the status."""
    answers: list[bytes] = []
    with contextlib.suppress(grpc.RpcError):
        for answer in call:
            answers.append(answer)  # noqa: PERF402 - those before an error are kept
    return answers, call.code()


def idle(served) -> None:
    """Wait until every context is back."""
    eventually(lambda: served.server.in_flight == 0)


class Kept(yais.StreamingContext):
    """Gives its stream to the test."""

    streams: queue.SimpleQueue
    max_unsent = 2

    def on_open(self, stream):
        self.streams.put(stream)

    def on_request(self, request, stream):
        pass

    @classmethod
    def fresh(cls, **attributes) -> type[Kept]:
        return type("OwnKept", (cls,), {"streams": queue.SimpleQueue(), **attributes})


@contextlib.contextmanager
def fixed_window(served):
    """Yield the server with a channel whose client lets it send no more as time passes."""
    options = [("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{served.port}", options=options) as channel:
        yield replace(served, channel=channel)


def full(stream) -> None:
    """Write until there is no more room; the caller does not read."""
    while stream.write(BIG, timeout=0.3):
        pass


def test_executors_do_not_wait_for_each_other():
    kept = Kept.fresh()

    class Forward(yais.Context):
        def execute(self, request):
            return str(stream.write(BIG)).encode()

    made = service(Rpc=kept)
    made.register("Forward", Forward, executor="other", deserialize=bytes, serialize=bytes)
    server = yais.Server("127.0.0.1:0")
    server.add_executor("other")
    server.add(made)
    fixed = [("grpc.http2.bdp_probe", 0)]  # or the window grows, and what was full has room again
    with server, grpc.insecure_channel(f"127.0.0.1:{server.port}", options=fixed) as channel:
        call = channel.stream_stream("/tests.Races/Rpc")(iter(Requests()), timeout=SOON)
        stream = kept.streams.get(timeout=SOON)
        full(stream)
        assert channel.unary_unary("/tests.Races/Forward")(b"", timeout=SOON) == b"False"
        call.cancel()


@pytest.mark.parametrize("end", ["caller", "deadline", "finish", "finish at once", "fail", "cancel", "stop"])
def test_a_writer_that_waits_for_room_learns_that_there_will_be_none(end):
    kept = Kept.fresh()
    with serving(service(Rpc=kept), grace=0.1) as served, fixed_window(served) as reached:
        with caller(reached, timeout=DEADLINE if end == "deadline" else SOON) as call:
            stream = kept.streams.get(timeout=SOON)
            full(stream)
            taken = []
            writers = [on_thread(lambda: taken.append(stream.write(BIG))) for _ in range(3)]
            writers += [on_thread(lambda: taken.append(asyncio.run(stream.awrite(BIG)))) for _ in range(3)]
            eventually(lambda: len(stream._waiting) == 6 or end == "deadline")
            ends = {
                "caller": call.cancel,
                "deadline": lambda: None,
                "finish": stream.finish,
                "finish at once": lambda: stream.finish(at_once=True),
                "fail": lambda: stream.fail(yais.Aborted("enough")),
                "cancel": stream.cancel,
                "stop": served.server.stop,
            }
            ends[end]()
            for writer in writers:
                writer.join(SOON)
            # Some may have been taken: the write before them ends, or fails, before the news of the end.
            assert len(taken) == 6 and taken.count(False) >= 4
            eventually(lambda: not stream.connected)
            assert not stream.write(BIG)
        idle(served)


def failing_headers(base, execute):
    def illegal(self, *arguments):
        self.initial_metadata.append(("Illegal Key", "x"))
        return execute(self, *arguments)

    return type("Failing", (base,), {"execute": illegal})


async def _echo_all(self, requests):
    async for request in requests:
        yield request


def _generate(self, request):
    for _ in range(100):
        yield request


async def _generate_async(self, request):
    for _ in range(100):
        yield request


def _write_and_wait(self, request):
    self.stream.write(request)
    self.future = yais.Future()
    return self.future


@pytest.mark.parametrize(
    "context",
    [
        failing_headers(yais.StreamingContext, _echo_all),
        failing_headers(yais.ServerStreamingContext, _generate),
        failing_headers(yais.ServerStreamingContext, _generate_async),
        failing_headers(yais.ServerStreamingContext, _write_and_wait),
        failing_headers(yais.BatchingContext, lambda _self, requests: requests),
        failing_headers(yais.BidirectionalContext, lambda _self, request: request),
    ],
)
def test_initial_metadata_that_cannot_be_sent_ends_the_call(context):
    with serving(service(Rpc=context)) as served, caller(served, "Rpc", b"1", b"2") as call:
        if issubclass(context, yais.BatchingContext):
            call.requests.end()
        assert outcome(call) == ([], grpc.StatusCode.INTERNAL)
        assert "Illegal Key" in call.details()


def test_asyncio_code_sees_the_end_of_requests_when_its_stream_is_finished_at_once():
    class Echo(yais.StreamingContext):
        execute = _echo_all

        def on_drain(self):
            self.stream.finish(at_once=True)

    with serving(service(Rpc=Echo), grace=SOON) as served, caller(served, "Rpc", b"1") as call:
        assert next(call) == b"1"
        stopping = on_thread(served.server.stop)
        assert outcome(call) == ([], grpc.StatusCode.OK)
        stopping.join(SOON)


def test_a_stream_that_fails_after_its_finish_gives_up_what_is_pending():
    class Pending(Kept):
        def on_request(self, request, stream):
            stream.finish()
            self.streams.put(stream)
            self.future = yais.Future()
            return self.future

    kept = Pending.fresh()
    with serving(service(Rpc=kept)) as served, caller(served, "Rpc", b"1") as call:
        kept.streams.get(timeout=SOON)
        stream = kept.streams.get(timeout=SOON)
        assert not stream.fail(yais.Aborted("changed my mind"))
        assert outcome(call) == ([], grpc.StatusCode.ABORTED)


def test_a_stream_that_is_still_opening_learns_of_the_drain():
    drained, inside = threading.Event(), threading.Event()
    told = []

    class Late(yais.StreamingContext):
        def __init__(self):
            inside.set()
            drained.wait(SOON)

        def on_open(self, stream):
            told.append("open")

        def on_drain(self):
            told.append("drain")
            self.stream.finish(at_once=True)

    class Last(Kept):
        def on_drain(self):
            drained.set()
            self.stream.finish(at_once=True)

    kept = Last.fresh()
    made = service(Rpc=Late)
    made.register("Last", kept, executor="other", deserialize=bytes, serialize=bytes)
    server = yais.Server("127.0.0.1:0", grace=SOON)
    server.add_executor("other")  # its contexts learn of the drain last
    server.add(made)
    with server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        calls = [channel.stream_stream(f"/tests.Races/{rpc}")(iter(Requests())) for rpc in ("Rpc", "Last")]
        assert inside.wait(SOON) and kept.streams.get(timeout=SOON)
        stopping = on_thread(server.stop)
        assert [outcome(call) for call in calls] == [([], grpc.StatusCode.OK)] * 2
        stopping.join(SOON)
    assert told == ["open", "drain"]


def test_a_generator_loses_nothing_when_others_write_too():
    class Both(yais.ServerStreamingContext):
        max_unsent = 1

        def execute(self, request):
            other = on_thread(lambda: [self.stream.write(b"other") for _ in range(300)])
            for index in range(300):
                yield str(index).encode()
            other.join(0.0)

    with serving(service(Rpc=Both)) as served, caller(served, "Rpc", b"") as call:
        mine = [int(answer) for answer in call if answer != b"other"]
        assert mine == list(range(300))


def test_a_generator_ends_when_somebody_else_finishes_its_stream():
    streams: queue.SimpleQueue = queue.SimpleQueue()
    closed = threading.Event()

    class Endless(yais.ServerStreamingContext):
        def execute(self, request):
            streams.put(self.stream)
            try:
                while True:
                    yield b"more"
            finally:
                closed.set()

    with serving(service(Rpc=Endless)) as served, caller(served, "Rpc", b"") as call:
        assert next(call) == b"more"
        assert streams.get(timeout=SOON).finish()
        assert outcome(call)[1] is grpc.StatusCode.OK
        assert closed.wait(SOON)
        idle(served)


def test_the_code_of_an_asynchronous_generator_ends_when_the_caller_goes():
    ended: queue.SimpleQueue = queue.SimpleQueue()

    class Endless(yais.StreamingContext):
        async def execute(self, requests):
            try:
                async for request in requests:
                    yield request
            finally:
                ended.put(len(asyncio.all_tasks()))

    with serving(service(Rpc=Endless)) as served:
        for _ in range(3):
            with caller(served, "Rpc", b"1") as call:
                assert next(call) == b"1"
            assert ended.get(timeout=SOON) == 1  # itself: no other task was left behind
        idle(served)


def test_the_status_of_a_lockstep_stream_does_not_wait_for_the_caller_to_read():
    begun = threading.Event()

    class Flood(yais.BidirectionalContext):
        def execute(self, request):
            begun.set()
            return BIG

    with serving(service(Rpc=Flood), grace=0.1) as served, caller(served, "Rpc", b"1") as call:
        assert begun.wait(SOON)
        assert served.server.stop()
        assert outcome(call)[1] is grpc.StatusCode.UNAVAILABLE


class _Request:
    alive: weakref.WeakSet

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.alive.add(self)


class _Counted:
    def on_start(self):
        _Request.alive.add(self)


class _Batching(_Counted, yais.BatchingContext):
    def execute(self, requests):
        return [request.message for request in requests]


class _Bidirectional(_Counted, yais.BidirectionalContext):
    def execute(self, request):
        return request.message


class _Generator(_Counted, yais.ServerStreamingContext):
    def execute(self, request):
        yield request.message


class _AsyncGenerator(_Counted, yais.ServerStreamingContext):
    async def execute(self, request):
        yield request.message


class _Streaming(_Counted, yais.StreamingContext):
    def on_request(self, request, stream):
        stream.write(request.message)


class _AsyncCallbacks(_Counted, yais.StreamingContext):
    async def on_request(self, request, stream):
        await stream.awrite(request.message)


class _AsyncStreaming(_Counted, yais.StreamingContext):
    async def execute(self, requests):
        async for request in requests:
            yield request.message


@pytest.mark.parametrize(
    "context",
    [
        _Batching,
        _Bidirectional,
        _Generator,
        _AsyncGenerator,
        _Streaming,
        _AsyncCallbacks,
        _AsyncStreaming,
    ],
)
def test_nothing_of_a_call_waits_for_the_garbage_collector(context):
    _Request.alive = weakref.WeakSet()
    made = yais.Service("tests.Races")
    made.register("Rpc", context, deserialize=_Request, serialize=bytes)
    gc.collect()
    gc.disable()
    try:
        with serving(made) as served:
            call = served.channel.stream_stream("/tests.Races/Rpc")
            for _ in range(3):
                assert list(call(iter([b"1"]), timeout=SOON)) == [b"1"]
            assert _Request.alive is not None
            eventually(lambda: not _Request.alive)
    finally:
        gc.enable()


def test_handles_outlive_their_calls_and_the_server():
    kept = Kept.fresh()
    with serving(service(Rpc=kept), grace=0.1) as served:
        for _ in range(3):
            assert list(served.channel.stream_stream("/tests.Races/Rpc")(iter([b"1"]), timeout=SOON)) == []
        with caller(served, "Rpc", b"1"):
            streams = [kept.streams.get(timeout=SOON) for _ in range(4)]
            served.server.stop()
    for stream in streams:
        with stream.hold():
            assert not stream.write(b"late")
            assert not asyncio.run(stream.awrite(b"late"))
            assert not (stream.finish() or stream.finish(at_once=True))
            assert not (stream.fail(yais.Aborted("late")) or stream.cancel())
        assert not stream.connected


class _AnyState(yais.StreamingContext):
    """Does what the caller asks for, and is then found in that state."""

    max_unsent = 2
    reached: threading.Semaphore

    def on_request(self, request, stream):
        try:
            return getattr(self, request.decode())(stream)
        finally:
            self.reached.release()

    def idle(self, stream):
        pass

    def pending(self, stream):
        self.future = yais.Future()
        return self.future

    def coroutine(self, stream):
        return asyncio.sleep(SOON)

    def finished(self, stream):
        stream.finish()

    def ended(self, stream):
        stream.finish(at_once=True)

    def cancelled_by_itself(self, stream):
        stream.cancel()

    def failed(self, stream):
        raise yais.Aborted("on demand")

    def blocked(self, stream):
        on_thread(lambda: all(stream.write(BIG) for _ in range(1000)))

    def held(self, stream):
        stream.acquire()
        on_thread(lambda: (eventually(lambda: not stream.connected), stream.release()))

    def held_and_ended(self, stream):
        self.held(stream)
        stream.finish(at_once=True)


STATES = [name for name in vars(_AnyState) if not name.startswith(("_", "on_", "max", "reached"))]


@pytest.mark.parametrize("grace", [0.0, 0.2])
def test_the_server_stops_while_streams_are_in_every_state(grace, monkeypatch):
    monkeypatch.setattr("yais.rpc.server._NOTICE", SOON)
    count = 10 * len(STATES)
    context = type("AnyState", (_AnyState,), {"reached": threading.Semaphore(0)})
    with serving(service(Rpc=context), grace=grace) as served, contextlib.ExitStack() as calls:
        made = [
            calls.enter_context(caller(served, "Rpc", STATES[index % len(STATES)].encode()))
            for index in range(count)
        ]
        for _ in range(count):
            assert context.reached.acquire(timeout=SOON)
        readers = [on_thread(lambda call=call: outcome(call)) for call in made[::2]]
        assert served.server.stop()
        assert served.server.in_flight == 0
        for reader in readers:
            reader.join(SOON)
        assert all(call.code() is not None for call in made[::2])


class Boom(BaseException):
    """What no code expects."""


def _boom(*_arguments):
    raise Boom


async def _boom_later(*_arguments):
    await asyncio.sleep(0)
    raise Boom


def _boom_in_future(*_arguments):
    future: yais.Future = yais.Future()
    future.set_exception(Boom())
    return future


def _cancelled_future(*_arguments):
    future: yais.Future = yais.Future()
    future.cancel()
    return future


def _boom_in_generator(*_arguments):
    yield b"1"
    raise Boom


async def _boom_in_async_generator(*_arguments):
    yield b"1"
    raise Boom


def _boom_on_close(*_arguments):
    try:
        yield b"1"
        yield BIG  # the caller does not wait for it
        yield BIG
    finally:
        raise Boom


HOOKS = [
    *(("__init__", base, _boom) for base in (_Streaming, _Batching, _Generator, _Bidirectional)),
    *(("on_start", base, _boom) for base in (_Streaming, _Batching, _Generator, _Bidirectional)),
    *(("on_finish", base, _boom) for base in (_Streaming, _Batching, _Generator, _Bidirectional)),
    *(("on_cancel", base, _boom) for base in (_Streaming, _Batching, _Generator, _Bidirectional)),
    *(
        (hook, base, how)
        for how in (_boom, _boom_later, _boom_in_future, _cancelled_future)
        for hook, base in (
            ("on_open", _Streaming),
            ("on_request", _Streaming),
            ("on_requests_done", _Streaming),
            ("on_item", _Batching),
            ("execute", _Batching),
            ("execute", _Bidirectional),
            ("on_requests_done", _Bidirectional),
            ("execute", _Generator),
        )
    ),
    *(("execute", _Generator, how) for how in (_boom_in_generator, _boom_in_async_generator)),
    ("execute", _Generator, _boom_on_close),
    ("execute", _AsyncStreaming, _boom_in_async_generator),
    ("execute", _AsyncStreaming, _boom_later),
]


@pytest.mark.parametrize(
    ("hook", "base", "how"),
    HOOKS,
    ids=[f"{base.__name__}-{hook}-{how.__name__}" for hook, base, how in HOOKS],
)
@pytest.mark.parametrize("leaves", [False, True])
def test_what_a_hook_raises_ends_one_call(hook, base, how, leaves):
    """The one context is free for the next call, whoever went first."""
    _Request.alive = weakref.WeakSet()
    raising = [True]
    good = getattr(base, hook)

    def hooked(*arguments):
        return (how if raising[0] else good)(*arguments)

    made = yais.Service("tests.Races")
    made.register(
        "Rpc", type("Raising", (base,), {hook: hooked}), contexts=1, deserialize=_Request, serialize=bytes
    )
    with serving(made) as served:
        method = served.channel.stream_stream("/tests.Races/Rpc")
        call = method(iter([b"1"]), timeout=SOON)
        if leaves or how is _boom_on_close:
            with contextlib.suppress(grpc.RpcError, StopIteration):
                next(call)
            call.cancel()
        elif hook not in {"on_finish", "on_cancel"}:
            code = outcome(call)[1]
            expected = grpc.StatusCode.CANCELLED if how is _cancelled_future else grpc.StatusCode.UNKNOWN
            assert code is expected
        else:
            assert outcome(call)[1] is grpc.StatusCode.OK
        idle(served)
        raising[0] = False
        assert list(method(iter([b"1"]), timeout=SOON)) == [b"1"]


class _Meddled(yais.StreamingContext):
    """Answers in all ways there are."""

    max_unsent = 3
    streams: list
    ends: list

    def on_open(self, stream):
        self.streams.append(stream)

    def on_request(self, request, stream):
        match request:
            case b"future":
                future: yais.Future = yais.Future()
                on_thread(lambda: self.complete(future))
                return future
            case b"coroutine":
                return stream.awrite(request)
            case _:
                stream.write(request)
                return None

    @staticmethod
    def complete(future) -> None:
        with contextlib.suppress(CancelledError, yais.YaisError, Exception):
            future.set_result(None)

    def on_requests_done(self, stream):
        on_thread(stream.finish)

    def on_finish(self):
        self.ends.append(self.stream.id)


def _meddle(streams: list, done: threading.Event, seed: int) -> None:
    chance = random.Random(seed)
    while not done.wait(0.0002):
        if not streams:
            continue
        stream = chance.choice(streams[-10:])
        match chance.randrange(40):
            case 0:
                stream.finish(at_once=True)
            case 1:
                stream.fail(yais.Aborted("meddled"))
            case 2:
                stream.cancel()
            case 3:
                stream.finish()
            case lot if lot < 15:
                with stream.hold():
                    time.sleep(0.0005)
            case lot:
                stream.write(b"meddled", timeout=None if lot % 2 else 0.0)


def test_many_threads_at_the_same_streams():
    context = type("Meddled", (_Meddled,), {"streams": [], "ends": []})
    done, over = threading.Event(), time.monotonic() + 2.0
    kinds = [b"write", b"future", b"coroutine"]

    def call(channel: grpc.Channel, seed: int) -> None:
        chance = random.Random(seed)
        method = channel.stream_stream("/tests.Races/Rpc")
        while time.monotonic() < over:
            requests = chance.choices(kinds, k=chance.randrange(8))
            begun = method(iter(requests), timeout=chance.choice([SOON, SOON, 0.01]))
            if chance.random() < 0.3:
                on_thread(begun.cancel)
            outcome(begun)

    with serving(service(Rpc=context), threads=2) as served:
        meddlers = [on_thread(lambda seed=seed: _meddle(context.streams, done, seed)) for seed in range(3)]
        callers = [on_thread(lambda seed=seed: call(served.channel, seed)) for seed in range(4)]
        for thread in callers:
            thread.join(3 * SOON)
        idle(served)
        done.set()
        for thread in meddlers:
            thread.join(SOON)
        assert not any(thread.is_alive() for thread in (*callers, *meddlers))
        statistics = served.server.statistics().methods["/tests.Races/Rpc"]
        assert sorted(context.ends) == sorted(stream.id for stream in context.streams)
        assert len(context.ends) <= statistics.calls  # some were too late for a context
