"""Streams that are read to their end, executed once, and answered in order."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading

import grpc
import pytest
from echoing import DEADLINE, SOON, eventually, on_thread
from streaming import BOUND, LARGE, PLENTY, RAW, Log, Requests, ended, failed, streaming

import yais


class Double(yais.BatchingContext):
    def execute(self, requests):
        return [2 * request for request in requests]


class DoubleAsTuple(yais.BatchingContext):
    def execute(self, requests):
        return tuple(2 * request for request in requests)


class DoubleInFuture(yais.BatchingContext):
    def execute(self, requests):
        future = yais.Future()
        on_thread(lambda: future.set_result([2 * request for request in requests]))
        return future


class DoubleInStandardFuture(yais.BatchingContext):
    def execute(self, requests):
        future = concurrent.futures.Future()
        on_thread(lambda: future.set_result([2 * request for request in requests]))
        return future


class DoubleInCoroutine(yais.BatchingContext):
    async def execute(self, requests):
        await asyncio.sleep(0)
        return [2 * request for request in requests]


FORMS = [Double, DoubleAsTuple, DoubleInFuture, DoubleInStandardFuture, DoubleInCoroutine]
forms = pytest.mark.parametrize("context", FORMS, ids=lambda context: context.__name__)


@forms
@pytest.mark.parametrize("count", [0, 1, 2, 500])
def test_answers_in_order(context, count):
    with streaming(context) as client:
        assert ended(client.chat(range(count))) == ([2 * n for n in range(count)], grpc.StatusCode.OK)


class Sum(yais.BatchingContext):
    def execute(self, requests):
        return sum(requests)


class SumInFuture(yais.BatchingContext):
    def execute(self, requests):
        future = yais.Future()
        on_thread(lambda: future.set_result(sum(requests)))
        return future


class SumInCoroutine(yais.BatchingContext):
    async def execute(self, requests):
        await asyncio.sleep(0)
        return sum(requests)


@pytest.mark.parametrize("context", [Sum, SumInFuture, SumInCoroutine], ids=lambda each: each.__name__)
@pytest.mark.parametrize("count", [0, 1, 500])
def test_one_answer(context, count):
    with streaming(context, reply_stream=False) as client:
        assert client.up(range(count)).result(SOON) == sum(range(count))


@forms
def test_a_context_is_there_for_the_next_call(context):
    with streaming(context, contexts=1) as client:
        for number in range(20):  # and begins with no requests
            assert list(client.chat([number])) == [2 * number]
        eventually(lambda: client.server.in_flight == 0)


def test_it_is_executed_once_after_the_last_request():
    log = Log()

    class Context(yais.BatchingContext):
        def on_start(self):
            log.add("start")

        def on_item(self, request):
            log.add(request)

        def execute(self, requests):
            log.add(list(requests))
            return requests

        def on_finish(self):
            log.add("finish")

    with streaming(Context) as client, Requests() as requests:
        call = client.chat(requests)
        for number in range(5):
            requests.send(number)
            log.wait(number)  # a head start: long before the last one has come
        client.pass_by()
        assert log.entries == ["start", 0, 1, 2, 3, 4]
        requests.end()
        assert list(call) == [0, 1, 2, 3, 4]
        log.wait("finish")
    assert log.entries == ["start", 0, 1, 2, 3, 4, [0, 1, 2, 3, 4], "finish"]


@pytest.mark.parametrize("form", ["future", "coroutine"])
def test_the_next_request_is_read_when_on_item_is_done(form):
    items, futures = Log(), []

    class Context(yais.BatchingContext):
        def on_item(self, request):
            futures.append(yais.Future())
            items.add(request)
            return futures[-1] if form == "future" else self.wait_for(futures[-1])

        async def wait_for(self, future):
            await future

        def execute(self, requests):
            return requests

    with streaming(Context) as client:
        call = client.chat(range(5))
        for number in range(5):
            items.wait(number)
            client.pass_by()
            assert items.entries == list(range(number + 1))
            futures[number].set_result(None)
        assert list(call) == [0, 1, 2, 3, 4]


def test_a_server_that_does_not_consume_stops_the_caller():
    sent, items, future = Log(), Log(), yais.Future()

    class Context(yais.BatchingContext):
        def on_item(self, request):
            items.add(None)
            return future

        def execute(self, requests):
            return len(requests)

    def requests():
        for number in range(PLENTY):
            sent.add(number)
            yield LARGE

    with streaming(Context, codec=RAW, reply_stream=False) as client:
        call = client.up(requests())
        items.wait_for_count(1)
        assert 1 <= client.at_rest(sent.__len__) < BOUND
        assert len(items) == 1
        future.set_result(None)
        assert call.result(SOON) == bytes(PLENTY)


@pytest.mark.parametrize("form", ["sync", "future", "coroutine"])
@pytest.mark.parametrize(
    ("answers", "got"), [([], 0), ([1], 1), ([1, 2, 3, 4], 4), (None, "NoneType"), (7, "int")]
)
def test_another_number_of_answers_is_an_error(form, answers, got):
    class Context(yais.BatchingContext):
        def execute(self, requests):
            if form == "coroutine":
                return self.coroutine()
            if form == "future":
                future = yais.Future()
                future.set_result(answers)
                return future
            return answers

        async def coroutine(self):
            return answers

    with streaming(Context, contexts=1) as client:
        for _ in range(2):
            call = client.chat([1, 2, 3])
            assert ended(call) == ([], grpc.StatusCode.INTERNAL)
            assert f"Context.execute returned {got} replies, expected 3" in call.details()


def test_max_items():
    class Few(Double):
        max_items = 3

    with streaming(Few) as client:
        assert list(client.chat([1, 2, 3])) == [2, 4, 6]
        assert failed(client.chat([1, 2, 3, 4])) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "got more than 3 requests in one call, expected no more",
        )


def test_max_items_by_default():
    assert yais.BatchingContext.max_items == 1024
    with streaming(Double) as client:
        assert len(list(client.chat(range(1024)))) == 1024
        code, details = failed(client.chat(range(1025)))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "1024" in details


def test_more_answers_than_wait_to_be_sent():
    # They are there all the same: `max_unsent` is for what is written while it runs.
    class Context(Double):
        max_unsent = 1

    with streaming(Context) as client:
        assert list(client.chat(range(100))) == [2 * n for n in range(100)]


# Callers that go away


@pytest.mark.parametrize("how", ["cancel", "deadline"])
@pytest.mark.parametrize("place", ["on_item", "execute"])
def test_cancellation_reaches_a_coroutine(place, how):
    log = Log()

    class Context(yais.BatchingContext):
        async def on_item(self, request):
            if place == "on_item":
                await self.wait()

        async def execute(self, requests):
            await self.wait()
            return requests

        async def wait(self):
            log.add("waits")
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                log.add(("CancelledError", self.cancelled))
                raise

        def on_cancel(self):
            log.add("on_cancel")

        def on_finish(self):
            log.add("on_finish")

    with streaming(Context) as client:
        call = client.chat([1, 2], timeout=DEADLINE if how == "deadline" else SOON)
        log.wait("waits")
        if how == "cancel":
            call.cancel()
        log.wait(("CancelledError", True), "on_cancel", "on_finish")
        expected = grpc.StatusCode.CANCELLED if how == "cancel" else grpc.StatusCode.DEADLINE_EXCEEDED
        assert ended(call) == ([], expected)
        eventually(lambda: client.server.in_flight == 0)
    assert log.entries.count("waits") == log.entries.count("on_cancel") == log.entries.count("on_finish") == 1


@pytest.mark.parametrize("place", ["on_item", "execute"])
def test_cancellation_reaches_a_future(place):
    log, future = Log(), yais.Future()

    class Context(yais.BatchingContext):
        def on_item(self, request):
            return self.wait() if place == "on_item" else None

        def execute(self, requests):
            return self.wait()

        def wait(self):
            log.add("waits")
            return future

    with streaming(Context) as client:
        call = client.chat([1])
        log.wait("waits")
        call.cancel()
        eventually(future.cancelled)
        eventually(lambda: client.server.in_flight == 0)


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_a_caller_that_goes_away_while_it_sends(how):
    log = Log()

    class Context(yais.BatchingContext):
        def on_item(self, request):
            log.add(request)

        def execute(self, requests):
            """Nothing: gRPC may tell first that there are no more requests, and then why."""
            return requests

        def on_cancel(self):
            log.add(("on_cancel", self.cancelled))

        def on_finish(self):
            log.add("on_finish")

    with streaming(Context, contexts=1) as client, Requests(1, 2) as requests:
        call = client.chat(requests, timeout=DEADLINE if how == "deadline" else SOON)
        log.wait(1, 2)
        if how == "cancel":
            call.cancel()
        log.wait("on_finish")
        assert ended(call)[0] == []
    assert log.entries == [1, 2, ("on_cancel", True), "on_finish"]


# Errors


@pytest.mark.parametrize("form", ["sync", "future", "coroutine"])
@pytest.mark.parametrize("place", ["on_start", "on_item", "execute"])
def test_what_is_raised_is_the_status(place, form, caplog):
    log = Log()

    def at(here, request):
        """Raise in the given form."""
        error = yais.NotFound(f"in {place}") if request == 1 else KeyError("x")
        if here != place or request == 0:
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

    class Context(yais.BatchingContext):
        def on_start(self):
            at("on_start", int(self.metadata["number"]))

        def on_item(self, request):
            log.add(request)
            return at("on_item", request)

        def execute(self, requests):
            answer = at("execute", requests[0])
            return requests if answer is None else answer

    with streaming(Context, contexts=2) as client, Requests(0) as requests:
        other = client.chat(requests, metadata=[("number", "0")])
        log.wait(0)
        for _ in range(3):  # and the context is given back
            call = client.chat([1, 0, 0], metadata=[("number", "1")])
            assert failed(call) == (grpc.StatusCode.NOT_FOUND, f"in {place}")
        assert not caplog.records
        call = client.chat([2, 0, 0], metadata=[("number", "2")])
        assert failed(call) == (grpc.StatusCode.UNKNOWN, "KeyError: 'x'")
        requests.send(0)
        requests.end()
        assert ended(other) == ([0, 0], grpc.StatusCode.OK)
    assert [str(record.exc_info[1]) for record in caplog.records] == ["'x'"]


def test_an_error_ends_the_call_before_the_caller_has_sent_all():
    class Context(yais.BatchingContext):
        def on_item(self, request):
            raise yais.InvalidArgument("at once")

    with streaming(Context) as client, Requests(1) as requests:
        assert failed(client.chat(requests)) == (grpc.StatusCode.INVALID_ARGUMENT, "at once")


def test_no_execute():
    class Context(yais.BatchingContext):
        pass

    with streaming(Context) as client:
        code, details = failed(client.chat([1]))
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert "Context has no execute method" in details


@pytest.mark.parametrize("reply_stream", [True, False])
def test_an_answer_that_cannot_be_encoded(reply_stream):
    class Context(yais.BatchingContext):
        def execute(self, requests):
            return [1, "two", 3] if reply_stream else "two"

    with streaming(Context, contexts=1, reply_stream=reply_stream) as client:
        for _ in range(2):
            call = client.chat([1, 2, 3])
            assert ended(call)[1] is grpc.StatusCode.INTERNAL
            assert "cannot encode the reply: TypeError" in call.details()


# Metadata, and what else a context knows


def test_metadata():
    class Context(yais.BatchingContext):
        def on_start(self):
            self.initial_metadata.append(("first", self.metadata["text"]))

        def execute(self, requests):
            self.initial_metadata.append(("second", str(len(requests))))
            self.trailing_metadata.append(("last-bin", b"\x00\xff"))
            return requests

    with streaming(Context) as client:
        call = client.chat([1, 2], metadata=[("text", "hello")])
        assert list(call) == [1, 2]
        assert dict(call.initial_metadata()) == {"first": "hello", "second": "2"}
        assert dict(call.trailing_metadata()) == {"last-bin": b"\x00\xff"}


@pytest.mark.parametrize("reply_stream", [True, False])
@pytest.mark.parametrize("kind", ["initial", "trailing"])
def test_metadata_that_cannot_be_sent(kind, reply_stream):
    class Context(yais.BatchingContext):
        def execute(self, requests):
            getattr(self, f"{kind}_metadata").append(("Bad Key", "1"))
            return requests if reply_stream else 1

    with streaming(Context, contexts=1, reply_stream=reply_stream) as client:
        for _ in range(2):
            code, details = failed(client.chat([1, 2]))
            assert code is grpc.StatusCode.INTERNAL
            assert f"{kind} metadata" in details and "Bad Key" in details


def test_a_context_that_computes_holds_up_no_other():
    entered, go_on = threading.Event(), threading.Event()

    class Context(yais.BatchingContext):
        def execute(self, requests):
            if requests == [0]:
                return self.resources.workers.submit(self.wait)
            return requests

        def wait(self):
            entered.set()
            assert go_on.wait(SOON)
            return [0]

    class Workers(yais.Resources):
        def open(self):
            self.workers = yais.ThreadPool(1, name="batching")

        def close(self):
            self.workers.close(SOON)

    with streaming(Context, resources=Workers()) as client:
        call = client.chat([0])
        assert entered.wait(SOON)
        assert list(client.chat([1, 2])) == [1, 2]
        go_on.set()
        assert list(call) == [0]
