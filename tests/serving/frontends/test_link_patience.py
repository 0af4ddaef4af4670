"""Threads that wait for the answers to what they have sent."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from link_pair import SOON, Call, Engine, dispatching, echo, linked, message, response, wait_until

from yais.core.future import Future
from yais.errors import Unavailable
from yais.inference.request import InferResponse
from yais.serving.frontends import link_session
from yais.serving.frontends.link_connection import LinkConnection
from yais.serving.frontends.link_patience import Patience


def test_who_has_sent_takes_the_answer_if_it_comes_soon() -> None:
    """And what comes later is left to the link's thread."""
    threads: list[int] = []

    def here() -> bool:
        future = link.infer(message(), Call())
        future.add_done_callback(lambda _: threads.append(threading.get_ident()))
        dispatcher.drain()
        assert bytes(future.result(SOON).data[0]) == b"0123456789abcdef"
        return threads[-1] == threading.get_ident()

    with linked(echo) as (link, _), dispatching() as dispatcher:
        wait_until(here)


def test_who_asks_again_with_the_answer_is_waited_for_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_session, "WORTH_IT", SOON)
    threads: list[int] = []
    again: list[Future[InferResponse]] = []

    def ask(_first: Future[InferResponse]) -> None:
        again.append(link.infer(message(id_="2"), Call()))
        again[-1].add_done_callback(lambda _: threads.append(threading.get_ident()))

    def here() -> bool:
        asked = len(again)
        dispatcher.drain()  # what the time before has left
        link.infer(message(id_="1"), Call()).add_done_callback(ask)
        dispatcher.drain()
        wait_until(lambda: len(again) > asked and len(threads) == len(again))
        assert again[-1].result(SOON).id == "2"
        return threads[-1] == threading.get_ident()

    with linked(echo) as (link, _), dispatching() as dispatcher:
        assert any(here() for _ in range(20))


def test_nobody_waits_long() -> None:
    engine = Engine()
    with linked(engine.infer) as (link, _), dispatching() as dispatcher:
        first = link.infer(message(id_="1"), Call())
        dispatcher.drain()  # it returns, although there is no answer
        *_, asked, _ = engine.next()
        asked.set_result(response(b"1"))
        assert bytes(first.result(SOON).data[0]) == b"1"


def test_answers_that_take_longer_are_seldom_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """That the engine process has read the requests is no answer."""
    engine = Engine()
    waits: list[bool] = []  # each False found another thread reading
    take = LinkConnection.take

    def counted(connection: LinkConnection, timeout: float) -> bool:
        waited = take(connection, timeout)
        waits.append(waited)
        return waited

    monkeypatch.setattr(LinkConnection, "take", counted)
    with linked(engine.infer) as (link, _), dispatching() as dispatcher:
        for number in range(200):
            link.infer(message(id_=str(number)), Call())
            dispatcher.drain()
            engine.next()
    assert 1 < sum(waits) < 20


def test_requests_that_a_callback_makes_are_sent(caplog: pytest.LogCaptureFixture) -> None:
    last: Future[InferResponse] = Future()

    def again(left: int) -> None:
        future = link.infer(message(id_=str(left)), Call())
        future.add_done_callback(lambda done: again(left - 1) if left else last.set_result(done.result(0)))

    with linked(echo) as (link, _), dispatching() as dispatcher:
        again(200)
        wait_until(lambda: dispatcher.drain() or last.done())
        assert last.result(SOON).id == "0"
    assert not caplog.records


def test_many_threads_wait_at_once() -> None:
    """Each gets its own answers, whichever of them takes them."""
    wrong: list[Any] = []

    def ask(thread: int) -> None:
        with dispatching() as dispatcher:
            for number in range(300):
                futures = [link.infer(message(id_=f"{thread}/{number}/{i}"), Call()) for i in range(3)]
                dispatcher.drain()
                ids = [future.result(SOON).id for future in futures]
                if ids != [f"{thread}/{number}/{i}" for i in range(3)]:
                    wrong.append(ids)

    with linked(echo) as (link, _):
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
            assert not thread.is_alive()
    assert not wrong


@pytest.mark.parametrize("who", ["the engine process", "this process"])
def test_the_link_ends_while_threads_wait(who: str, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(20):
        taken = threading.Event()

        def infer(*_args: Any, taken: threading.Event = taken, **_options: Any) -> Future[InferResponse]:
            taken.set()
            return Future()

        with linked(infer) as (link, links), dispatching() as dispatcher:
            future = link.infer(message(), Call())
            ends = links.close if who == "the engine process" else link.close
            ender = threading.Thread(target=lambda ends=ends, taken=taken: taken.wait(SOON) and ends(0.0))
            ender.start()
            dispatcher.drain()
            assert isinstance(future.exception(SOON), Unavailable)
            ender.join(SOON)
            assert not ender.is_alive()
            late = link.infer(message(), Call())
            dispatcher.drain()  # on a connection that is closed
            assert isinstance(late.exception(SOON), Unavailable)
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


@given(st.lists(st.booleans(), max_size=30))
def test_patience(answers: list[bool]) -> None:
    """It waits again at once where it was worth it, and after a while in any case."""
    patience = Patience()
    failures = 0
    for came in answers:
        left_out = 0
        while not patience.willing():
            left_out += 1
        assert left_out == min(2**failures - 1, 63)
        patience.learn(came=came)
        failures = 0 if came else failures + 1
