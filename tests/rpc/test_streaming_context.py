"""Streams that are answered at any time and from anywhere, through their handle."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading

import grpc
import pytest
from echoing import DEADLINE, SOON, eventually, on_thread
from streaming import (
    BOUND,
    LARGE,
    PLENTY,
    RAW,
    SERVICE,
    Log,
    Requests,
    connected,
    ended,
    failed,
    fill,
    service_of,
    streaming,
)

import yais


class Callbacks(yais.StreamingContext):
    def on_request(self, request, stream):
        assert stream.write(request + 1)


class AsyncCallbacks(yais.StreamingContext):
    async def on_request(self, request, stream):
        await asyncio.sleep(0)
        assert await stream.awrite(request + 1)


class FutureCallbacks(yais.StreamingContext):
    def on_request(self, request, stream):
        future = yais.Future()

        def run():
            assert stream.write(request + 1)
            future.set_result(None)

        on_thread(run)
        return future


class AsyncGenerator(yais.StreamingContext):
    async def execute(self, requests):
        async for request in requests:
            yield request + 1


class WritingCoroutine(yais.StreamingContext):
    """The answers are written, and then the handle closes the stream."""

    async def on_open(self, stream):
        self.numbers = []

    async def on_request(self, request, stream):
        self.numbers.append(request)

    async def on_requests_done(self, stream):
        for number in self.numbers:
            assert await stream.awrite(number + 1)
        stream.finish()


FORMS = [Callbacks, AsyncCallbacks, FutureCallbacks, AsyncGenerator, WritingCoroutine]
forms = pytest.mark.parametrize("context", FORMS, ids=lambda context: context.__name__)


@forms
@pytest.mark.parametrize("count", [0, 1, 200])
def test_answers_in_order(context, count):
    with streaming(context) as client:
        assert ended(client.chat(range(count))) == (list(range(1, count + 1)), grpc.StatusCode.OK)


@pytest.mark.parametrize(
    "context", [Callbacks, AsyncCallbacks, FutureCallbacks, AsyncGenerator], ids=lambda each: each.__name__
)
def test_ping_pong(context):
    with streaming(context) as client, Requests() as requests:
        call = client.chat(requests)
        for number in range(100):
            requests.send(number)
            assert next(call) == number + 1
        requests.end()
        assert ended(call) == ([], grpc.StatusCode.OK)


@forms
def test_a_context_is_there_for_the_next_call(context):
    with streaming(context, contexts=1) as client:
        for number in range(20):
            assert list(client.chat([number])) == [number + 1]
        eventually(lambda: client.server.in_flight == 0)


class SumInCoroutine(yais.StreamingContext):
    async def execute(self, requests):
        return sum([request async for request in requests])


class SumOfCallbacks(yais.StreamingContext):
    total = 0

    async def on_request(self, request, stream):
        self.total += request

    async def on_requests_done(self, stream):
        await stream.awrite(self.total)
        stream.finish()


@pytest.mark.parametrize("context", [SumInCoroutine, SumOfCallbacks], ids=lambda each: each.__name__)
def test_one_answer(context):
    with streaming(context, reply_stream=False) as client:
        assert client.up(range(100)).result(SOON) == 4950
        assert client.up([]).result(SOON) == 0


def test_one_answer_before_the_last_request():
    class First(yais.StreamingContext):
        async def execute(self, requests):
            return await anext(requests)

    with streaming(First, reply_stream=False, contexts=1) as client:
        for number in range(3):
            with Requests(number) as requests:
                assert client.up(requests).result(SOON) == number


# The order of things


def test_callbacks_in_order():
    log = Log()

    class Context(yais.StreamingContext):
        def on_start(self):
            log.add("start")

        def on_open(self, stream):
            log.add("open")
            assert stream.connected and stream is self.stream

        def on_request(self, request, stream):
            log.add(request)
            assert stream is self.stream

        def on_requests_done(self, stream):
            log.add("done")
            stream.finish()

        def on_cancel(self):
            log.add("cancel")

        def on_finish(self):
            log.add("finish")

    with streaming(Context) as client:
        assert list(client.chat(range(3))) == []
        log.wait("finish")
    assert log.entries == ["start", "open", 0, 1, 2, "done", "finish"]


def test_callbacks_run_on_the_executors_thread():
    threads = Log()

    def note(self, *_):
        threads.add(threading.current_thread().name)

    names = ("on_start", "on_open", "on_request", "on_requests_done", "on_cancel", "on_finish")
    context = type("Context", (yais.StreamingContext,), dict.fromkeys(names, note))
    with streaming(context) as client:
        call = client.chat([1])
        threads.wait_for_count(4)
        call.cancel()
        threads.wait_for_count(6)
    assert threads.entries == ["yais-rpc-0"] * 6


def test_answers_before_the_first_request():
    class Greeting(yais.StreamingContext):
        def on_open(self, stream):
            stream.write(1)
            stream.write(2)

        def on_request(self, request, stream):
            stream.write(request)

    with streaming(Greeting) as client, Requests() as requests:
        call = client.chat(requests)
        assert [next(call), next(call)] == [1, 2]
        requests.send(3)
        assert next(call) == 3
        requests.end()
        assert ended(call) == ([], grpc.StatusCode.OK)


@pytest.mark.parametrize("form", ["future", "coroutine"])
@pytest.mark.parametrize("place", ["on_open", "on_request"])
def test_the_next_request_is_read_when_the_callback_is_done(place, form):
    log, futures = Log(), []

    class Context(yais.StreamingContext):
        def on_open(self, stream):
            return self.at("on_open", "open")

        def on_request(self, request, stream):
            return self.at("on_request", request)

        def at(self, here, entry):
            log.add(entry)
            if here != place:
                return None
            futures.append(yais.Future())
            return futures[-1] if form == "future" else self.wait_for(futures[-1])

        async def wait_for(self, future):
            await future

    expected = ["open", 0, 1, 2]
    with streaming(Context) as client:
        call = client.chat(range(3))
        for number in range(1 if place == "on_open" else 3):
            length = number + (1 if place == "on_open" else 2)
            log.wait_for_count(length)
            client.pass_by()
            assert log.entries == expected[:length]
            futures[number].set_result(None)
        assert ended(call) == ([], grpc.StatusCode.OK)
    assert log.entries == expected


@pytest.mark.parametrize("form", ["future", "coroutine"])
def test_the_end_waits_for_on_requests_done(form):
    future, log = yais.Future(), Log()

    class Context(yais.StreamingContext):
        def on_request(self, request, stream):
            pass

        def on_requests_done(self, stream):
            stream.finish()
            log.add("done")
            return future if form == "future" else self.wait()

        async def wait(self):
            await future

    with streaming(Context) as client:
        call = client.chat([1])
        log.wait("done")
        client.pass_by()
        assert not call.done()
        future.set_result(None)
        assert ended(call) == ([], grpc.StatusCode.OK)


def test_answers_of_another_kind_than_one_each():
    # Even-odds: one answer for every two requests; and the other way round.
    class Pairs(yais.StreamingContext):
        def on_open(self, stream):
            self.last = None

        def on_request(self, request, stream):
            if self.last is None:
                self.last = request
            else:
                stream.write(self.last + request)
                self.last = None

    class Twice(yais.StreamingContext):
        def on_request(self, request, stream):
            stream.write(request)
            stream.write(-request)

    with connected(service_of(Pairs=Pairs, Twice=Twice)) as client:
        assert list(client.chat([1, 2, 3, 4, 5], rpc="Pairs")) == [3, 7]
        assert list(client.chat([1, 2], rpc="Twice")) == [1, -1, 2, -2]


def test_each_stream_has_a_context_of_its_own():
    class Counting(yais.StreamingContext):
        count = 0

        def on_request(self, request, stream):
            self.count += request
            stream.write(self.count)

    with streaming(Counting) as client, Requests() as ones, Requests() as tens:
        one, ten = client.chat(ones), client.chat(tens)
        for number in range(1, 10):
            ones.send(1)
            tens.send(10)
            assert (next(one), next(ten)) == (number, 10 * number)
        ones.end()
        assert list(one) == []
        assert list(client.chat([5])) == [5]
        tens.send(10)
        assert next(ten) == 100


# The handle


class Handles(yais.StreamingContext):
    """Leaves its handle for the test, and the stream open."""

    handles: Log

    @classmethod
    def fresh(cls, **attributes):
        return type("OwnHandles", (cls,), {"handles": Log()} | attributes)

    def on_open(self, stream):
        self.handles.add(stream)

    def on_request(self, request, stream):
        pass

    def on_requests_done(self, stream):
        self.handles.add("done")

    @classmethod
    def handle(cls):
        cls.handles.wait_for_count(1)
        return cls.handles.entries[0]


def test_a_handle_outlives_the_callbacks():
    context = Handles.fresh()
    with streaming(context) as client:
        call = client.chat([1, 2, 3])
        context.handles.wait("done")
        stream = context.handle()
        gc.collect()
        client.pass_by()
        assert stream.connected and not call.done()
        for number in range(3):
            assert stream.write(number)
            assert next(call) == number
        assert stream.finish()
        assert ended(call) == ([], grpc.StatusCode.OK)
        assert not stream.connected
        assert not stream.write(4) and not stream.finish() and not stream.cancel()
        assert not stream.fail(ValueError())


def test_a_stream_does_not_end_because_nobody_holds_its_handle():
    # Nothing depends on garbage collection.
    class Forgetful(yais.StreamingContext):
        def on_request(self, request, stream):
            pass

        def on_requests_done(self, stream):
            pass

    with streaming(Forgetful) as client:
        call = client.chat([1])
        client.pass_by()
        for _ in range(3):
            gc.collect()
            client.pass_by()
        assert client.server.in_flight == 1
        assert not call.done()
        call.cancel()


def test_a_handle_used_by_many_threads():
    context = Handles.fresh()
    with streaming(context) as client:
        call = client.chat()
        stream = context.handle()
        threads = [
            on_thread(lambda first=first: [stream.write(first + n) for n in range(100)])
            for first in range(0, 1000, 100)
        ]
        answers = [next(call) for _ in range(1000)]
        for thread in threads:
            thread.join(SOON)
        assert sorted(answers) == list(range(1000))
        for first in range(0, 1000, 100):  # those of one thread in order
            own = [answer for answer in answers if answer // 100 * 100 == first]
            assert own == sorted(own)
        stream.finish()
        assert list(call) == []


def test_a_handle_in_the_hands_of_another_rpc():
    context = Handles.fresh()

    class Writing(yais.Context):
        def execute(self, request):
            return int(context.handle().write(request))

    with connected(service_of(Listen=context, Tell=Writing)) as client:
        call = client.chat(rpc="Listen")
        context.handle()
        assert client.one(5, rpc="Tell").result(SOON) == 1
        assert next(call) == 5
        context.handle().finish()
        assert list(call) == []
        assert client.one(6, rpc="Tell").result(SOON) == 0


def test_ids_are_unique():
    ids = Log()

    class Context(yais.StreamingContext):
        def on_open(self, stream):
            ids.add(stream.id)

    with streaming(Context, contexts=1) as client, streaming(Context) as other:
        for _ in range(20):
            list(client.chat([]))
            list(other.chat([]))
    assert len(set(ids.entries)) == 40
    assert all(isinstance(number, int) for number in ids.entries)


def test_repr():
    context = Handles.fresh()
    with streaming(context) as client:
        call = client.chat()
        stream = context.handle()
        assert repr(stream) == f"<Stream {stream.id} of /{SERVICE}/Run: open>"
        stream.finish(at_once=True)
        list(call)
        assert repr(stream) == f"<Stream {stream.id} of /{SERVICE}/Run: closed>"


# Writing without room


@pytest.mark.parametrize("place", ["on_open", "on_request"])
def test_write_on_the_executors_thread_never_waits(place):
    results = Log()

    class Context(yais.StreamingContext):
        max_unsent = 4

        def on_open(self, stream):
            self.at("on_open", stream)

        def on_request(self, request, stream):
            self.at("on_request", stream)

        def at(self, here, stream):
            if here == place:
                results.add([stream.write(number, timeout=SOON) for number in range(8)])
                assert stream.connected

    with streaming(Context) as client:
        assert list(client.chat([0])) == list(range(5))
    assert results.entries == [[True] * 5 + [False] * 3]  # one on its way, four that wait


def test_write_with_a_timeout():
    context = Handles.fresh(max_unsent=2)
    with streaming(context, codec=RAW) as client:
        call = client.chat()
        stream = context.handle()
        taken = fill(lambda _number: stream.write(LARGE, timeout=0.01), client.pass_by)
        assert 3 <= taken < BOUND
        assert not stream.write(LARGE, timeout=0)
        assert stream.connected
        # Nothing was lost by that, and nothing sent that was not taken.
        stream.finish(at_once=True)
        assert ended(call) == ([LARGE] * taken, grpc.StatusCode.OK)


def test_write_waits_for_room():
    context, results = Handles.fresh(), Log()
    with streaming(context, codec=RAW) as client:
        call = client.chat()
        stream = context.handle()
        thread = on_thread(lambda: [results.add(stream.write(LARGE)) for _ in range(PLENTY)])
        assert next(call) == LARGE
        assert client.at_rest(results.__len__) < BOUND
        for _ in range(PLENTY - 1):
            assert next(call) == LARGE
        thread.join(SOON)
        assert results.entries == [True] * PLENTY
        stream.finish(at_once=True)
        assert list(call) == []


def test_writers_with_and_without_a_timeout_for_the_same_room():
    # The room that a writer was told of when it had given up is another one's.
    context, results = Handles.fresh(max_unsent=1), Log()
    with streaming(context, codec=RAW) as client:
        call = client.chat()
        stream = context.handle()
        while stream.write(LARGE, timeout=0):
            pass
        threads = [on_thread(lambda: results.add(stream.write(LARGE, timeout=None))) for _ in range(3)]
        threads += [on_thread(lambda: stream.write(LARGE, timeout=0.01)) for _ in range(3)]
        for thread in threads[3:]:
            thread.join(SOON)
        reading = on_thread(lambda: list(call))
        results.wait_for_count(3)
        assert results.entries == [True] * 3
        stream.finish(at_once=True)
        reading.join(SOON)


@pytest.mark.parametrize("end", ["cancel", "finish", "stream cancel", "fail"])
def test_the_end_wakes_who_waits_for_room(end):
    context, results = Handles.fresh(), Log()
    with streaming(context, codec=RAW) as client:
        call = client.chat()
        stream = context.handle()

        def write():
            while stream.write(LARGE):
                results.add(True)
            results.add(False)

        on_thread(write)
        client.at_rest(results.__len__)
        assert False not in results.entries
        match end:
            case "cancel":
                call.cancel()
            case "finish":
                assert stream.finish()
            case "stream cancel":
                assert stream.cancel()
            case "fail":
                assert stream.fail(yais.NotFound("enough"))
        results.wait(False)
        assert not stream.connected
        call.cancel()


def test_an_answer_that_cannot_be_encoded_is_the_writers_fault():
    context = Handles.fresh()
    with streaming(context) as client:
        call = client.chat()
        stream = context.handle()
        with pytest.raises(yais.Internal, match="cannot encode the reply: TypeError"):
            stream.write("five")
        assert stream.connected  # and nobody else's
        assert stream.write(5)
        assert stream.finish(at_once=True)
        assert ended(call) == ([5], grpc.StatusCode.OK)


# Callers that do not read, servers that do not consume


@pytest.mark.parametrize("form", ["callbacks", "async callbacks", "async generator"])
def test_a_caller_that_does_not_read_is_not_read(form):
    # Each answer has room when its request is delivered: no callback has to heed `write` here.
    received = Log()

    class Echo(yais.StreamingContext):
        def on_request(self, request, stream):
            received.add(stream.write(request))

    class AsyncEcho(yais.StreamingContext):
        async def on_request(self, request, stream):
            received.add(await stream.awrite(request))

    class GeneratorEcho(yais.StreamingContext):
        async def execute(self, requests):
            async for request in requests:
                received.add(True)
                yield request

    context = {"callbacks": Echo, "async callbacks": AsyncEcho, "async generator": GeneratorEcho}[form]
    sent = Log()

    def requests():
        for number in range(PLENTY):
            sent.add(number)
            yield LARGE

    with streaming(context, codec=RAW) as client:
        call = client.chat(requests())
        assert next(call) == LARGE
        assert client.at_rest(received.__len__) < BOUND
        assert client.at_rest(sent.__len__) < 2 * BOUND
        assert ended(call) == ([LARGE] * (PLENTY - 1), grpc.StatusCode.OK)
    assert received.entries == [True] * PLENTY


@pytest.mark.parametrize("form", ["future", "coroutine", "async generator"])
def test_a_server_that_does_not_consume_stops_the_caller(form):
    sent, received, future = Log(), Log(), yais.Future()

    class Slow(yais.StreamingContext):
        def on_request(self, request, stream):
            received.add(None)
            return future if form == "future" else self.wait()

        async def wait(self):
            await future

    class SlowGenerator(yais.StreamingContext):
        async def execute(self, requests):
            async for _ in requests:
                received.add(None)
                await future
            yield b"done"

    def requests():
        for number in range(PLENTY):
            sent.add(number)
            yield LARGE

    with streaming(SlowGenerator if form == "async generator" else Slow, codec=RAW) as client:
        call = client.chat(requests())
        received.wait_for_count(1)
        assert 1 <= client.at_rest(sent.__len__) < BOUND
        assert len(received) == 1
        future.set_result(None)
        assert ended(call)[1] is grpc.StatusCode.OK
    assert len(received) == PLENTY


# Early ends


def early(end):
    """Answer five requests and then end the stream in some way."""

    class Early(yais.StreamingContext):
        log = Log()

        def on_request(self, request, stream):
            self.log.add(request)
            if len(self.log) <= 5:
                stream.write(request)
            elif len(self.log) == 6:
                end(stream)
            else:
                assert not stream.write(request) and not stream.connected

        def on_requests_done(self, stream):
            self.log.add("done")

        def on_cancel(self):
            self.log.add(("on_cancel", self.cancelled))

        def on_finish(self):
            self.log.add("on_finish")

    return Early


def test_early_finish():
    # The server still gets all ten requests, and its end goes to the caller only then.
    context = early(lambda stream: stream.finish())
    with streaming(context) as client, Requests(*range(9)) as requests:
        call = client.chat(requests)
        assert [next(call) for _ in range(5)] == list(range(5))
        context.log.wait(8)
        client.pass_by()
        assert not call.done()
        requests.send(9)
        requests.end()
        assert ended(call) == ([], grpc.StatusCode.OK)
        context.log.wait("on_finish")
    assert context.log.entries == [*range(10), "done", "on_finish"]


def test_early_finish_all_at_once():
    context = early(lambda stream: stream.finish())
    with streaming(context) as client:
        assert ended(client.chat(range(10))) == (list(range(5)), grpc.StatusCode.OK)
        context.log.wait("on_finish")
    assert context.log.entries == [*range(10), "done", "on_finish"]


def test_early_finish_at_once():
    context = early(lambda stream: stream.finish(at_once=True))
    with streaming(context) as client, Requests(*range(9)) as requests:
        assert ended(client.chat(requests)) == (list(range(5)), grpc.StatusCode.OK)
        context.log.wait("on_finish")
    assert context.log.entries == [*range(6), "on_finish"]


def test_early_cancel():
    def cancel(stream):
        assert stream.cancel()
        assert not stream.connected and not stream.cancel() and not stream.finish()

    context = early(cancel)
    with streaming(context) as client:
        answers, code = ended(client.chat(range(10)))
        assert code is grpc.StatusCode.CANCELLED
        assert answers == list(range(len(answers)))  # what was not sent yet is dropped
        context.log.wait("on_finish")
    # No request after the sixth, no `on_requests_done`.
    assert context.log.entries == [*range(6), ("on_cancel", True), "on_finish"]


def test_early_cancel_after_the_answers_were_read():
    context = early(lambda stream: stream.cancel())
    with streaming(context) as client, Requests() as requests:
        call = client.chat(requests)
        for number in range(5):
            requests.send(number)
            assert next(call) == number
        for number in range(5, 10):
            requests.send(number)
        requests.end()
        assert ended(call) == ([], grpc.StatusCode.CANCELLED)
        context.log.wait("on_finish")
    assert context.log.entries == [*range(6), ("on_cancel", True), "on_finish"]


def test_early_fail():
    def fail(stream):
        assert stream.fail(yais.OutOfRange("five is enough"))
        assert not stream.fail(yais.NotFound("or not"))

    context = early(fail)
    with streaming(context) as client, Requests(*range(9)) as requests:
        call = client.chat(requests)
        assert ended(call) == (list(range(5)), grpc.StatusCode.OUT_OF_RANGE)
        assert call.details() in {"five is enough", "or not"}
        context.log.wait("on_finish")
    assert context.log.entries == [*range(6), "on_finish"]


@pytest.mark.parametrize("at_once", [False, True])
def test_a_stream_is_finished_once(at_once):
    context = Handles.fresh()
    with streaming(context) as client:
        call = client.chat([])
        context.handles.wait("done")
        stream = context.handle()
        assert stream.write(1)
        assert stream.finish(at_once=at_once)
        assert not stream.finish(at_once=at_once)
        assert not stream.write(2)
        assert ended(call) == ([1], grpc.StatusCode.OK)


def test_a_finished_stream_can_be_finished_at_once():
    # As long as the caller has not sent its last request, the end has not happened.
    context = Handles.fresh()
    with streaming(context) as client, Requests(1) as requests:
        call = client.chat(requests)
        stream = context.handle()
        assert stream.finish()
        client.pass_by()
        assert not call.done()
        assert not stream.finish(at_once=True)  # It had an end already.
        assert ended(call) == ([], grpc.StatusCode.OK)


@pytest.mark.parametrize("at_once", [False, True])
def test_hold(at_once):
    context = Handles.fresh()
    with streaming(context) as client:
        call = client.chat([])
        context.handles.wait("done")
        stream = context.handle()
        with stream.hold():
            assert stream.write(1)
            with stream.hold():
                assert stream.finish(at_once=at_once)
                assert not stream.write(2)
            assert next(call) == 1
            client.pass_by()
            assert not call.done()
        assert ended(call) == ([], grpc.StatusCode.OK)


def test_what_arrives_after_the_end_at_once_is_dropped():
    context = Handles.fresh(on_request=lambda self, request, stream: self.handles.add(request))
    with streaming(context) as client, Requests(1) as requests:
        call = client.chat(requests)
        context.handles.wait(1)
        stream = context.handle()
        with stream.hold():
            stream.finish(at_once=True)
            for _ in range(3):
                requests.send(2)
            requests.end()
            client.pass_by()
            client.pass_by()
        assert ended(call) == ([], grpc.StatusCode.OK)
        eventually(lambda: client.server.in_flight == 0)
    assert context.handles.entries == [stream, 1]


def test_hold_of_what_ends_by_itself():
    # The default `on_requests_done` finishes; a thread that holds has not said all yet.
    go_on, held = threading.Event(), threading.Event()

    class Context(yais.StreamingContext):
        def on_request(self, request, stream):
            def run():
                with stream.hold():
                    held.set()
                    assert go_on.wait(SOON)

            on_thread(run)
            assert held.wait(SOON)

    with streaming(Context) as client:
        call = client.chat([1])
        client.pass_by()
        client.pass_by()
        assert not call.done()
        go_on.set()
        assert ended(call) == ([], grpc.StatusCode.OK)


def test_hold_keeps_the_context_of_a_call_that_is_gone():
    context = Handles.fresh()
    with streaming(context, contexts=1) as client:
        call = client.chat([1])
        stream = context.handle()
        with stream.hold():
            call.cancel()
            eventually(lambda: not stream.connected)
            client.pass_by()
            assert client.server.in_flight == 1
        eventually(lambda: client.server.in_flight == 0)


# Callers that go away


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_callbacks_learn_that_the_caller_has_gone(how):
    log = Log()

    class Context(yais.StreamingContext):
        def on_open(self, stream):
            log.add(("open", self.cancelled, stream.connected))

        def on_request(self, request, stream):
            log.add(request)

        def on_requests_done(self, stream):
            """Nothing: gRPC may tell first that there are no more requests, and then why."""

        def on_cancel(self):
            log.add(("on_cancel", self.cancelled, self.stream.connected))

        def on_finish(self):
            log.add("on_finish")

    with streaming(Context) as client, Requests(1, 2) as requests:
        call = client.chat(requests, timeout=DEADLINE if how == "deadline" else SOON)
        log.wait(2)
        if how == "cancel":
            call.cancel()
        log.wait("on_finish")
        expected = grpc.StatusCode.CANCELLED if how == "cancel" else grpc.StatusCode.DEADLINE_EXCEEDED
        assert ended(call) == ([], expected)
        eventually(lambda: client.server.in_flight == 0)
    assert log.entries == [("open", False, True), 1, 2, ("on_cancel", True, False), "on_finish"]


@pytest.mark.parametrize("how", ["cancel", "deadline"])
@pytest.mark.parametrize("place", ["on_open", "on_request", "on_requests_done", "next", "yield", "one"])
def test_cancellation_reaches_a_coroutine(place, how):
    log = Log()

    class Context(yais.StreamingContext):
        def on_finish(self):
            log.add("on_finish")

        async def wait(self, waited):
            log.add("waits")
            try:
                await waited
            except asyncio.CancelledError:
                log.add(("CancelledError", self.cancelled))
                raise

    class InCallbacks(Context):
        async def on_open(self, stream):
            if place == "on_open":
                await self.wait(asyncio.sleep(60))

        async def on_request(self, request, stream):
            if place == "on_request":
                await self.wait(asyncio.sleep(60))

        async def on_requests_done(self, stream):
            await self.wait(asyncio.sleep(60))

    class InNext(Context):
        async def execute(self, requests):
            await self.wait(self.all(requests))
            yield 1

        async def all(self, requests):
            async for _ in requests:
                pass
            await asyncio.sleep(60)  # gRPC may tell first that there are no more requests, then why

    class InYield(Context):
        async def execute(self, requests):
            yield 1
            await self.wait(asyncio.sleep(60))

    class InOne(Context):
        async def execute(self, requests):
            await self.wait(asyncio.sleep(60))
            return 1

    context = {"next": InNext, "yield": InYield, "one": InOne}.get(place, InCallbacks)
    with streaming(context, reply_stream=place != "one", contexts=1) as client, Requests(1) as requests:
        if place == "on_requests_done":
            requests.end()
        begin = client.up if place == "one" else client.chat
        call = begin(requests, timeout=DEADLINE if how == "deadline" else SOON)
        log.wait("waits")
        if how == "cancel":
            call.cancel()
        log.wait(("CancelledError", True), "on_finish")
        expected = grpc.StatusCode.CANCELLED if how == "cancel" else grpc.StatusCode.DEADLINE_EXCEEDED
        eventually(lambda: call.code() is expected)
        eventually(lambda: client.server.in_flight == 0)
    assert log.entries == ["waits", ("CancelledError", True), "on_finish"]


def test_an_async_generator_that_waits_for_room_is_closed():
    log = Log()

    class Context(yais.StreamingContext):
        async def execute(self, requests):
            try:
                while True:
                    log.add("answer")
                    yield LARGE
            finally:
                log.add("closed")

    with streaming(Context, codec=RAW) as client:
        call = client.chat()
        assert next(call) == LARGE
        client.at_rest(log.__len__)
        assert "closed" not in log
        call.cancel()
        log.wait("closed")
        eventually(lambda: client.server.in_flight == 0)


def test_cancellation_reaches_a_future():
    log, future = Log(), yais.Future()

    class Context(yais.StreamingContext):
        def on_request(self, request, stream):
            log.add(request)
            return future

    with streaming(Context) as client:
        call = client.chat([1])
        log.wait(1)
        call.cancel()
        eventually(future.cancelled)
        eventually(lambda: client.server.in_flight == 0)


def test_an_async_generator_may_return_before_the_last_request():
    class First(yais.StreamingContext):
        async def execute(self, requests):
            yield await anext(requests)

    with streaming(First, contexts=1) as client:
        for number in range(3):
            with Requests(number, 0, 0) as requests:
                assert ended(client.chat(requests)) == ([number], grpc.StatusCode.OK)


def test_requests_stay_at_their_end():
    class Context(yais.StreamingContext):
        async def execute(self, requests):
            first = [request async for request in requests]
            second = [request async for request in requests]
            yield len(first)
            yield len(second)

    with streaming(Context) as client:
        assert list(client.chat([1, 2])) == [2, 0]


# Errors


@pytest.mark.parametrize("form", ["sync", "future", "coroutine"])
@pytest.mark.parametrize("place", ["on_start", "on_open", "on_request", "on_requests_done"])
def test_what_a_callback_raises_is_the_status(place, form, caplog):
    log = Log()

    def at(here, context):
        number = int(context.metadata["number"])
        error = yais.NotFound(f"in {place}") if number == 1 else KeyError("x")
        if here != place or number == 0:
            return None
        if form == "sync" or here == "on_start":
            raise error
        future = yais.Future()
        if form == "future":
            on_thread(lambda: future.set_exception(error))
            return future

        async def coroutine():
            await asyncio.sleep(0)
            raise error

        return coroutine()

    class Context(yais.StreamingContext):
        def on_start(self):
            at("on_start", self)

        def on_open(self, stream):
            stream.write(0)
            return at("on_open", self)

        def on_request(self, request, stream):
            log.add(request)
            stream.write(request)
            return at("on_request", self)

        def on_requests_done(self, stream):
            answer = at("on_requests_done", self)
            if answer is None:
                stream.finish()
            return answer

    before = {"on_start": [], "on_open": [0], "on_request": [0, 1], "on_requests_done": [0, 1]}[place]
    with streaming(Context, contexts=2) as client, Requests(7) as requests:
        other = client.chat(requests, metadata=[("number", "0")])
        log.wait(7)
        for _ in range(3):  # and the context is given back
            call = client.chat([1], metadata=[("number", "1")])
            assert ended(call) == (before, grpc.StatusCode.NOT_FOUND)
            assert call.details() == f"in {place}"
        assert not caplog.records
        assert failed(client.chat([1], metadata=[("number", "2")])) == (
            grpc.StatusCode.UNKNOWN,
            "KeyError: 'x'",
        )
        requests.send(8)
        requests.end()
        assert ended(other) == ([0, 7, 8], grpc.StatusCode.OK)
    assert [str(record.exc_info[1]) for record in caplog.records] == ["'x'"]


@pytest.mark.parametrize("reply_stream", [True, False])
@pytest.mark.parametrize("error", [yais.NotFound("x"), KeyError("x")], ids=["own", "foreign"])
def test_what_execute_raises_is_the_status(error, reply_stream, caplog):
    class Generator(yais.StreamingContext):
        async def execute(self, requests):
            yield await anext(requests)
            raise error

    class Coroutine(yais.StreamingContext):
        async def execute(self, requests):
            await anext(requests)
            raise error

    expected = grpc.StatusCode.NOT_FOUND if isinstance(error, yais.NotFound) else grpc.StatusCode.UNKNOWN
    context = Generator if reply_stream else Coroutine
    with streaming(context, reply_stream=reply_stream, contexts=1) as client:
        for _ in range(2):
            with Requests(5) as requests:
                assert ended(client.chat(requests)) == ([5] if reply_stream else [], expected)
    assert len(caplog.records) == (0 if isinstance(error, yais.NotFound) else 2)


@pytest.mark.parametrize("hook", ["on_finish", "on_cancel"])
def test_a_hook_that_raises_is_logged(hook, caplog):
    error, called = ValueError("odd"), Log()

    def raises(self):
        called.add(hook)
        raise error

    class Context(yais.StreamingContext):
        def on_request(self, request, stream):
            stream.write(request)

    setattr(Context, hook, raises)
    with streaming(Context, contexts=1) as client, Requests(1) as requests:
        call = client.chat(requests)
        assert next(call) == 1
        if hook == "on_cancel":
            call.cancel()
        else:
            requests.end()
            assert ended(call) == ([], grpc.StatusCode.OK)
        called.wait(hook)
        eventually(lambda: client.server.in_flight == 0)
        assert list(client.chat([2] * (hook == "on_cancel"))) == [2] * (hook == "on_cancel")
        eventually(lambda: client.server.in_flight == 0)
    assert {record.exc_info[1] for record in caplog.records} == {error}


def test_neither_callbacks_nor_execute():
    class Context(yais.StreamingContext):
        pass

    with streaming(Context) as client:
        code, details = failed(client.chat([1]))
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert "Context has neither an on_request nor an execute method" in details


def test_an_execute_that_is_not_asynchronous():
    class Context(yais.StreamingContext):
        def execute(self, requests):
            return [1, 2]

    with streaming(Context) as client:
        code, details = failed(client.chat([1]))
    assert code is grpc.StatusCode.UNKNOWN
    assert "execute returned list, expected an asynchronous generator" in details


# Metadata and compression


def test_metadata():
    class Context(yais.StreamingContext):
        def on_open(self, stream):
            self.initial_metadata.append(("first", self.metadata["text"]))

        def on_request(self, request, stream):
            self.initial_metadata.append(("second-bin", bytes([request])))
            stream.write(request)

        def on_requests_done(self, stream):
            self.trailing_metadata.append(("last", "2"))
            stream.finish()

    with streaming(Context) as client:
        call = client.chat([7], metadata=[("text", "hello")])
        assert list(call) == [7]
        assert dict(call.initial_metadata()) == {"first": "hello", "second-bin": b"\x07"}
        assert dict(call.trailing_metadata()) == {"last": "2"}


@pytest.mark.parametrize("form", ["callbacks", "async callbacks", "async generator"])
def test_initial_metadata_that_cannot_be_sent(form):
    class Bad(yais.StreamingContext):
        def on_start(self):
            self.initial_metadata.append(("Bad Key", "1"))

    class Sync(Bad):
        def on_request(self, request, stream):
            stream.write(request)

    class Async(Bad):
        async def on_request(self, request, stream):
            await stream.awrite(request)

    class Generator(Bad):
        async def execute(self, requests):
            async for request in requests:
                yield request

    context = {"callbacks": Sync, "async callbacks": Async, "async generator": Generator}[form]
    with streaming(context, contexts=1) as client:
        for _ in range(2):
            code, details = failed(client.chat([1, 2]))
            assert code is grpc.StatusCode.INTERNAL
            assert "initial metadata" in details and "Bad Key" in details


def test_compression():
    class Context(yais.StreamingContext):
        def on_open(self, stream):
            self.compression = "gzip"

        def on_request(self, request, stream):
            stream.write(request, compress=request != b"as it is")

    with streaming(Context, codec=RAW) as client:
        assert list(client.chat([LARGE, b"as it is"])) == [LARGE, b"as it is"]
        as_sent = [("grpc.per_message_decompression", 0)]
        with grpc.insecure_channel(f"127.0.0.1:{client.server.port}", options=as_sent) as channel:
            method = channel.stream_stream(f"/{SERVICE}/Run")
            first, second = method(iter([LARGE, b"as it is"]), timeout=SOON)
    assert first.startswith(b"\x1f\x8b") and len(first) < 1000
    assert second == b"as it is"


# The server stops


@pytest.mark.usefixtures("unhurried")
def test_a_handle_left_open_is_closed_when_the_server_stops(caplog):
    context = Handles.fresh()
    with streaming(context) as client:
        calls = [client.chat([1]), client.chat([2])]
        context.handles.wait("done")
        context.handles.wait_for_count(4)
        assert client.server.stop(grace=0.1)
        for call in calls:
            assert failed(call) == (grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
        assert not context.handle().connected
        assert not context.handle().write(1)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "2 streams were left open" in record.message and "UNAVAILABLE" in record.message


@pytest.mark.usefixtures("unhurried")
def test_what_was_written_before_the_server_stops_arrives(caplog):
    context = Handles.fresh()
    with streaming(context) as client:
        call = client.chat([])
        context.handles.wait("done")
        for number in range(5):
            assert context.handle().write(number)
        assert client.server.stop(grace=0)
        assert ended(call) == (list(range(5)), grpc.StatusCode.UNAVAILABLE)


def test_on_drain_finishes_the_streams(caplog):
    class Draining(yais.StreamingContext):
        def on_request(self, request, stream):
            stream.write(request)

        def on_drain(self):
            assert self.stream.write(-1)
            assert self.stream.finish(at_once=True)

    with streaming(Draining) as client, Requests(1) as first, Requests(2) as second:
        calls = [client.chat(first), client.chat(second)]
        assert [next(call) for call in calls] == [1, 2]
        assert client.server.stop(grace=SOON)
        for call in calls:
            assert ended(call) == ([-1], grpc.StatusCode.OK)
    assert not caplog.records


def test_streams_may_end_within_the_grace():
    # Requests are served while the server drains.
    stopping, stopped = threading.Event(), Log()

    class Context(yais.StreamingContext):
        def on_request(self, request, stream):
            stream.write(request)

        def on_drain(self):
            stopping.set()

    with streaming(Context) as client, Requests(1) as requests:
        call = client.chat(requests)
        assert next(call) == 1
        on_thread(lambda: stopped.add(client.server.stop(grace=SOON)))
        assert stopping.wait(SOON)
        requests.send(2)
        assert next(call) == 2
        assert not stopped.entries
        requests.end()
        assert ended(call) == ([], grpc.StatusCode.OK)
        stopped.wait(True)


def test_an_on_drain_that_raises_is_logged(caplog):
    class Context(yais.StreamingContext):
        def on_request(self, request, stream):
            stream.write(request)

        def on_drain(self):
            self.stream.finish(at_once=True)
            raise ValueError("odd")

    with streaming(Context) as client, Requests(1) as requests:
        call = client.chat(requests)
        assert next(call) == 1
        assert client.server.stop(grace=SOON)
        assert ended(call) == ([], grpc.StatusCode.OK)
    [record] = caplog.records
    assert str(record.exc_info[1]) == "odd"


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("form", ["coroutine", "async generator"])
def test_the_end_of_the_server_cancels_coroutines(form):
    log = Log()

    class InCallback(yais.StreamingContext):
        async def on_request(self, request, stream):
            await self.wait()

        async def wait(self):
            log.add("waits")
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                log.add("CancelledError")
                raise

    class Generator(InCallback):
        async def execute(self, requests):
            await self.wait()
            yield 1

    context = Generator if form == "async generator" else InCallback
    with streaming(context) as client, Requests(1) as requests:
        call = client.chat(requests)
        log.wait("waits")
        assert client.server.stop(grace=0.05)
        assert failed(call) == (grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
    assert log.entries == ["waits", "CancelledError"]
