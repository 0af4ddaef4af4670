"""The timer: order, cancellation, closing. No test asserts on how late a callback was."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yais.core.clock import NANOSECONDS, monotonic
from yais.core.timer import Timer

if TYPE_CHECKING:
    from collections.abc import Iterator

SOON = 20.0
"""Seconds after which a wait counts as lost."""

FAR = 3600 * NANOSECONDS


@pytest.fixture
def timer() -> Iterator[Timer]:
    timer = Timer("test-timer")
    yield timer
    assert timer.close(SOON)


def test_its_thread_is_woken_on_time(timer: Timer) -> None:
    read = threading.Event()
    slack: list[str] = []

    def look() -> None:
        slack.append(Path(f"/proc/{threading.get_native_id()}/timerslack_ns").read_text())
        read.set()

    timer.call_at(0, look)
    assert read.wait(SOON) and slack == ["1\n"]


class Gate:
    """Keeps the thread of a timer in one callback, so that what comes meanwhile is due together."""

    def __init__(self, timer: Timer) -> None:
        self._entered = threading.Event()
        self._open = threading.Event()
        timer.call_at(0, self._wait)
        assert self._entered.wait(SOON)

    def _wait(self) -> None:
        self._entered.set()
        self._open.wait(SOON)

    def open(self) -> None:
        self._open.set()


def flush(timer: Timer, when_ns: int) -> None:
    """Return once all that is due up to `when_ns` has run."""
    done = threading.Event()
    timer.call_at(when_ns, done.set)
    assert done.wait(SOON)


def test_never_before_its_moment(timer: Timer) -> None:
    ran_at: list[int] = []
    when = monotonic() + NANOSECONDS // 100
    timer.call_at(when, lambda: ran_at.append(monotonic()))
    flush(timer, when)
    assert len(ran_at) == 1
    assert ran_at[0] >= when


def test_an_earlier_one_overtakes(timer: Timer) -> None:
    order: list[str] = []
    timer.call_at(monotonic() + FAR, lambda: order.append("far"))
    timer.call_at(monotonic() + NANOSECONDS // 1000, lambda: order.append("near"))
    flush(timer, monotonic() + NANOSECONDS // 1000)
    assert order == ["near"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(min_value=1, max_value=5), st.booleans()), max_size=20))
def test_runs_by_moment_then_by_arrival_without_the_cancelled(calls: list[tuple[int, bool]]) -> None:
    timer = Timer()
    gate = Gate(timer)
    ran: list[int] = []
    handles = [
        timer.call_at(when, lambda index=index: ran.append(index))  # type: ignore[misc]
        for index, (when, _) in enumerate(calls)
    ]
    for handle, (_, cancel) in zip(handles, calls, strict=True):
        if cancel:
            assert handle.cancel() is True
            assert handle.cancel() is False
    gate.open()
    flush(timer, 6)
    kept = [index for index, (_, cancel) in enumerate(calls) if not cancel]
    assert ran == sorted(kept, key=lambda index: calls[index][0])
    assert [handle.cancel() for handle in handles] == [False] * len(calls)
    assert timer.close(SOON)


def test_cancelling_what_the_thread_sleeps_for(timer: Timer) -> None:
    ran: list[str] = []
    when = monotonic() + NANOSECONDS // 100
    handle = timer.call_at(when, lambda: ran.append("cancelled"))
    assert handle.cancel() is True
    flush(timer, when)
    assert ran == []


def test_cancelled_ones_do_not_pile_up(timer: Timer) -> None:
    kept = timer.call_at(monotonic() + FAR, lambda: None)
    for _ in range(1000):
        timer.call_at(monotonic() + FAR, lambda: None).cancel()
    assert len(timer._heap) <= 2
    assert kept.cancel() is True


def test_a_callback_may_schedule_and_cancel(timer: Timer) -> None:
    done = threading.Event()
    later = timer.call_at(monotonic() + FAR, lambda: None)
    cancelled: list[bool] = []

    def first() -> None:
        cancelled.append(later.cancel())
        timer.call_at(0, done.set)

    timer.call_at(0, first)
    assert done.wait(SOON)
    assert cancelled == [True]


def test_an_error_is_logged_and_stops_nothing(timer: Timer, caplog: pytest.LogCaptureFixture) -> None:
    def bad() -> None:
        raise KeyError("from the callback")

    with caplog.at_level(logging.ERROR):
        timer.call_at(0, bad)
        flush(timer, 1)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [KeyError]


def test_moments_are_those_of_the_clock() -> None:
    now = [0]
    timer = Timer("fake", clock=lambda: now[0])
    ran: list[str] = []
    timer.call_at(FAR, lambda: ran.append("far"))
    timer.call_at(10**30, lambda: ran.append("beyond any wait"))
    flush(timer, 0)
    assert ran == []
    now[0] = FAR
    flush(timer, 0)  # Wakes the thread, which now finds the far one due as well.
    flush(timer, FAR)
    assert ran == ["far"]
    assert timer.close(SOON)


def test_the_thread_starts_with_the_first_call_and_is_a_daemon() -> None:
    timer = Timer("lazy-timer")
    assert "lazy-timer" not in {thread.name for thread in threading.enumerate()}
    flush(timer, 0)
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "lazy-timer")
    assert thread.daemon
    assert timer.close(SOON)
    assert not thread.is_alive()


def test_close_drops_what_is_to_come() -> None:
    timer = Timer()
    ran: list[str] = []
    handle = timer.call_at(monotonic() + FAR, lambda: ran.append("late"))
    assert timer.close(SOON)
    assert timer.close(SOON)
    assert handle.cancel() is True
    assert ran == []
    with pytest.raises(RuntimeError, match="is closed"):
        timer.call_at(0, lambda: None)


def test_close_of_one_never_used() -> None:
    assert Timer().close(0.0)


def test_close_tells_when_a_callback_is_stuck() -> None:
    timer = Timer()
    gate = Gate(timer)
    assert timer.close(0.0) is False
    gate.open()
    assert timer.close(SOON) is True


def test_many_threads_at_once(timer: Timer) -> None:
    each, count = 200, 4
    start = threading.Barrier(count)
    ran: list[int] = []
    cancelled: list[int] = []

    def schedule(base: int) -> None:
        start.wait(SOON)
        for index in range(base, base + each):
            handle = timer.call_at(monotonic(), lambda index=index: ran.append(index))  # type: ignore[misc]
            if index % 3 == 0 and handle.cancel():
                cancelled.append(index)

    threads = [threading.Thread(target=schedule, args=(number * each,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    flush(timer, monotonic())
    assert sorted(ran + cancelled) == list(range(each * count))
