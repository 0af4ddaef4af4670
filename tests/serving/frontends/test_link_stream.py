"""Decoupled models over a link: any number of responses, as fast as they are taken."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from link_pair import SOON, Call, Engine, linked, message, response, wait_until

from yais.core.clock import Deadline
from yais.core.future import Future
from yais.errors import DeadlineExceeded, Unavailable
from yais.inference.request import InferResponse
from yais.serving.frontends.link_messages import CREDITS
from yais.serving.frontends.link_stream import ResponseCredits


class Model:
    """A decoupled model: responds on a thread of its own as often as it is told to."""

    def __init__(self, engine: Engine, count: int) -> None:
        _, self.caller, self.future, self._respond = engine.next()
        self.sent = 0
        self.stopped = False
        self._count = count
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        for index in range(self._count):
            if not self._respond(response(f"{index}".encode() + b"." * 3000)):
                self.stopped = True
                break
            self.sent += 1
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(response(b""))


class Reader:
    """Takes responses, when it may."""

    def __init__(self, most: int = 1_000_000) -> None:
        self.taken: list[int] = []
        self.gate = threading.Semaphore(0)
        self._most = most

    def respond(self, answer: InferResponse) -> bool:
        assert self.gate.acquire(timeout=SOON)
        self.taken.append(int(bytes(answer.data[0]).rstrip(b".")))
        return len(self.taken) < self._most


@contextmanager
def streaming(
    count: int, most: int = 1_000_000
) -> Iterator[tuple[Any, Model, Reader, Future[InferResponse]]]:
    """Ask a decoupled model for something."""
    engine = Engine()
    reader = Reader(most)
    with linked(engine.infer) as (link, _):
        future = link.infer(message(), Call(), respond=reader.respond)
        model = Model(engine, count)
        try:
            yield link, model, reader, future
        finally:
            reader.gate.release(1_000_000)
            link.close(1)
            model.thread.join(SOON)
            assert not model.thread.is_alive()


def test_all_responses_come_in_their_order_and_then_the_end() -> None:
    with streaming(200) as (link, _, reader, future):
        reader.gate.release(1000)
        assert future.result(SOON)
        assert reader.taken == list(range(200))
        assert not link.pending


def test_a_model_waits_for_its_reader_and_nobody_else_does() -> None:
    with streaming(100) as (link, model, reader, future):
        wait_until(lambda: model.sent == CREDITS)
        assert link.call("Other", b"1").result(SOON) == b"Other:1"  # the link is not held up
        reader.gate.release(CREDITS // 2)
        wait_until(lambda: model.sent == CREDITS + CREDITS // 2)
        assert len(reader.taken) == CREDITS // 2 and not future.done()
        reader.gate.release(1000)
        assert future.result(SOON) and len(reader.taken) == 100


def test_a_reader_who_wants_no_more_stops_the_model() -> None:
    with streaming(100_000, most=5) as (_, model, reader, future):
        reader.gate.release(1000)
        assert future.result(SOON)
        wait_until(lambda: not model.thread.is_alive())
        assert model.stopped and len(reader.taken) == 5


def test_cancelling_stops_the_model() -> None:
    with streaming(100_000) as (_, model, reader, future):
        wait_until(lambda: model.sent == CREDITS)
        assert future.cancel()
        wait_until(lambda: model.stopped)
        assert not reader.taken


def test_what_the_reader_raises_is_what_the_request_ends_with() -> None:
    def respond(_: InferResponse) -> bool:
        raise DeadlineExceeded("no response was taken")

    engine = Engine()
    with linked(engine.infer) as (link, _):
        future = link.infer(message(), Call(), respond=respond)
        model = Model(engine, 100_000)
        with pytest.raises(DeadlineExceeded, match="no response was taken"):
            future.result(SOON)
        model.thread.join(SOON)
        assert model.stopped


def test_what_the_model_raises_comes_after_its_responses() -> None:
    engine = Engine()
    reader = Reader()
    with linked(engine.infer) as (link, _):
        future = link.infer(message(), Call(), respond=reader.respond)
        _, _, answer, respond = engine.next()
        assert respond(response(b"0")) and respond(response(b"1"))
        answer.set_exception(Unavailable("broken"))
        wait_until(lambda: link.call("After", b"").result(SOON) == b"After:")
        assert not future.done()
        reader.gate.release(2)
        with pytest.raises(Unavailable, match="broken"):
            future.result(SOON)
        assert reader.taken == [0, 1]


def test_a_model_that_answers_once_does_so() -> None:
    engine = Engine()
    with linked(engine.infer) as (link, _):
        future = link.infer(message(), Call(), respond=lambda _: True)
        engine.next()[2].set_result(response(b"once"))
        assert bytes(future.result(SOON).data[0]) == b"once"


def test_the_end_of_the_frontend_stops_the_model() -> None:
    with streaming(100_000) as (link, model, reader, future):
        wait_until(lambda: model.sent == CREDITS)
        reader.gate.release(1)
        wait_until(lambda: reader.taken == [0])
        link.close(0)
        wait_until(lambda: model.stopped)
        reader.gate.release(1000)
        with pytest.raises(Unavailable):
            future.result(SOON)


def test_the_deadline_ends_the_wait_for_a_reader() -> None:
    credits_ = ResponseCredits(1)
    assert credits_.take(Deadline.after(SOON))
    assert not credits_.take(Deadline.after(0.01))
    credits_.add(1)
    assert credits_.take(Deadline.after(SOON))


def test_streams_do_not_mix() -> None:
    engine = Engine()
    readers = [Reader() for _ in range(8)]
    with linked(engine.infer) as (link, _):
        futures = [link.infer(message(), Call(), respond=reader.respond) for reader in readers]
        models = [Model(engine, 50 + index) for index in range(8)]
        for reader in readers:
            reader.gate.release(1000)
        for future in futures:
            assert future.result(SOON)
        assert sorted(len(reader.taken) for reader in readers) == list(range(50, 58))
        assert all(reader.taken == sorted(reader.taken) for reader in readers)
        for model in models:
            model.thread.join(SOON)
