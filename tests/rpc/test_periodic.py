"""Functions that a server calls every so many seconds."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest
from echoing import SOON, Held, echoing, eventually, on_thread
from streaming import Log

import yais
from yais.core.clock import NANOSECONDS
from yais.core.loop_thread import LoopThread
from yais.core.timer import Timer
from yais.rpc.periodic import Periodic
from yais.testing import ManualClock

PERIOD = 0.005
"""Seconds, where real time passes."""


class Stand:
    """What a server gives its periodic functions, by a clock that the test moves."""

    def __init__(self):
        self.clock = ManualClock()
        self.timer = Timer("test-periodic", self.clock)
        self.loop = LoopThread("test-loop")

    def every(self, seconds, function):
        Periodic(seconds, function, self.timer, self.loop, self.clock).start()

    def advance(self, seconds):
        """Let time pass; return when all that was due then has run."""
        self.clock.advance(seconds)
        done = threading.Event()
        self.timer.call_at(0, lambda: None)  # Wakes it: it comes before all others.
        self.timer.call_at(self.clock(), done.set)
        assert done.wait(SOON)


@pytest.fixture
def stand():
    stand = Stand()
    yield stand
    assert stand.timer.close(SOON)
    assert stand.loop.close(SOON)


def test_once_a_period(stand):
    calls = Log()
    stand.every(2.0, lambda: calls.add(stand.clock() / NANOSECONDS))
    stand.advance(1.99)
    assert calls.entries == []
    stand.advance(0.01)
    assert calls.entries == [2.0]
    for _ in range(6):
        stand.advance(1.0)
    assert calls.entries == [2.0, 4.0, 6.0, 8.0]


def test_the_period_does_not_drift(stand):
    calls = Log()
    stand.every(2.0, lambda: calls.add(stand.clock() / NANOSECONDS))
    for _ in range(5):  # each a little late
        stand.advance(2.1)
    assert calls.entries == pytest.approx([2.1, 4.2, 6.3, 8.4, 10.5])
    stand.advance(1.5)  # and yet the sixth at 12, not at 12.5
    assert calls.entries[5:] == pytest.approx([12.0])


def test_periods_that_a_call_outlasts_are_skipped(stand):
    calls = Log()

    def slow():
        calls.add(stand.clock() / NANOSECONDS)
        if len(calls) == 1:
            stand.clock.advance(7.0)  # from 2 to 9

    stand.every(2.0, slow)
    stand.advance(2.0)
    stand.advance(0.0)
    assert calls.entries == [2.0]  # Those of 4, 6 and 8 are over.
    stand.advance(1.0)
    assert calls.entries == [2.0, 10.0]
    stand.advance(2.0)
    assert calls.entries == [2.0, 10.0, 12.0]


def test_a_coroutine_is_not_called_again_before_it_is_done(stand):
    begun, ended, go_on = Log(), Log(), yais.Future()

    async def slow():
        begun.add(threading.current_thread().name)
        await go_on
        ended.add(None)

    stand.every(2.0, slow)
    stand.advance(2.0)
    begun.wait_for_count(1)
    for _ in range(5):
        stand.advance(2.0)
    assert begun.entries == ["test-loop"]
    go_on.set_result(None)
    ended.wait_for_count(1)

    def called_again():
        stand.advance(2.0)
        return len(begun) > 1

    eventually(called_again)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_is_raised_is_logged_and_the_next_call_comes(stand, asynchronous, caplog):
    calls = Log()

    def plain():
        calls.add(None)
        raise ValueError(f"odd {len(calls)}")

    async def coroutine():
        plain()

    stand.every(2.0, coroutine if asynchronous else plain)
    for number in range(1, 4):

        def called(number=number):
            stand.advance(2.0)
            return len(calls) >= number

        eventually(called)
        eventually(lambda number=number: len(caplog.records) >= number)
    assert [str(record.exc_info[1]) for record in caplog.records[:3]] == ["odd 1", "odd 2", "odd 3"]
    assert all(record.levelno == logging.ERROR for record in caplog.records)


def test_several(stand):
    calls = Log()
    stand.every(2.0, lambda: calls.add("two"))
    stand.every(3.0, lambda: calls.add("three"))
    for _ in range(6):
        stand.advance(1.0)
    # Of what is due at one moment, that is first which has waited longer.
    assert calls.entries == ["two", "three", "two", "three", "two"]


# With a server


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("started", [False, True])
def test_every(started, asynchronous):
    threads = Log()
    server = yais.Server("127.0.0.1:0")

    def plain():
        threads.add(threading.current_thread().name)

    async def coroutine():
        plain()

    function = coroutine if asynchronous else plain
    if started:
        server.start()
        server.every(PERIOD, function)
    else:
        server.every(PERIOD, function)
        assert threads.entries == []
        server.start()
    threads.wait_for_count(5)
    server.stop()
    assert set(threads.entries) == {"yais-asyncio" if asynchronous else "yais-periodic"}


def test_not_before_the_start():
    calls = Log()
    server = yais.Server("127.0.0.1:0")
    server.every(1e-9, lambda: calls.add(None))
    later = threading.Event()
    timer = Timer()
    timer.call_at(0, later.set)  # Had it been scheduled, it would have been due before this.
    assert later.wait(SOON)
    assert timer.close(SOON)
    assert calls.entries == []


def test_no_more_calls_after_the_stop():
    calls = Log()
    server = yais.Server("127.0.0.1:0")
    server.every(PERIOD, lambda: calls.add(None))
    server.start()
    calls.wait_for_count(3)
    server.stop()
    count = len(calls)
    assert "yais-periodic" not in {thread.name for thread in threading.enumerate()}
    assert len(calls) == count
    with pytest.raises(RuntimeError, match="the server has stopped"):
        server.every(PERIOD, lambda: calls.add(None))


def test_it_goes_on_during_the_drain():
    context, calls = Held.fresh(), Log()
    with echoing(context) as client:
        client.server.every(PERIOD, lambda: calls.add(None))
        call = client.begin("hold")
        context.started.wait("hold")
        stopped = Log()
        thread = on_thread(lambda: stopped.add(client.server.stop(SOON)))
        # It drains: it takes no more calls, but for what arrives in the very moment (grpc/grpc#41785).
        eventually(lambda: client.begin("x", timeout=0.5).exception(SOON))
        count = len(calls)
        calls.wait_for_count(count + 3)
        assert not stopped.entries
        context.finish("hold")
        assert call.result(SOON).text == "hold"
        thread.join(SOON)
        assert stopped.entries == [True]


def test_the_stop_cancels_a_coroutine(caplog):
    log = Log()

    async def endless():
        log.add("waits")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            log.add("CancelledError")
            raise

    server = yais.Server("127.0.0.1:0")
    server.every(PERIOD, endless)
    server.start()
    log.wait("waits")
    assert server.stop()
    assert log.entries == ["waits", "CancelledError"]
    assert not caplog.records


def test_a_function_that_raises_ends_no_server(caplog):
    calls = Log()

    def fail():
        calls.add(None)
        raise ValueError("odd")

    with echoing(Held.fresh()) as client:
        client.server.every(PERIOD, fail)
        calls.wait_for_count(3)
        assert client.say("x") == "x"
    assert {str(record.exc_info[1]) for record in caplog.records} == {"odd"}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_it_may_stop_the_server(asynchronous):
    # The original's control function, which held the server's lock, could not.
    stopped = Log()
    server = yais.Server("127.0.0.1:0")

    def plain():
        stopped.add(server.stop())

    async def coroutine():
        await asyncio.to_thread(plain)

    server.every(PERIOD, coroutine if asynchronous else plain)
    server.start()
    assert server.wait(1.0)
    if not asynchronous:
        stopped.wait(True)


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_a_period_that_is_none(seconds):
    server = yais.Server("127.0.0.1:0")
    with pytest.raises(ValueError, match=f"got a period of {seconds} s, expected more than 0"):
        server.every(seconds, lambda: None)


def test_statistics_from_a_periodic_function():
    # What it is for.
    seen = Log()
    context = Held.fresh()
    with echoing(context) as client:
        client.server.every(PERIOD, lambda: seen.add(client.server.statistics()))
        call = client.begin("hold")
        context.started.wait("hold")
        seen.wait_for_count(len(seen) + 2)  # one that began after this, at least
        [of_say] = seen.entries[-1].methods.values()
        assert of_say.in_flight == 1
        context.finish("hold")
        assert call.result(SOON).text == "hold"
