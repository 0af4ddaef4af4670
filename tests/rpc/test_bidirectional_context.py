"""Streams with one answer to each request, one at a time, and state of their own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading

import grpc
import pytest
from echoing import DEADLINE, SOON, eventually, on_thread
from streaming import BOUND, LARGE, PLENTY, RAW, SERVICE, Log, Requests, ended, failed, streaming

import yais


class Sum(yais.BidirectionalContext):
    """The state is the sum so far."""

    total = 0

    def add(self, request):
        self.total += request
        return self.total

    def execute(self, request):
        return self.add(request)


class SumInFuture(Sum):
    def execute(self, request):
        future = yais.Future()
        on_thread(lambda: future.set_result(self.add(request)))
        return future


class SumInStandardFuture(Sum):
    def execute(self, request):
        future = concurrent.futures.Future()
        on_thread(lambda: future.set_result(self.add(request)))
        return future


class SumInDoneFuture(Sum):
    def execute(self, request):
        future = yais.Future()
        future.set_result(self.add(request))
        return future


class SumInCoroutine(Sum):
    async def execute(self, request):
        await asyncio.sleep(0)
        return self.add(request)


FORMS = [Sum, SumInFuture, SumInStandardFuture, SumInDoneFuture, SumInCoroutine]
forms = pytest.mark.parametrize("context", FORMS, ids=lambda context: context.__name__)


def sums(count):
    return [sum(range(number + 1)) for number in range(count)]


@forms
@pytest.mark.parametrize("count", [0, 1, 200])
def test_one_answer_each_in_order(context, count):
    with streaming(context) as client:
        assert ended(client.chat(range(count))) == (sums(count), grpc.StatusCode.OK)


@forms
def test_ping_pong(context):
    with streaming(context) as client, Requests() as requests:
        call = client.chat(requests)
        for number, total in enumerate(sums(100)):
            requests.send(number)
            assert next(call) == total
        requests.end()
        assert ended(call) == ([], grpc.StatusCode.OK)


@forms
def test_each_stream_has_a_state_of_its_own(context):
    with streaming(context, contexts=2) as client, Requests() as ones, Requests() as tens:
        one, ten = client.chat(ones), client.chat(tens)
        for number in range(1, 10):
            ones.send(1)
            tens.send(10)
            assert (next(one), next(ten)) == (number, 10 * number)
        ones.end()
        assert list(one) == []
        for _ in range(3):
            assert list(client.chat([5, 5])) == [5, 10]
        tens.send(10)
        assert next(ten) == 100


@pytest.mark.parametrize("form", ["future", "coroutine"])
def test_one_request_at_a_time(form):
    log, futures = Log(), []

    class Context(yais.BidirectionalContext):
        def execute(self, request):
            futures.append(yais.Future())
            log.add(request)
            return futures[-1] if form == "future" else self.wait_for(futures[-1])

        async def wait_for(self, future):
            return await future

    with streaming(Context) as client:
        call = client.chat(range(4))
        for number in range(4):
            log.wait(number)
            client.pass_by()
            assert log.entries == list(range(number + 1))
            futures[number].set_result(10 * number)
            assert next(call) == 10 * number
        assert ended(call) == ([], grpc.StatusCode.OK)


def test_callbacks_in_order():
    log = Log()

    class Context(yais.BidirectionalContext):
        def on_start(self):
            log.add("start")

        def execute(self, request):
            log.add(request)
            return request

        def on_requests_done(self):
            log.add("done")

        def on_cancel(self):
            log.add("cancel")

        def on_finish(self):
            log.add("finish")

    with streaming(Context) as client:
        assert list(client.chat(range(3))) == [0, 1, 2]
        log.wait("finish")
    assert log.entries == ["start", 0, 1, 2, "done", "finish"]


@pytest.mark.parametrize("form", ["future", "coroutine"])
def test_the_end_waits_for_on_requests_done(form):
    future, log = yais.Future(), Log()

    class Context(Sum):
        def on_requests_done(self):
            log.add("done")
            return future if form == "future" else self.wait()

        async def wait(self):
            await future
            self.trailing_metadata.append(("total", str(self.total)))

    with streaming(Context) as client:
        call = client.chat([1, 2])
        log.wait("done")
        assert [next(call), next(call)] == [1, 3]
        client.pass_by()
        assert not call.done()
        future.set_result(None)
        assert ended(call) == ([], grpc.StatusCode.OK)
        assert dict(call.trailing_metadata()) == ({"total": "3"} if form == "coroutine" else {})


@pytest.mark.parametrize("form", ["sync", "future", "coroutine"])
def test_finish(form):
    log = Log()

    class Context(yais.BidirectionalContext):
        def execute(self, request):
            log.add(request)
            if form == "coroutine":
                return self.coroutine(request)
            if request == 5:
                self.finish()
            if form == "sync":
                return request
            future = yais.Future()
            on_thread(lambda: future.set_result(request))
            return future

        async def coroutine(self, request):
            await asyncio.sleep(0)
            if request == 5:
                self.finish()
            return request

        def on_requests_done(self):
            log.add("done")

        def on_finish(self):
            log.add("finish")

    with streaming(Context, contexts=1) as client:
        for _ in range(3):
            log.entries.clear()
            with Requests(*range(10)) as requests:  # and would send more
                assert ended(client.chat(requests)) == (list(range(6)), grpc.StatusCode.OK)
            log.wait("finish")
            assert log.entries == [*range(6), "finish"]


# Callers that do not read, servers that do not consume


@pytest.mark.parametrize("form", ["sync", "coroutine"])
def test_a_caller_that_does_not_read_is_not_read(form):
    received, sent = Log(), Log()

    class Echo(yais.BidirectionalContext):
        def execute(self, request):
            received.add(None)
            return request

    class AsyncEcho(yais.BidirectionalContext):
        async def execute(self, request):
            received.add(None)
            return request

    def requests():
        for number in range(PLENTY):
            sent.add(number)
            yield LARGE

    with streaming(Echo if form == "sync" else AsyncEcho, codec=RAW) as client:
        call = client.chat(requests())
        assert next(call) == LARGE
        assert client.at_rest(received.__len__) < BOUND
        assert client.at_rest(sent.__len__) < BOUND
        assert ended(call) == ([LARGE] * (PLENTY - 1), grpc.StatusCode.OK)


@pytest.mark.parametrize("form", ["future", "coroutine"])
def test_a_server_that_does_not_consume_stops_the_caller(form):
    sent, received, future = Log(), Log(), yais.Future()

    class Slow(yais.BidirectionalContext):
        def execute(self, request):
            received.add(None)
            return future if form == "future" else self.wait()

        async def wait(self):
            return await future

    def requests():
        for number in range(PLENTY):
            sent.add(number)
            yield LARGE

    with streaming(Slow, codec=RAW) as client:
        call = client.chat(requests())
        received.wait_for_count(1)
        assert 1 <= client.at_rest(sent.__len__) < BOUND
        assert len(received) == 1
        future.set_result(b"now")
        assert ended(call) == ([b"now"] * PLENTY, grpc.StatusCode.OK)


# Callers that go away


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_the_caller_goes_away_between_requests(how):
    log = Log()

    class Context(Sum):
        def on_cancel(self):
            log.add(("on_cancel", self.cancelled))

        def on_finish(self):
            log.add("finish")

    with streaming(Context, contexts=1) as client, Requests(1) as requests:
        call = client.chat(requests, timeout=DEADLINE if how == "deadline" else SOON)
        assert next(call) == 1
        if how == "cancel":
            call.cancel()
        log.wait("finish")
        expected = grpc.StatusCode.CANCELLED if how == "cancel" else grpc.StatusCode.DEADLINE_EXCEEDED
        assert ended(call) == ([], expected)
        eventually(lambda: client.server.in_flight == 0)
        assert log.entries == [("on_cancel", True), "finish"]
        assert list(client.chat([2])) == [2]


@pytest.mark.parametrize("how", ["cancel", "deadline"])
@pytest.mark.parametrize("place", ["execute", "on_requests_done"])
def test_cancellation_reaches_a_coroutine(place, how):
    log = Log()

    class Context(yais.BidirectionalContext):
        async def execute(self, request):
            if place == "execute":
                await self.wait()
            return request

        async def on_requests_done(self):
            await self.wait()

        async def wait(self):
            log.add("waits")
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                log.add(("CancelledError", self.cancelled))
                raise

        def on_finish(self):
            log.add("finish")

    with streaming(Context, contexts=1) as client:
        call = client.chat([1], timeout=DEADLINE if how == "deadline" else SOON)
        log.wait("waits")
        if how == "cancel":
            call.cancel()
        log.wait(("CancelledError", True), "finish")
        assert log.entries == ["waits", ("CancelledError", True), "finish"]
        eventually(lambda: client.server.in_flight == 0)


def test_cancellation_reaches_a_future():
    log, future = Log(), yais.Future()

    class Context(yais.BidirectionalContext):
        def execute(self, request):
            log.add(request)
            return future

    with streaming(Context, contexts=1) as client:
        call = client.chat([1])
        log.wait(1)
        call.cancel()
        eventually(future.cancelled)
        eventually(lambda: client.server.in_flight == 0)


def test_work_that_cannot_be_cancelled_keeps_its_context():
    log, future = Log(), yais.Future()
    future.set_running_or_notify_cancel()

    class Context(yais.BidirectionalContext):
        def execute(self, request):
            log.add(request)
            return future

        def on_cancel(self):
            log.add("on_cancel")

        def on_requests_done(self):
            log.add("done")

    with streaming(Context, contexts=1) as client:
        call = client.chat([1, 2, 3])
        log.wait(1)
        call.cancel()
        log.wait("on_cancel")
        client.pass_by()
        assert client.server.in_flight == 1
        future.set_result(5)
        eventually(lambda: client.server.in_flight == 0)
    assert log.entries == [1, "on_cancel"]  # nothing begins after that


# Errors


@pytest.mark.parametrize("form", ["sync", "future", "coroutine"])
@pytest.mark.parametrize("place", ["on_start", "execute", "on_requests_done"])
def test_what_is_raised_is_the_status(place, form, caplog):
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

    class Context(yais.BidirectionalContext):
        def on_start(self):
            at("on_start", self)

        def execute(self, request):
            log.add(request)
            answer = at("execute", self) if request == 2 else None
            return request if answer is None else answer

        def on_requests_done(self):
            return at("on_requests_done", self)

    before = {"on_start": [], "execute": [1], "on_requests_done": [1, 2]}[place]
    with streaming(Context, contexts=2) as client, Requests(7) as requests:
        other = client.chat(requests, metadata=[("number", "0")])
        log.wait(7)
        for _ in range(3):  # and the context is given back
            call = client.chat([1, 2], metadata=[("number", "1")])
            assert ended(call) == (before, grpc.StatusCode.NOT_FOUND)
            assert call.details() == f"in {place}"
        assert not caplog.records
        call = client.chat([1, 2], metadata=[("number", "2")])
        assert failed(call) == (grpc.StatusCode.UNKNOWN, "KeyError: 'x'")
        requests.send(8)
        requests.end()
        assert ended(other) == ([7, 8], grpc.StatusCode.OK)
    assert [str(record.exc_info[1]) for record in caplog.records] == ["'x'"]


def test_an_error_ends_the_call_before_the_caller_has_sent_all():
    class Context(yais.BidirectionalContext):
        def execute(self, request):
            raise yais.InvalidArgument("at once")

    with streaming(Context) as client, Requests(1) as requests:
        assert failed(client.chat(requests)) == (grpc.StatusCode.INVALID_ARGUMENT, "at once")


@pytest.mark.parametrize("position", [0, 1])
def test_an_answer_that_cannot_be_encoded(position):
    class Context(yais.BidirectionalContext):
        def execute(self, request):
            return "five" if request == position else request

    with streaming(Context, contexts=1) as client:
        for _ in range(2):
            call = client.chat([0, 1, 2])
            assert ended(call) == (list(range(position)), grpc.StatusCode.INTERNAL)
            assert "cannot encode the reply: TypeError" in call.details()


def test_no_execute():
    class Context(yais.BidirectionalContext):
        pass

    with streaming(Context) as client:
        code, details = failed(client.chat([1]))
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert "Context has no execute method" in details


# Metadata and compression


def test_metadata():
    class Context(yais.BidirectionalContext):
        def on_start(self):
            self.initial_metadata.append(("first", self.metadata["text"]))

        def execute(self, request):
            self.initial_metadata.append(("second-bin", bytes([request])))
            return request

        def on_requests_done(self):
            self.trailing_metadata.append(("last", "2"))

    with streaming(Context) as client:
        call = client.chat([7], metadata=[("text", "hello")])
        assert list(call) == [7]
        assert dict(call.initial_metadata()) == {"first": "hello", "second-bin": b"\x07"}
        assert dict(call.trailing_metadata()) == {"last": "2"}


@pytest.mark.parametrize("kind", ["initial", "trailing"])
def test_metadata_that_cannot_be_sent(kind):
    class Context(yais.BidirectionalContext):
        def execute(self, request):
            getattr(self, f"{kind}_metadata").append(("Bad Key", "1"))
            return request

    with streaming(Context, contexts=1) as client:
        for _ in range(2):
            code, details = failed(client.chat([1, 2]))
            assert code is grpc.StatusCode.INTERNAL
            assert f"{kind} metadata" in details and "Bad Key" in details


def test_compression():
    class Context(yais.BidirectionalContext):
        def execute(self, request):
            self.compression = "gzip"
            return request

    with streaming(Context, codec=RAW) as client:
        assert list(client.chat([LARGE, LARGE])) == [LARGE, LARGE]
        as_sent = [("grpc.per_message_decompression", 0)]
        with grpc.insecure_channel(f"127.0.0.1:{client.server.port}", options=as_sent) as channel:
            method = channel.stream_stream(f"/{SERVICE}/Run")
            for answer in method(iter([LARGE, LARGE]), timeout=SOON):
                assert answer.startswith(b"\x1f\x8b") and len(answer) < 1000


# The server stops


@pytest.mark.usefixtures("unhurried")
def test_a_stream_left_open_is_closed_when_the_server_stops(caplog):
    with streaming(Sum) as client, Requests(1) as requests:
        call = client.chat(requests)
        assert next(call) == 1
        assert client.server.stop(grace=0.1)
        assert failed(call) == (grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
    [record] = caplog.records
    assert "1 streams were left open" in record.message


def test_on_drain_makes_the_next_answer_the_last(caplog):
    draining = threading.Event()

    class Context(Sum):
        def execute(self, request):
            if draining.is_set():
                self.finish()
            return super().execute(request)

        def on_drain(self):
            draining.set()

    with streaming(Context) as client, Requests(1) as requests:
        call = client.chat(requests)
        assert next(call) == 1
        stopped = Log()
        on_thread(lambda: stopped.add(client.server.stop(grace=SOON)))
        assert draining.wait(SOON)
        requests.send(2)
        assert ended(call) == ([3], grpc.StatusCode.OK)
        stopped.wait(True)
    assert not caplog.records
