"""An asyncio loop on a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading

import pytest

import yais
from yais.core.loop_thread import LoopThread

SOON = 20.0


@pytest.fixture
def loop():
    thread = LoopThread("own-loop")
    yield thread
    assert thread.close(SOON)
    assert "own-loop" not in [thread.name for thread in threading.enumerate()]


def test_the_thread_starts_with_the_first_coroutine(loop):
    async def name():
        return threading.current_thread().name

    assert "own-loop" not in [thread.name for thread in threading.enumerate()]
    assert loop.spawn(name()).result(SOON) == "own-loop"


def test_a_coroutine_that_is_cancelled_before_its_first_step_still_takes_it(loop):
    blocks, go_on, steps = threading.Event(), threading.Event(), []

    async def block():
        blocks.set()
        assert go_on.wait(SOON)

    async def coroutine():
        steps.append("first")
        try:
            await asyncio.sleep(3600)
        finally:
            steps.append("last")

    blocking = loop.spawn(block())
    assert blocks.wait(SOON)
    future = loop.spawn(coroutine())
    assert future.cancel() is False
    assert future.running() and not future.done()
    go_on.set()
    with pytest.raises((asyncio.CancelledError, concurrent.futures.CancelledError)):
        future.result(SOON)
    assert steps == ["first", "last"]
    assert blocking.result(SOON) is None


def test_cancelling_what_is_done(loop):
    async def five():
        return 5

    future = loop.spawn(five())
    assert future.result(SOON) == 5
    assert future.cancel() is False
    assert future.result(SOON) == 5


def test_closing_cancels_what_still_runs():
    loop = LoopThread("own-loop")
    waits = threading.Event()

    async def wait(seconds):
        waits.set()
        await asyncio.sleep(seconds)

    futures = [loop.spawn(wait(3600)) for _ in range(3)]
    assert waits.wait(SOON)
    assert loop.close(SOON)
    for future in futures:
        with pytest.raises((asyncio.CancelledError, concurrent.futures.CancelledError)):
            future.result(SOON)
        assert future.cancel() is False
    assert loop.close(SOON)


@pytest.mark.parametrize("used", [False, True])
def test_a_closed_loop_takes_nothing(used):
    loop = LoopThread("own-loop")

    async def five():
        return 5

    if used:
        assert loop.spawn(five()).result(SOON) == 5
    assert loop.close(SOON)
    with pytest.raises(yais.Unavailable, match="the server has stopped"):
        loop.spawn(five())  # closed, or it would warn that it was never awaited


def test_closing_gives_up_on_what_does_not_end():
    loop = LoopThread("own-loop")
    may_end, waits = threading.Event(), threading.Event()

    async def block():
        waits.set()
        assert may_end.wait(SOON)

    future = loop.spawn(block())
    assert waits.wait(SOON)
    assert loop.close(0.01) is False
    may_end.set()
    assert future.result(SOON) is None
    assert loop.close(SOON)


def test_closed_before_its_thread_runs(monkeypatch):
    closing = threading.Event()
    monkeypatch.setattr("yais.core.loop_thread.name_thread", lambda _: closing.wait(SOON))
    monkeypatch.setattr("yais.core.loop_thread._new_loop", asyncio.new_event_loop)  # whatever is installed
    loop = LoopThread("own-loop")

    async def answer():
        return 1

    future = loop.spawn(answer())
    assert not loop.close(0.0)
    closing.set()
    assert loop.close(SOON)
    assert future.result(SOON) == 1
