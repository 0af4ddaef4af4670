"""RPCs with one request and a stream of answers, in every form in which they may be written."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading

import grpc
import pytest
from echoing import DEADLINE, SOON, eventually, on_thread
from streaming import BOUND, LARGE, PLENTY, RAW, SERVICE, Log, ended, failed, streaming

import yais
from yais.core.dispatcher import current_dispatcher


class Generator(yais.ServerStreamingContext):
    def execute(self, count):
        yield from range(count)


class ReturnsIterable(yais.ServerStreamingContext):
    def execute(self, count):
        return list(range(count))


class AsyncGenerator(yais.ServerStreamingContext):
    async def execute(self, count):
        for number in range(count):
            await asyncio.sleep(0)
            yield number


class AsyncIterator(yais.ServerStreamingContext):
    """No generator: it has no `aclose`."""

    def execute(self, count):
        self.numbers = iter(range(count))
        return self

    def __aiter__(self):
        return self

    async def __anext__(self):
        for number in self.numbers:
            return number
        raise StopAsyncIteration


class Thread(yais.ServerStreamingContext):
    """A future, and a thread that writes."""

    def execute(self, count):
        done = yais.Future()

        def run():
            assert all(self.stream.write(number) for number in range(count))
            done.set_result(None)

        on_thread(run)
        return done


class StandardFuture(Thread):
    """The future that Python's own pools return."""

    def execute(self, count):
        done = concurrent.futures.Future()
        super().execute(count).add_done_callback(lambda own: done.set_result(own.result()))
        return done


class Coroutine(yais.ServerStreamingContext):
    async def execute(self, count):
        for number in range(count):
            assert await self.stream.awrite(number)


FORMS = [Generator, ReturnsIterable, AsyncGenerator, AsyncIterator, Thread, StandardFuture, Coroutine]
forms = pytest.mark.parametrize("context", FORMS, ids=lambda context: context.__name__)


@forms
def test_answers_in_order(context):
    with streaming(context) as client:
        assert ended(client.down(500)) == (list(range(500)), grpc.StatusCode.OK)


@forms
def test_no_answers(context):
    with streaming(context) as client:
        assert ended(client.down(0)) == ([], grpc.StatusCode.OK)


@forms
def test_a_context_is_there_for_the_next_call(context):
    with streaming(context, contexts=1) as client:
        for count in range(20):
            assert list(client.down(count)) == list(range(count))
        eventually(lambda: client.server.in_flight == 0)


@forms
def test_many_at_once(context):
    with streaming(context, contexts=8) as client:
        calls = [client.down(100 + number) for number in range(16)]
        for number, call in enumerate(calls):
            assert list(call) == list(range(100 + number))


def test_a_generator_runs_on_the_executors_thread():
    threads = Log()

    class Context(yais.ServerStreamingContext):
        def execute(self, count):
            for number in range(count):
                threads.add((threading.current_thread().name, current_dispatcher() is not None))
                yield number

    with streaming(Context) as client:
        assert len(list(client.down(100))) == 100
    assert set(threads.entries) == {("yais-rpc-0", True)}


def test_an_async_generator_runs_on_the_loop():
    threads = Log()

    class Context(yais.ServerStreamingContext):
        async def execute(self, count):
            for number in range(count):
                threads.add(threading.current_thread().name)
                yield number

    with streaming(Context) as client:
        assert len(list(client.down(100))) == 100
    assert set(threads.entries) == {"yais-asyncio"}


def test_an_answer_does_not_wait_for_the_next_one():
    arrived = threading.Event()

    class Context(yais.ServerStreamingContext):
        def execute(self, request):
            yield 1
            yield int(arrived.wait(SOON))

    with streaming(Context) as client:
        call = client.down(0)
        assert next(call) == 1
        arrived.set()
        assert list(call) == [1]


# A caller that does not read


def producers(made: Log):
    """Return contexts that note each answer they make, of `PLENTY`."""

    class Generating(yais.ServerStreamingContext):
        def execute(self, request):
            for number in range(PLENTY):
                made.add(number)
                yield LARGE

    class AsyncGenerating(yais.ServerStreamingContext):
        async def execute(self, request):
            for number in range(PLENTY):
                made.add(number)
                yield LARGE

    class Writing(yais.ServerStreamingContext):
        def execute(self, request):
            done = yais.Future()
            done.set_running_or_notify_cancel()

            def run():
                for number in range(PLENTY):
                    made.add(number)
                    if not self.stream.write(LARGE):
                        break
                done.set_result(None)

            on_thread(run)
            return done

    class AsyncWriting(yais.ServerStreamingContext):
        async def execute(self, request):
            for number in range(PLENTY):
                made.add(number)
                assert await self.stream.awrite(LARGE)

    return {each.__name__: each for each in (Generating, AsyncGenerating, Writing, AsyncWriting)}


@pytest.mark.parametrize("form", list(producers(Log())))
def test_a_caller_that_does_not_read_stops_the_answers(form):
    made = Log()
    with streaming(producers(made)[form], codec=RAW) as client:
        call = client.down(b"")
        assert next(call) == LARGE
        assert 1 <= client.at_rest(made.__len__) < BOUND
        # It is not held up by anything else: as soon as the caller reads, it goes on.
        assert sum(len(answer) for answer in call) == (PLENTY - 1) * len(LARGE)
        assert call.code() is grpc.StatusCode.OK
    assert made.entries == list(range(PLENTY))


@pytest.mark.parametrize("form", list(producers(Log())))
def test_a_caller_that_does_not_read_and_goes_away(form):
    made = Log()
    with streaming(producers(made)[form], codec=RAW, contexts=1) as client:
        call = client.down(b"")
        assert next(call) == LARGE
        client.at_rest(made.__len__)
        call.cancel()
        eventually(lambda: client.server.in_flight == 0)
        assert len(made) < BOUND


def test_one_that_does_not_read_holds_up_no_other():
    made = Log()
    with streaming(producers(made)["Generating"], codec=RAW) as client:
        waiting = client.down(b"")
        next(waiting)
        client.at_rest(made.__len__)
        assert len(list(client.down(b""))) == PLENTY
        waiting.cancel()


@pytest.mark.parametrize("most", [1, 3])
def test_max_unsent(most):
    made = Log()

    class Context(yais.ServerStreamingContext):
        max_unsent = most

        def execute(self, count):
            self.results = [self.stream.write(number) for number in range(count)]
            made.add(self.results)
            return ()

    with streaming(Context) as client:
        # One is on its way, the others wait; this is the executor's own thread, which never does.
        assert list(client.down(5)) == list(range(most + 1))
    assert made.entries == [[True] * (most + 1) + [False] * (4 - most)]


@pytest.mark.parametrize("form", ["generator", "async generator"])
def test_a_generator_that_finishes_the_stream(form):
    closed = Log()

    class Context(yais.ServerStreamingContext):
        def execute(self, count):
            return self.numbers(count) if form == "generator" else self.async_numbers(count)

        def numbers(self, count):
            try:
                for number in range(count):
                    if number == 5:
                        assert self.stream.finish()
                    yield number
            finally:
                closed.add("closed")

        async def async_numbers(self, count):
            for number in self.numbers(count):
                yield number

    with streaming(Context, contexts=1) as client:
        for _ in range(3):
            assert ended(client.down(100)) == (list(range(5)), grpc.StatusCode.OK)
        closed.wait_for_count(3)


# Callers that go away


@pytest.mark.parametrize("how", ["cancel", "deadline"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_generator_is_closed_when_the_caller_has_gone(asynchronous, how):
    log, go_on = Log(), threading.Event()

    class Endless(yais.ServerStreamingContext):
        def execute(self, request):
            return self.numbers() if not asynchronous else self.async_numbers()

        def numbers(self):
            try:
                while True:
                    log.add(len(log))
                    yield LARGE
            finally:
                log.add(("closed", self.cancelled))
                go_on.set()

        async def async_numbers(self):
            try:
                while True:
                    yield LARGE
            finally:
                log.add(("closed", self.cancelled))
                go_on.set()

        def on_cancel(self):
            log.add("on_cancel")

        def on_finish(self):
            log.add("on_finish")

    with streaming(Endless, codec=RAW) as client:
        call = client.down(b"", timeout=DEADLINE if how == "deadline" else SOON)
        assert next(call) == LARGE
        if how == "cancel":
            call.cancel()
        assert go_on.wait(SOON)
        expected = grpc.StatusCode.CANCELLED if how == "cancel" else grpc.StatusCode.DEADLINE_EXCEEDED
        assert ended(call)[1] is expected
        log.wait(("closed", True), "on_cancel", "on_finish")
        assert log.entries.count("on_cancel") == log.entries.count("on_finish") == 1
        assert log.entries[-1] == "on_finish"
        eventually(lambda: client.server.in_flight == 0)


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_cancellation_reaches_an_async_generator(how):
    log = Log()

    class Waiting(yais.ServerStreamingContext):
        async def execute(self, request):
            yield 1
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                log.add(("CancelledError", self.cancelled))
                raise

    with streaming(Waiting) as client:
        call = client.down(0, timeout=DEADLINE if how == "deadline" else SOON)
        assert next(call) == 1
        if how == "cancel":
            call.cancel()
        log.wait(("CancelledError", True))
        eventually(lambda: client.server.in_flight == 0)


def test_a_thread_that_writes_learns_that_the_caller_has_gone():
    log = Log()

    class Writing(yais.ServerStreamingContext):
        def execute(self, request):
            done = yais.Future()
            done.set_running_or_notify_cancel()

            def run():
                while self.stream.write(LARGE):
                    pass
                log.add((self.stream.connected, self.cancelled))
                done.set_result(None)

            on_thread(run)
            return done

    with streaming(Writing, codec=RAW) as client:
        call = client.down(b"")
        next(call)
        call.cancel()
        log.wait_for_count(1)
        assert log.entries == [(False, True)]
        eventually(lambda: client.server.in_flight == 0)


def test_work_in_flight_keeps_the_context():
    done = yais.Future()
    done.set_running_or_notify_cancel()
    log = Log()

    class Working(yais.ServerStreamingContext):
        def execute(self, request):
            log.add(request)
            return done

        def on_cancel(self):
            log.add("on_cancel")

    with streaming(Working, contexts=1) as client:
        call = client.down(1)
        log.wait(1)
        call.cancel()
        log.wait("on_cancel")
        assert client.server.in_flight == 1
        done.set_result(None)
        eventually(lambda: client.server.in_flight == 0)


# Errors


def raising(error):
    """Return contexts that raise, some after an answer."""

    class AtOnce(yais.ServerStreamingContext):
        def execute(self, request):
            raise error

    class InOnStart(yais.ServerStreamingContext):
        def on_start(self):
            raise error

    class InGenerator(yais.ServerStreamingContext):
        def execute(self, request):
            yield 1
            raise error

    class InAsyncGenerator(yais.ServerStreamingContext):
        async def execute(self, request):
            yield 1
            raise error

    class InFuture(yais.ServerStreamingContext):
        def execute(self, request):
            self.stream.write(1)
            done = yais.Future()
            on_thread(lambda: done.set_exception(error))
            return done

    class InCoroutine(yais.ServerStreamingContext):
        async def execute(self, request):
            await self.stream.awrite(1)
            raise error

    kinds = (AtOnce, InOnStart, InGenerator, InAsyncGenerator, InFuture, InCoroutine)
    return {each.__name__: each for each in kinds}


@pytest.mark.parametrize("place", list(raising(None)))
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (yais.NotFound("no such thing"), (grpc.StatusCode.NOT_FOUND, "no such thing")),
        (KeyError("x"), (grpc.StatusCode.UNKNOWN, "KeyError: 'x'")),
    ],
    ids=["own", "foreign"],
)
def test_what_is_raised_is_the_status(place, error, status, caplog):
    with streaming(raising(error)[place], contexts=1) as client:
        for _ in range(3):  # and the context is given back
            call = client.down(0)
            answers, code = ended(call)
            assert answers == ([] if place in {"AtOnce", "InOnStart"} else [1])
            assert (code, call.details()) == status
        eventually(lambda: client.server.in_flight == 0)
    logged = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert logged == ([] if isinstance(error, yais.YaisError) else [error] * 3)


def test_an_error_ends_its_own_call_alone():
    go_on = threading.Event()

    class Context(yais.ServerStreamingContext):
        async def execute(self, request):
            yield request
            if request == 13:
                raise ValueError("odd")
            await asyncio.get_running_loop().run_in_executor(None, go_on.wait, SOON)
            yield request

    with streaming(Context) as client:
        other = client.down(1)
        assert next(other) == 1
        assert failed(client.down(13)) == (grpc.StatusCode.UNKNOWN, "ValueError: odd")
        go_on.set()
        assert ended(other) == ([1], grpc.StatusCode.OK)


def test_no_iterator():
    class Context(yais.ServerStreamingContext):
        def execute(self, request):
            return 5

    with streaming(Context) as client:
        code, details = failed(client.down(0))
    assert code is grpc.StatusCode.UNKNOWN
    assert "execute returned int, expected" in details


def test_no_execute():
    class Context(yais.ServerStreamingContext):
        pass

    with streaming(Context) as client:
        code, details = failed(client.down(0))
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert "Context has no execute method" in details


def test_no_request():
    with streaming(Generator) as client:
        code, details = failed(client.chat([]))
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert "exactly one request" in details


def test_the_answer_that_cannot_be_encoded():
    class Context(yais.ServerStreamingContext):
        def execute(self, request):
            yield 1
            yield "two"
            yield 3

    with streaming(Context) as client:
        call = client.down(0)
        answers, code = ended(call)
        assert (answers, code) == ([1], grpc.StatusCode.INTERNAL)
        assert "cannot encode the reply: TypeError" in call.details()


# Metadata and compression


def test_metadata():
    class Context(yais.ServerStreamingContext):
        def on_start(self):
            self.initial_metadata.append(("first", self.metadata["text"]))

        def execute(self, request):
            self.initial_metadata.append(("second-bin", b"\x00\xff"))
            yield 1
            self.initial_metadata.append(("late", "dropped"))
            self.trailing_metadata.append(("count", "1"))

    with streaming(Context) as client:
        call = client.down(0, metadata=[("text", "hello")])
        assert dict(call.initial_metadata()) == {"first": "hello", "second-bin": b"\x00\xff"}
        assert list(call) == [1]
        assert dict(call.trailing_metadata()) == {"count": "1"}


def test_metadata_without_an_answer():
    class Context(yais.ServerStreamingContext):
        def execute(self, request):
            self.initial_metadata.append(("first", "1"))
            self.trailing_metadata.append(("last", "2"))
            raise yais.NotFound("nothing")

    with streaming(Context) as client:
        call = client.down(0)
        assert ended(call) == ([], grpc.StatusCode.NOT_FOUND)
        assert dict(call.initial_metadata()) == {"first": "1"}
        assert dict(call.trailing_metadata()) == {"last": "2"}


@pytest.mark.parametrize("form", ["generator", "async generator", "coroutine"])
def test_metadata_that_cannot_be_sent(form):
    class Context(yais.ServerStreamingContext):
        def execute(self, request):
            self.initial_metadata.append(("Bad Key", "1"))
            match form:
                case "generator":
                    return iter([1])
                case "async generator":
                    return self.one()
            return self.stream.awrite(1)

        async def one(self):
            yield 1

    with streaming(Context, contexts=1) as client:
        for _ in range(2):
            code, details = failed(client.down(0))
            assert code is grpc.StatusCode.INTERNAL
            assert "initial metadata" in details and "Bad Key" in details


@pytest.mark.parametrize(
    ("compression", "start"), [("gzip", b"\x1f\x8b"), ("deflate", b"\x78"), (None, LARGE[:1])]
)
def test_compression(compression, start):
    class Context(yais.ServerStreamingContext):
        def execute(self, request):
            self.compression = compression
            self.stream.write(LARGE)
            self.stream.write(LARGE, compress=False)
            self.stream.write(LARGE)
            return []

    with streaming(Context, codec=RAW) as client:
        assert list(client.down(b"")) == [LARGE] * 3
        as_sent = [("grpc.per_message_decompression", 0)]
        with grpc.insecure_channel(f"127.0.0.1:{client.server.port}", options=as_sent) as channel:
            first, second, third = channel.unary_stream(f"/{SERVICE}/Run")(b"", timeout=SOON)
    assert first.startswith(start)
    assert first == third
    assert (len(first) < 1000) == (compression is not None)
    assert second == LARGE


def test_a_compression_there_is_not():
    class Context(yais.ServerStreamingContext):
        def execute(self, request):
            self.compression = "brotli"
            yield 1

    with streaming(Context) as client:
        code, details = failed(client.down(0))
    assert code is grpc.StatusCode.UNKNOWN
    assert "got compression 'brotli'" in details


# What a context knows


def test_what_a_context_knows():
    seen = Log()

    class Context(yais.ServerStreamingContext):
        def execute(self, request):
            seen.add((self.resources, self.peer, self.deadline.remaining(), self.elapsed, self.cancelled))
            yield 1

    resources = yais.Resources()
    with streaming(Context, resources=resources) as client:
        list(client.down(0, timeout=30))
        [(got, peer, remaining, elapsed, cancelled)] = seen.entries
    assert got is resources
    assert peer.startswith("ipv4:127.0.0.1:")
    assert 0 < remaining < 31
    assert 0 <= elapsed < SOON
    assert cancelled is False


def test_hooks_run_once_and_in_order():
    log = Log()

    class Context(yais.ServerStreamingContext):
        def on_start(self):
            log.add("start")

        def execute(self, request):
            log.add("execute")
            yield 1

        def on_cancel(self):
            log.add("cancel")

        def on_finish(self):
            log.add("finish")

    with streaming(Context) as client:
        list(client.down(0))
        log.wait("finish")
    assert log.entries == ["start", "execute", "finish"]


@pytest.mark.parametrize("hook", ["on_finish", "on_cancel"])
def test_a_hook_that_raises_is_logged(hook, caplog):
    error = ValueError("odd")
    called = threading.Event()

    class Context(yais.ServerStreamingContext):
        async def execute(self, request):
            yield 1
            if hook == "on_cancel":
                await asyncio.sleep(60)

    def raises(self):
        called.set()
        raise error

    setattr(Context, hook, raises)
    with streaming(Context, contexts=1) as client:
        call = client.down(0)
        assert next(call) == 1
        if hook == "on_cancel":
            call.cancel()
        else:
            assert list(call) == []
        assert called.wait(SOON)
        eventually(lambda: client.server.in_flight == 0)
    [record] = [record for record in caplog.records if record.exc_info]
    assert record.exc_info[1] is error
