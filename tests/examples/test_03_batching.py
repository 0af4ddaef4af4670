"""The batching example: its window as a state machine, its batcher, and its programs."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import client, eventually, lines, module, server

import yais
from yais.core.clock import NEVER, Deadline
from yais.rpc.client import Channels, ClientStreaming
from yais.testing import serving

Window = module("03_batching", "window").Window
Batcher = module("03_batching", "batcher").Batcher

LONG = 3600.0
"""A window that only a full batch ends."""


# The window.


@given(
    max_items=st.integers(1, 5),
    max_delay=st.integers(0, 20),
    steps=st.lists(st.one_of(st.just("push"), st.integers(0, 15)), max_size=60),
)
def test_every_item_leaves_once_in_order_in_time_and_in_company(max_items, max_delay, steps):
    window, now, pushed, left = Window(max_items, max_delay), 0, [], []

    def check(batch: list[tuple[int, int]]) -> None:
        left.extend(batch)
        assert len(batch) <= max_items
        if batch:
            # Neither before it is full or due, nor after.
            assert len(batch) == max_items or now == batch[0][1] + max_delay

    for step in steps:
        if step == "push":
            item = (len(pushed), now)
            pushed.append(item)
            check(window.push(item, now))
        else:
            end = now + step
            while window.due is not None and window.due <= end:  # as a timer would
                now = window.due
                check(window.take(now))
            now = end
            check(window.take(now))
        assert len(window) < max_items
        assert (window.due is None) == (len(window) == 0)
    now = window.due if window.due is not None else now
    check(window.take(now))
    assert left == pushed


def test_a_window_closes_when_it_is_due_and_not_before():
    window = Window(8, 2000)
    assert window.push("a", 100) == [] and window.due == 2100
    assert window.push("b", 2000) == [] and window.due == 2100
    assert window.take(2099) == []
    assert window.take(2100) == ["a", "b"]
    assert window.due is None and window.take(9999) == []


@pytest.mark.parametrize(("max_items", "max_delay"), [(0, 1), (1, -1)])
def test_a_window_refuses_limits_it_cannot_keep(max_items, max_delay):
    with pytest.raises(ValueError, match=f"got max_items={max_items} and max_delay={max_delay} ns"):
        Window(max_items, max_delay)


# The batcher, before a real server that tells what it gets.


class Backend(yais.Resources):
    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.deadlines: list[Deadline] = []
        self.error: yais.YaisError | None = None
        self.short = False


class Batch(yais.StreamingContext[bytes, bytes, Backend]):
    def on_open(self, stream: yais.Stream[bytes]) -> None:
        self.got: list[bytes] = []

    def on_request(self, request: bytes, stream: yais.Stream[bytes]) -> None:
        self.got.append(request)

    def on_requests_done(self, stream: yais.Stream[bytes]) -> None:
        self.resources.batches.append(self.got)
        self.resources.deadlines.append(self.deadline)
        if self.resources.error is not None:
            raise self.resources.error
        for request in self.got[: 1 if self.resources.short else None]:
            assert stream.write(request.upper())
        stream.finish()


@contextmanager
def batching(max_items: int, max_delay: float) -> Iterator[tuple[Batcher, Backend]]:
    backend = Backend()
    service = yais.Service("t.Backend")
    service.register("Batch", Batch, deserialize=bytes, serialize=bytes)
    with (
        serving(service, resources=backend, grace=5.0) as served,
        Channels(f"127.0.0.1:{served.port}") as channels,
    ):
        stream = ClientStreaming(channels, "/t.Backend/Batch", max_unsent=max_items)
        batcher = Batcher(stream, max_items, max_delay)
        try:
            yield batcher, backend
        finally:
            batcher.close()


def test_a_full_batch_leaves_at_once_and_each_caller_gets_its_own_answer():
    with batching(3, LONG) as (batcher, backend):
        answers = [batcher.submit(text, NEVER) for text in (b"a", b"b", b"c", b"d", b"e", b"f")]
        assert [answer.result(20.0) for answer in answers] == [b"A", b"B", b"C", b"D", b"E", b"F"]
        assert sorted(backend.batches) == [[b"a", b"b", b"c"], [b"d", b"e", b"f"]]


def test_a_batch_that_stays_small_leaves_when_its_time_is_over():
    with batching(8, 0.01) as (batcher, backend):
        answers = [batcher.submit(b"a", NEVER), batcher.submit(b"b", NEVER)]
        assert [answer.result(20.0) for answer in answers] == [b"A", b"B"]
        assert [request for batch in backend.batches for request in batch] == [b"a", b"b"]


def test_the_window_after_a_full_one_closes_in_time_too():
    with batching(2, 0.01) as (batcher, _):
        answers = [batcher.submit(text, NEVER) for text in (b"a", b"b", b"c")]
        assert [answer.result(20.0) for answer in answers] == [b"A", b"B", b"C"]


def test_an_error_of_the_batch_reaches_each_of_its_callers():
    with batching(3, LONG) as (batcher, backend):
        backend.error = yais.NotFound("no such thing")
        for answer in [batcher.submit(b"a", NEVER) for _ in range(3)]:
            with pytest.raises(yais.NotFound, match="no such thing"):
                answer.result(20.0)


def test_too_few_answers_are_an_error_for_all():
    with batching(3, LONG) as (batcher, backend):
        backend.short = True
        for answer in [batcher.submit(b"a", NEVER) for _ in range(3)]:
            with pytest.raises(yais.Internal, match="sent 1 replies, expected 3"):
                answer.result(20.0)


def test_with_closed_channels_callers_are_told():
    with Channels("127.0.0.1:1") as channels:
        batcher = Batcher(ClientStreaming(channels, "/t.Backend/Batch"), 2, LONG)
    for answer in [batcher.submit(b"a", NEVER), batcher.submit(b"b", NEVER)]:
        with pytest.raises(yais.FailedPrecondition):
            answer.result(20.0)


def test_what_is_cancelled_before_its_batch_leaves_is_not_sent():
    with batching(3, LONG) as (batcher, backend):
        first = batcher.submit(b"a", NEVER)
        assert first.cancel()
        second, third = batcher.submit(b"b", NEVER), batcher.submit(b"c", NEVER)
        assert (second.result(20.0), third.result(20.0)) == (b"B", b"C")
        assert backend.batches == [[b"b", b"c"]]
        assert not third.cancel()


def test_a_batch_that_nobody_wants_any_more_is_not_sent():
    with batching(2, 0.05) as (batcher, backend):
        assert batcher.submit(b"a", NEVER).cancel()
        eventually(lambda: not len(batcher._window))
        answers = [batcher.submit(text, NEVER) for text in (b"b", b"c")]
        assert [answer.result(20.0) for answer in answers] == [b"B", b"C"]
        assert backend.batches == [[b"b", b"c"]]


@pytest.mark.parametrize("with_patient", [False, True], ids=["all have one", "one has none"])
def test_the_batch_has_the_deadline_of_its_most_patient_caller(with_patient):
    with batching(3, LONG) as (batcher, backend):
        deadlines = [
            Deadline.after(20.0),
            Deadline.after(500.0),
            NEVER if with_patient else Deadline.after(30.0),
        ]
        for answer in [batcher.submit(b"a", deadline) for deadline in deadlines]:
            answer.result(20.0)
        remaining = backend.deadlines[0].remaining()
        assert remaining is None if with_patient else remaining is not None and 400.0 < remaining <= 500.0


def test_many_threads_at_once_lose_nothing():
    with batching(8, 0.001) as (batcher, backend):
        results: list[bytes] = []

        def call(name: int) -> None:
            for number in range(50):
                results.append(batcher.submit(b"x%d-%d" % (name, number), NEVER).result(20.0))  # noqa: PERF401

        threads = [threading.Thread(target=call, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(results) == sorted(
            b"X%d-%d" % (name, number) for name in range(8) for number in range(50)
        )
        assert max(map(len, backend.batches)) <= 8


# The programs.


def test_calls_are_batched_and_the_batches_spread_over_the_backends():
    with (
        server("03_batching/backend.py", "--name", "one") as one,
        server("03_batching/backend.py", "--name", "two") as two,
        server(
            "03_batching/front.py", "--window", "0.2", "--backends", f"127.0.0.1:{one}", f"127.0.0.1:{two}"
        ) as port,
    ):
        # The first batch goes to whichever backend is connected first.
        lines("03_batching/client.py", "--port", port, "--count", 8)
        first, *spread = lines("03_batching/client.py", "--port", port, "--count", 256)
    assert first == "256 answers in 32 batches of at most 8"
    counts = {name: int(count) for name, count in (re.findall(r"(\w+): (\d+) batches", "\n".join(spread)))}
    assert counts.keys() == {"one", "two"} and sum(counts.values()) == 32
    assert min(counts.values()) >= 8


def test_with_one_backend_gone_the_other_serves():
    with ExitStack() as programs, server("03_batching/backend.py", "--name", "two") as two:
        with server("03_batching/backend.py", "--name", "one") as one:
            backends = [f"127.0.0.1:{one}", f"127.0.0.1:{two}"]
            port = programs.enter_context(server("03_batching/front.py", "--backends", *backends))
            lines("03_batching/client.py", "--port", port)
        eventually(lambda: client("03_batching/client.py", "--port", port).returncode == 0)
        assert lines("03_batching/client.py", "--port", port)[1].startswith("two: ")


def test_without_any_backend_callers_are_told():
    with server("03_batching/front.py", "--backends", "127.0.0.1:1") as port:
        ended = client("03_batching/client.py", "--port", port, "--count", 3)
        assert (ended.returncode, ended.stderr.split(":")[0]) == (1, "UNAVAILABLE")
