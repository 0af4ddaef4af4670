"""The thread pool as a standard executor, and what it adds: names, pinning, a bounded queue, closing."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yais.core.affinity import allowed_cpus
from yais.core.cpu_set import CpuSet
from yais.core.future import Future
from yais.core.thread_pool import ThreadPool, ThreadPoolStatistics, name_thread
from yais.errors import ResourceExhausted

if TYPE_CHECKING:
    from collections.abc import Iterator

SOON = 10.0
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
        assert pool.statistics() == ThreadPoolStatistics(threads=2, busy=0, queued=0, completed=0)
        gate = Gate(pool, 2)
        pool.submit(int).cancel()
        assert pool.statistics() == ThreadPoolStatistics(threads=2, busy=2, queued=1, completed=0)
        assert repr(pool) == "<ThreadPool decode: 2 of 2 threads busy, 1 queued>"
        gate.open()
    assert pool.statistics() == ThreadPoolStatistics(threads=2, busy=0, queued=0, completed=3)


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


@pytest.mark.parametrize("cpus", ["", "8000", "x"])
def test_cpus_that_are_not_allowed_are_refused(cpus: str) -> None:
    threads = threading.active_count()
    with pytest.raises(ValueError, match="got CPU"):
        ThreadPool(2, name="pinned", cpus=cpus)
    assert threading.active_count() == threads


# --- As a standard executor ---------------------------------------------------------------------------


async def test_run_in_executor(pool: ThreadPool) -> None:
    loop = asyncio.get_running_loop()
    results = await asyncio.gather(*(loop.run_in_executor(pool, pow, 2, index) for index in range(10)))
    assert results == [2**index for index in range(10)]


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
    assert pool.statistics() == ThreadPoolStatistics(threads=2, busy=0, queued=0, completed=5)


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
