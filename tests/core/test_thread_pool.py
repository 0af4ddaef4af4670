"""The thread pool as a standard executor, and what it adds: names, pinning, a bounded queue, closing."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import gc
import logging
import sys
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yais.core.affinity import allowed_cpus
from yais.core.cpu_set import CpuSet
from yais.core.future import Future
from yais.core.thread_pool import ThreadPool, ThreadPoolStatistics, name_thread
from yais.errors import ResourceExhausted
from yais.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOON = 20.0
"""Seconds after which a wait counts as lost."""


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    pool = ThreadPool(2, name="test")
    yield pool
    assert pool.close(SOON)


class Gate:
    """Occupies threads of a pool until opened."""

    def __init__(self, pool: ThreadPool, threads: int) -> None:
        self._entered = threading.Semaphore(0)
        self._open = threading.Event()
        self.futures = [pool.submit(self._wait) for _ in range(threads)]
        for _ in range(threads):
            assert self._entered.acquire(timeout=SOON)

    def _wait(self) -> None:
        self._entered.release()
        assert self._open.wait(SOON)

    def open(self) -> None:
        self._open.set()


def numbers(pool: ThreadPool) -> tuple[int, int, int, int]:
    now = pool.statistics()
    return now.busy, now.queued, now.completed, now.failed


# --- Submitting ---------------------------------------------------------------------------------------


def test_results_and_arguments(pool: ThreadPool) -> None:
    future = pool.submit(lambda *args, **kwargs: (args, kwargs), 1, 2, fn=3)
    assert isinstance(future, Future)
    assert future.result(SOON) == ((1, 2), {"fn": 3})


@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(3), KeyboardInterrupt()])
def test_errors_go_to_the_future(pool: ThreadPool, error: BaseException) -> None:
    def fail() -> None:
        raise error

    assert pool.submit(fail).exception(SOON) is error
    assert pool.submit(int).result(SOON) == 0


def test_in_the_order_of_submission() -> None:
    ran: list[int] = []
    with ThreadPool(1, name="one") as pool:
        for index in range(100):
            pool.submit(ran.append, index)
    assert ran == list(range(100))


def test_a_cancelled_call_is_not_run() -> None:
    ran: list[str] = []
    with ThreadPool(1, name="one") as pool:
        gate = Gate(pool, 1)
        cancelled = pool.submit(ran.append, "cancelled")
        kept = pool.submit(ran.append, "kept")
        assert cancelled.cancel()
        assert not gate.futures[0].cancel()
        gate.open()
        kept.result(SOON)
    assert ran == ["kept"]


def test_a_finished_call_is_not_kept_alive(pool: ThreadPool) -> None:
    class Argument:
        pass

    def fail(_: Argument) -> None:
        raise KeyError

    argument = Argument()
    gone = threading.Event()
    weakref.finalize(argument, gone.set)
    gc.disable()
    try:
        pool.submit(id, argument).result(SOON)
        pool.submit(fail, argument).exception(SOON)
        del argument
        assert gone.wait(SOON)
    finally:
        gc.enable()


def test_a_callback_that_ends_the_thread_does_not(pool: ThreadPool, caplog: pytest.LogCaptureFixture) -> None:
    def leave(_: object) -> None:
        raise SystemExit

    with caplog.at_level(logging.ERROR):
        for _ in range(4):
            gate = Gate(pool, 2)
            for future in gate.futures:
                future.add_done_callback(leave)
            gate.open()
        assert pool.submit(int).result(SOON) == 0
    assert len(caplog.records) >= 6


# --- The bounded queue --------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(threads=st.integers(1, 3), max_queue=st.integers(0, 4))
def test_exactly_max_queue_calls_wait(threads: int, max_queue: int) -> None:
    with ThreadPool(threads, name="bounded", max_queue=max_queue) as pool:
        for _ in range(2):
            gate = Gate(pool, threads)
            waiting = [pool.submit(int) for _ in range(max_queue)]
            with pytest.raises(ResourceExhausted, match=f"{threads} threads busy, {max_queue} queued"):
                pool.submit(int)
            assert pool.statistics().queued == max_queue
            gate.open()
            # Once a future is done its place is free: the next round takes them all again.
            futures: list[Future[Any]] = [*gate.futures, *waiting]
            assert not concurrent.futures.wait(futures, SOON).not_done


def test_the_place_of_a_call_is_free_when_its_future_is_done() -> None:
    with ThreadPool(1, name="bounded", max_queue=0) as pool:
        second: Future[Future[int]] = Future()
        gate = Gate(pool, 1)
        gate.futures[0].add_done_callback(lambda _: second.set_result(pool.submit(int)))
        gate.open()
        assert second.result(SOON).result(SOON) == 0


def test_statistics_and_status_line() -> None:
    with ThreadPool(2, name="decode") as pool:
        assert pool.statistics() == ThreadPoolStatistics(2, 0, 0, 0, 0, 0.0, 0.0)
        gate = Gate(pool, 2)
        pool.submit(int).cancel()
        assert numbers(pool) == (2, 1, 0, 0)
        assert repr(pool) == "<ThreadPool decode: 2 of 2 threads busy, 1 queued>"
        gate.open()
    assert numbers(pool) == (0, 0, 3, 0)


def test_failed_calls_are_counted_before_their_futures_are_done(pool: ThreadPool) -> None:
    for number in range(1, 4):
        assert isinstance(pool.submit(int, "x").exception(SOON), ValueError)
        assert numbers(pool) == (0, 0, number, number)


def test_waiting_and_running_are_timed_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    monkeypatch.setattr("yais.core.thread_pool.monotonic", clock)
    with ThreadPool(1, name="timed") as pool:
        gate = Gate(pool, 1)
        clock.advance(0.25)
        pool.submit(clock.advance, 2.0)
        cancelled = pool.submit(clock.advance, 100.0)
        clock.advance(0.5)
        assert cancelled.cancel()
        gate.open()
    now = pool.statistics()
    assert (now.wait_seconds_total, now.busy_seconds_total) == (0.5, 2.75)


@pytest.mark.parametrize(("threads", "max_queue"), [(0, None), (-1, None), (1, -1)])
def test_bad_numbers_are_refused(threads: int, max_queue: int | None) -> None:
    with pytest.raises(ValueError, match=f"got threads={threads}, max_queue={max_queue}, expected"):
        ThreadPool(threads, name="bad", max_queue=max_queue)


# --- Threads ------------------------------------------------------------------------------------------


def comm() -> str:
    return Path(f"/proc/self/task/{threading.get_native_id()}/comm").read_text().rstrip("\n")


def test_threads_are_named_for_python_and_linux() -> None:
    with ThreadPool(1, name="a-name-longer-than-linux-keeps") as pool:
        assert pool.submit(lambda: threading.current_thread().name).result(SOON) == (
            "a-name-longer-than-linux-keeps-0"
        )
        assert pool.submit(comm).result(SOON) == "a-name-longer-0"
        assert pool.submit(lambda: threading.current_thread().daemon).result(SOON)


def test_name_thread_cuts_whole_characters() -> None:
    def named() -> str:
        name_thread("é" * 10, "-7")
        return comm()

    with ThreadPool(1, name="cut") as pool:
        assert pool.submit(named).result(SOON) == "é" * 6 + "-7"


def test_threads_are_pinned_and_the_caller_is_not() -> None:
    before = allowed_cpus()
    one = CpuSet([max(before)])
    for cpus in (one, str(one)):
        with ThreadPool(2, name="pinned", cpus=cpus) as pool:
            start = threading.Barrier(2)

            def seen(start: threading.Barrier = start) -> CpuSet:
                start.wait(SOON)
                return allowed_cpus()

            assert [future.result(SOON) for future in [pool.submit(seen), pool.submit(seen)]] == [one, one]
    assert allowed_cpus() == before


def test_one_pinned_thread_for_each_cpu() -> None:
    before = allowed_cpus()
    for cpus in (before, str(before)):
        with ThreadPool.per_cpu(cpus, name="each", max_queue=3) as pool:
            start = threading.Barrier(len(before))

            def seen(start: threading.Barrier = start) -> tuple[str, CpuSet]:
                start.wait(SOON)
                return threading.current_thread().name, allowed_cpus()

            futures = [pool.submit(seen) for _ in before]
            assert sorted(future.result(SOON) for future in futures) == [
                (f"each-{index}", CpuSet([cpu])) for index, cpu in enumerate(before)
            ]
            assert pool.statistics().threads == len(before)
    assert allowed_cpus() == before


@pytest.mark.parametrize("cpus", ["", "8000", "x"])
def test_cpus_that_are_not_allowed_are_refused(cpus: str) -> None:
    before = set(threading.enumerate())
    with pytest.raises(ValueError, match="got CPU"):
        ThreadPool(2, name="pinned", cpus=cpus)
    with pytest.raises(ValueError, match="got"):
        ThreadPool.per_cpu(cpus, name="pinned")
    with pytest.raises(ValueError, match="got CPU"):
        ThreadPool.per_cpu(CpuSet([min(allowed_cpus()), 8000]), name="pinned")
    # Also the thread of the CPU that is allowed has ended.
    assert not set(threading.enumerate()) - before


def test_an_idle_thread_is_woken_though_another_is_busy() -> None:
    """Which of them is woken must not matter: each round finds other threads idle."""
    with ThreadPool(3, name="idle") as pool:
        for busy in (1, 2, 1, 2):
            gate = Gate(pool, busy)
            assert [pool.submit(int).result(SOON) for _ in range(50)] == [0] * 50
            gate.open()


# --- As a standard executor ---------------------------------------------------------------------------


@pytest.mark.parametrize("max_queue", [None, 4])
def test_no_call_is_left_beside_an_idle_thread(max_queue: int | None) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with (
            ThreadPool(3, name="busy", max_queue=max_queue) as pool,
            ThreadPool(4, name="callers") as callers,
        ):

            def call() -> int:
                return sum(pool.submit(int, index).result(SOON) for index in range(150))

            assert [each.result(SOON) for each in [callers.submit(call) for _ in range(4)]] == [11175] * 4
            assert numbers(pool) == (0, 0, 600, 0)
    finally:
        sys.setswitchinterval(interval)


class LateIdle(list[Any]):
    """Runs something just before a thread is seen as idle."""

    def __init__(self, before: Callable[[], None]) -> None:
        super().__init__()
        self._before = [before]

    def append(self, awake: Any) -> None:
        if self._before:
            self._before.pop()()
        super().append(awake)


def test_a_call_that_comes_as_its_thread_goes_idle() -> None:
    submitted: Future[Future[int]] = Future()
    with ThreadPool(1, name="late") as pool:
        gate = Gate(pool, 1)
        pool._idle = LateIdle(lambda: submitted.set_result(pool.submit(int)))
        gate.open()
        assert submitted.result(SOON).result(SOON) == 0


def test_closing_as_a_thread_goes_idle() -> None:
    pool = ThreadPool(1, name="late")
    gate = Gate(pool, 1)
    closing = threading.Event()

    def close() -> None:
        pool.shutdown(wait=False)
        closing.set()

    pool._idle = LateIdle(close)
    gate.open()
    assert closing.wait(SOON)
    pool._started[0].join(SOON)  # Not `close`: that would wake it once more.
    assert not pool._started[0].is_alive()


def test_a_call_that_comes_before_closing_as_a_thread_looks_for_the_last_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hooks: list[Callable[[], None]] = []

    class LateCalls(collections.deque[Any]):
        def popleft(self) -> Any:
            try:
                return super().popleft()
            except IndexError:
                if hooks:
                    hooks.pop()()
                raise

    submitted: Future[Future[int]] = Future()
    with monkeypatch.context() as patch:
        patch.setattr("yais.core.thread_pool.collections", SimpleNamespace(deque=LateCalls))
        pool = ThreadPool(1, name="late")
    gate = Gate(pool, 1)

    def submit_and_close() -> None:
        submitted.set_result(pool.submit(int))
        pool.shutdown(wait=False)

    hooks.append(submit_and_close)
    gate.open()
    assert submitted.result(SOON).result(SOON) == 0
    assert pool.close(SOON) is True


async def test_run_in_executor(pool: ThreadPool) -> None:
    loop = asyncio.get_running_loop()
    results = await asyncio.gather(*(loop.run_in_executor(pool, pow, 2, index) for index in range(10)))
    assert results == [2**index for index in range(10)]


def test_as_the_default_executor_of_a_loop() -> None:
    pool = ThreadPool(1, name="default")

    async def name() -> str:
        asyncio.get_running_loop().set_default_executor(pool)
        return await asyncio.to_thread(lambda: threading.current_thread().name)

    assert asyncio.run(name()) == "default-0"
    # The loop shuts its executor down.
    with pytest.raises(RuntimeError, match="is shut down"):
        pool.submit(int)


async def test_wrap_future(pool: ThreadPool) -> None:
    assert await asyncio.wrap_future(pool.submit(pow, 2, 3)) == 8


async def test_awaiting_a_call(pool: ThreadPool) -> None:
    assert await pool.submit(pow, 2, 3) == 8


def test_map_wait_and_as_completed(pool: ThreadPool) -> None:
    assert list(pool.map(pow, [2, 3], [2, 3], timeout=SOON)) == [4, 27]
    futures = [pool.submit(int, index) for index in range(20)]
    assert {future.result(0) for future in concurrent.futures.as_completed(futures, SOON)} == set(range(20))
    assert concurrent.futures.wait(futures, SOON).not_done == set()


# --- Ending -------------------------------------------------------------------------------------------


def test_shutdown_finishes_what_is_queued_and_takes_no_more() -> None:
    pool = ThreadPool(1, name="closing")
    gate = Gate(pool, 1)
    queued = pool.submit(int)
    pool.shutdown(wait=False)
    with pytest.raises(RuntimeError, match=r"<ThreadPool closing: .*> is shut down"):
        pool.submit(int)
    gate.open()
    pool.shutdown()
    pool.shutdown()
    assert queued.result(0) == 0
    assert pool.close(0.0) is True


def test_shutdown_cancels_what_is_queued() -> None:
    pool = ThreadPool(2, name="closing")
    gate = Gate(pool, 2)
    queued = [pool.submit(int) for _ in range(3)]
    pool.shutdown(wait=False)
    pool.shutdown(wait=False, cancel_futures=True)  # After the end was announced, too.
    assert all(future.cancelled() for future in queued)
    assert not any(future.cancelled() for future in gate.futures)
    gate.open()
    pool.shutdown()
    assert numbers(pool) == (0, 0, 5, 0)


def test_close_discards_what_is_queued() -> None:
    pool = ThreadPool(2, name="closing")
    gate = Gate(pool, 2)
    queued = [pool.submit(int) for _ in range(3)]
    assert pool.close(0.0) is False
    assert not any(future.cancelled() for future in queued)
    assert pool.close(0.0, discard=True) is False
    assert all(future.cancelled() for future in queued)
    gate.open()
    assert pool.close(SOON) is True
    assert all(future.result(0) is None for future in gate.futures)


def test_close_tells_when_a_call_is_stuck() -> None:
    pool = ThreadPool(2, name="stuck")
    gate = Gate(pool, 1)
    assert pool.close(0.0) is False
    gate.open()
    assert pool.close(SOON) is True


def test_submitting_and_shutting_down_from_many_threads() -> None:
    pool = ThreadPool(3, name="race")
    count = 4
    start = threading.Barrier(count + 1)
    accepted: list[Future[int]] = []

    def submit() -> None:
        start.wait(SOON)
        try:
            while True:
                accepted.append(pool.submit(int))
        except RuntimeError:
            pass

    threads = [threading.Thread(target=submit) for _ in range(count)]
    for thread in threads:
        thread.start()
    start.wait(SOON)
    assert pool.close(SOON)
    for thread in threads:
        thread.join(SOON)
    # All that was accepted was done before the threads ended.
    assert all(future.done() for future in accepted)
    assert pool.statistics().completed == len(accepted)
