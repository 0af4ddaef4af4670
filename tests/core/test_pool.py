"""The pool: no item lost, none lent twice, and first come first served among threads and tasks."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import gc
import logging
import random
import sys
import threading
import warnings
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from yais.core.future import Future
from yais.core.pool import Lease, Pool, PoolStatistics
from yais.errors import DeadlineExceeded, Unavailable, YaisError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

SOON = 20.0
"""Seconds after which a wait counts as lost."""


class WatchedPool(Pool[int]):
    """Counts in `placed` the callers that have joined the queue."""

    def __init__(self, size: int) -> None:
        super().__init__(range(size), name="watched")
        self.placed = threading.Semaphore(0)

    def _join(self, waiter: Future[Lease[int]]) -> None:
        super()._join(waiter)
        self.placed.release()


class Waiter:
    """A thread that waits for a lease; made only once it stands in the queue."""

    def __init__(self, pool: WatchedPool, timeout: float = SOON) -> None:
        self._lease: Lease[int] | None = None
        self.error: Exception | None = None
        self._got = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(pool, timeout))
        self._thread.start()
        assert pool.placed.acquire(timeout=SOON)

    def _run(self, pool: WatchedPool, timeout: float) -> None:
        try:
            self._lease = pool.acquire(timeout)
        except YaisError as error:
            self.error = error
        self._got.set()

    def lease(self) -> Lease[int]:
        self.wait()
        assert self._lease is not None, self.error
        return self._lease

    def wait(self) -> None:
        assert self._got.wait(SOON)
        self._thread.join(SOON)

    def done(self) -> bool:
        return self._got.is_set()


# --- One caller ---------------------------------------------------------------------------------------


def test_lends_each_item_once_the_last_returned_first() -> None:
    pool = Pool("abc", name="letters")
    with pool.acquire(0.0) as first, pool.acquire(0.0) as second:
        assert (first, second) == ("a", "b")
        third = pool.acquire(0.0)
        assert third.item == "c"
        assert pool.try_acquire() is None
        third.release()
        with pool.acquire(0.0) as again:
            assert again == "c"
    with pool.acquire(0.0) as item:
        assert item == "a"


def test_items_may_be_equal_or_not_hashable() -> None:
    buffer = bytearray(1)
    pool = Pool([buffer, buffer])
    with pool.acquire(0.0) as first, pool.acquire(0.0) as second:
        assert first is second


def test_the_lease_returns_its_item_after_an_error() -> None:
    pool = Pool([1])
    with pytest.raises(KeyError), pool.acquire(0.0):
        raise KeyError
    assert pool.statistics().available == 1


def test_an_empty_pool_is_refused() -> None:
    with pytest.raises(ValueError, match="pool 'lanes': got no items, expected at least one"):
        Pool([], name="lanes")


def test_nothing_in_time_is_an_error_with_the_numbers() -> None:
    pool = Pool([1], name="lanes")
    with pool.acquire(0.0):
        for timeout in (0.0, -1.0, 0.001):
            with pytest.raises(DeadlineExceeded, match=f"<Pool lanes: 0 of 1 free, 0 waiting>.*{timeout} s"):
                pool.acquire(timeout)
    assert pool.statistics().available == 1


async def test_nothing_in_time_is_the_same_error_for_a_task() -> None:
    pool = Pool([1], name="lanes")
    with pool.acquire(0.0):
        for timeout in (0.0, 0.001):
            with pytest.raises(DeadlineExceeded, match=f"<Pool lanes: 0 of 1 free, 0 waiting>.*{timeout} s"):
                await pool.acquire_async(timeout)
    with await pool.acquire_async(0.0) as item:
        assert item == 1


def test_an_impossible_timeout_leaves_nobody_in_the_queue() -> None:
    pool = Pool([1])
    with pool.acquire(0.0):
        with pytest.raises(OverflowError):
            pool.acquire(1e300)
        assert pool.statistics().waiting == 0


def test_statistics_and_status_line() -> None:
    pool = WatchedPool(2)
    assert pool.statistics() == PoolStatistics(2, 2, 0, 0, 0, 0.0)
    first, second = pool.acquire(0.0), pool.acquire(0.0)
    waiter = Waiter(pool)
    assert repr(pool) == "<Pool watched: 0 of 2 free, 1 waiting>"
    first.release()
    now = pool.statistics()
    assert (now.size, now.available, now.lent) == (2, 0, 2)
    waiter.lease().release()
    second.release()
    now = pool.statistics()
    assert now == PoolStatistics(2, 2, 0, 0, 1, now.wait_seconds_total)
    assert now.wait_seconds_total > 0
    assert repr(pool) == "<Pool watched: 2 of 2 free, 0 waiting>"


# --- Returning ----------------------------------------------------------------------------------------


def test_on_return_runs_before_the_item_is_available() -> None:
    seen: list[tuple[int, int]] = []
    pool: Pool[int] = Pool([7], on_return=lambda item: seen.append((item, pool.statistics().available)))
    lease = pool.acquire(0.0)
    lease.release()
    lease.release()
    assert seen == [(7, 0)]
    assert pool.statistics().available == 1


def test_what_on_return_raises_is_logged_and_the_item_returns(caplog: pytest.LogCaptureFixture) -> None:
    def bad(_: int) -> None:
        raise KeyError("from on_return")

    pool = Pool([7], name="lanes", on_return=bad)
    with caplog.at_level(logging.ERROR):
        pool.acquire(0.0).release()
    assert pool.statistics().available == 1
    (record,) = caplog.records
    assert "pool 'lanes'" in record.getMessage()


def test_many_threads_release_one_lease_once() -> None:
    for _ in range(50):
        returned: list[int] = []
        pool = Pool([7], on_return=returned.append)
        lease = pool.acquire(0.0)
        start = threading.Barrier(4)

        def release(lease: Lease[int] = lease, start: threading.Barrier = start) -> None:
            start.wait(SOON)
            lease.release()

        threads = [threading.Thread(target=release) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
        assert returned == [7]
        assert pool.statistics().available == 1


def test_a_lost_lease_warns_and_returns_its_item() -> None:
    returned: list[int] = []
    pool = Pool([7], name="lanes", on_return=returned.append)
    lease = pool.acquire(0.0)
    with pytest.warns(ResourceWarning, match="<Lease of 7 from pool 'lanes': held> was never released"):
        del lease
    assert returned == [7]
    assert pool.statistics().available == 1


def test_a_lease_lost_in_a_cycle_goes_to_who_waits() -> None:
    pool = WatchedPool(1)
    cycle: list[object] = [pool.acquire(0.0)]
    cycle.append(cycle)
    waiter = Waiter(pool)
    del cycle
    with pytest.warns(ResourceWarning):
        gc.collect()
    waiter.lease().release()


def test_a_released_lease_is_dropped_in_silence() -> None:
    pool = Pool([7])
    lease = pool.acquire(0.0)
    lease.release()
    assert repr(lease) == "<Lease of 7 from pool '': released>"
    del lease


def test_a_release_within_the_pool_itself_does_not_deadlock() -> None:
    """As when the garbage collector finds a lost lease while the pool holds its lock."""
    pool = WatchedPool(1)
    lease = pool.acquire(0.0)
    waiter = Waiter(pool)
    with pool._lock:
        lease.release()
        assert not waiter.done()
        # What is free now is for who waits.
        assert pool.try_acquire() is None
        with pytest.raises(DeadlineExceeded):
            pool.acquire(0.0)
    pool._settle()  # As everybody does who has held the lock.
    waiter.lease().release()


def test_a_release_while_another_gives_up_is_not_forgotten() -> None:
    pool = WatchedPool(1)
    lease = pool.acquire(0.0)

    class Interrupted(collections.OrderedDict["Future[Lease[int]]", int]):
        def pop(self, waiter: Future[Lease[int]]) -> int:  # type: ignore[override]
            lease.release()
            return super().pop(waiter)

    pool._waiting = pool._queue.places = Interrupted()  # type: ignore[assignment]
    with contextlib.suppress(KeyError), pool._place(SOON):
        assert pool.placed.acquire(timeout=SOON)
        next_one = Waiter(pool)
        raise KeyError
    next_one.lease().release()


def test_a_place_that_is_cancelled_is_passed_over() -> None:
    """As in the moment between the cancellation of a task and the task's next step."""
    pool = WatchedPool(1)
    lease = pool.acquire(0.0)
    with contextlib.ExitStack() as stack:
        cancelled = stack.enter_context(pool._place(SOON))
        assert pool.placed.acquire(timeout=SOON)
        waiter = Waiter(pool)
        cancelled.cancel()
        lease.release()
        waiter.lease().release()
    assert pool.statistics().available == 1


def test_a_lease_that_is_kept_is_not_lent_again() -> None:
    pool = Pool([7])
    first = pool.acquire(0.0)
    first.release()
    second = pool.acquire(0.0)
    first.release()
    assert pool.try_acquire() is None
    second.release()
    assert pool.statistics().available == 1


def test_a_pool_is_freed_without_the_garbage_collector() -> None:
    class Item:
        pass

    item = Item()
    gone = weakref.ref(item)
    pool = Pool([item])
    with pool.acquire(0.0):
        pass
    del item
    gc.disable()
    try:
        lease = pool.acquire(0.0)
        del pool  # A lease keeps its pool.
        assert "pool ''" in repr(lease)
        lease.release()
        del lease
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("on_return", [None, int])
def test_on_return_may_end_the_thread(on_return: Callable[[int], object] | None) -> None:
    def leave(_: int) -> None:
        raise SystemExit

    pool = Pool([7], on_return=leave if on_return else None)
    lease = pool.acquire(0.0)
    with pytest.raises(SystemExit) if on_return else contextlib.nullcontext():
        lease.release()
    assert pool.statistics().available == 1


@pytest.mark.parametrize("on_return", [None, lambda _: None])
def test_an_interrupt_at_any_step_loses_no_item(on_return: Callable[[int], None] | None) -> None:
    pool = Pool([7], on_return=on_return)

    def use() -> None:
        with pool.acquire(0.0):
            pass

    def interrupt_at(step: int) -> bool:
        """Raise after so many steps of the interpreter in the pool; return whether there were so many."""
        left = step

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal left
            if frame.f_code.co_filename != Pool.acquire.__code__.co_filename or "__del__" in str(frame):
                return None
            frame.f_trace_opcodes = True
            if event == "opcode":
                left -= 1
                if left == 0:
                    raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            use()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    step = 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        while interrupt_at(step):
            assert pool.statistics().available == 1, f"lost at step {step}"
            step += 1
    assert step > 30


# --- Futures, growing, shrinking, closing --------------------------------------------------------------


def test_a_future_completes_on_the_thread_that_returns_the_item() -> None:
    pool = Pool([7])
    lease = pool.acquire(0.0)
    threads: list[threading.Thread] = []
    future = pool.acquire_future()
    future.add_done_callback(lambda _: threads.append(threading.current_thread()))
    assert not future.done()
    lease.release()
    assert threads == [threading.current_thread()]
    with future.result(0) as item:
        assert item == 7
    with pool.acquire_future().result(0) as item:
        assert item == 7


def test_a_cancelled_future_gives_up_its_place() -> None:
    pool = Pool([7])
    lease = pool.acquire(0.0)
    first, second = pool.acquire_future(), pool.acquire_future()
    assert pool.statistics().waiting == 2
    assert first.cancel()
    assert pool.statistics().waiting == 1
    lease.release()
    assert not second.cancel()
    second.result(0).release()
    assert pool.statistics().available == 1


def test_a_future_that_is_dropped_returns_its_item() -> None:
    pool = Pool([7])
    lease = pool.acquire(0.0)
    future = pool.acquire_future()
    lease.release()
    assert not future.cancel()
    with pytest.warns(ResourceWarning):
        del future
    assert pool.statistics().available == 1


def test_what_is_added_goes_to_who_waits() -> None:
    pool = Pool([1])
    lease = pool.acquire(0.0)
    future = pool.acquire_future()
    pool.add(2)
    assert future.result(0).item == 2
    assert pool.statistics().size == 2
    lease.release()
    future.result(0).release()


def test_what_is_removed_is_the_callers() -> None:
    pool = Pool([1, 2])
    lease = pool.acquire(0.0)
    assert pool.remove().result(0) == 2
    waiting = pool.acquire_future()
    removal = pool.remove()
    assert not removal.cancel()
    assert repr(pool) == "<Pool : 0 of 1 free, 1 waiting>"
    with pytest.raises(ValueError, match="one more removal, expected an item that is not removed yet"):
        pool.remove()
    lease.release()
    assert removal.result(0) == 1
    assert pool.statistics().size == 0
    assert not waiting.done()
    pool.add(3)
    with waiting.result(0) as item:
        assert item == 3


async def test_closing_ends_every_kind_of_wait() -> None:
    pool = WatchedPool(1)
    lease = pool.acquire(0.0)
    thread = await asyncio.to_thread(Waiter, pool)
    task = asyncio.create_task(pool.acquire_async(SOON))
    await asyncio.sleep(0)
    future = pool.acquire_future()
    assert pool.close(0.0) is False
    await asyncio.to_thread(thread.wait)
    text = "<Pool watched: 0 of 1 free, 0 waiting, closed> lends nothing any more, expected an open one"
    assert isinstance(thread.error, Unavailable)
    for error in (thread.error, future.exception(0), pool.acquire_future().exception(0)):
        assert isinstance(error, Unavailable) and str(error) == text
    with pytest.raises(Unavailable):
        await task
    for acquire in (pool.try_acquire, lambda: pool.acquire(0.0), lambda: pool.add(1)):
        with pytest.raises(Unavailable, match="lends nothing any more"):
            acquire()
    with pytest.raises(Unavailable):
        await pool.acquire_async(0.0)
    lease.release()
    assert pool.close(0.0) is True
    assert pool.statistics().size == 0


def test_closing_waits_for_what_is_lent() -> None:
    pool = WatchedPool(2)
    lease = pool.acquire(0.0)
    removal = pool.remove()
    other = pool.remove()
    closed: list[bool] = []
    thread = threading.Thread(target=lambda: closed.append(pool.close(SOON)))
    thread.start()
    lease.release()
    thread.join(SOON)
    assert closed == [True]
    assert {removal.result(0), other.result(0)} == {0, 1}


# --- The queue ----------------------------------------------------------------------------------------


async def test_threads_and_tasks_stand_in_one_queue() -> None:
    pool = WatchedPool(1)
    lease = pool.acquire(0.0)
    order: list[int] = []

    async def take(number: int) -> None:
        with await pool.acquire_async(SOON):
            order.append(number)

    def take_on_a_thread(number: int) -> None:
        with pool.acquire(SOON):
            order.append(number)

    jobs: list[asyncio.Future[None]] = []
    for number in range(0, 8, 2):
        jobs.append(asyncio.ensure_future(take(number)))
        await asyncio.sleep(0)
        jobs.append(asyncio.ensure_future(asyncio.to_thread(take_on_a_thread, number + 1)))
        for _ in range(2):
            assert await asyncio.to_thread(pool.placed.acquire, timeout=SOON)
    assert pool.statistics().waiting == 8
    lease.release()
    await asyncio.gather(*jobs)
    assert order == list(range(8))


async def test_nobody_overtakes_the_queue() -> None:
    pool = WatchedPool(1)
    lease = pool.acquire(0.0)
    waiting = asyncio.create_task(pool.acquire_async(SOON))
    await asyncio.sleep(0)
    lease.release()  # The task has the item from here on, though it has not run yet.
    assert pool.try_acquire() is None
    (await waiting).release()
    assert pool.statistics().available == 1


@pytest.mark.parametrize("on_its_way", [False, True])
async def test_a_cancelled_task_swallows_nothing(on_its_way: bool) -> None:
    pool = WatchedPool(1)
    lease = pool.acquire(0.0)
    cancelled = asyncio.create_task(pool.acquire_async(SOON))
    next_one = asyncio.create_task(pool.acquire_async(SOON))
    await asyncio.sleep(0)
    if on_its_way:
        lease.release()
        assert pool.statistics().waiting == 1
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    lease.release()
    with await next_one as item:
        assert item == 0
    now = pool.statistics()
    assert (now.available, now.waiting, now.waits_total) == (1, 0, 2)


async def test_a_task_that_times_out_as_the_item_comes_swallows_nothing() -> None:
    pool = WatchedPool(1)
    lease = pool.acquire(0.0)
    late = asyncio.create_task(pool.acquire_async(0.0))
    await asyncio.sleep(0)
    lease.release()
    with contextlib.suppress(DeadlineExceeded):
        (await late).release()
    assert pool.statistics().available == 1


def test_a_loop_that_ends_leaves_nobody_in_the_queue() -> None:
    pool = WatchedPool(1)
    lease = pool.acquire(0.0)

    async def give_up() -> None:
        waiting = asyncio.create_task(pool.acquire_async(SOON))
        await asyncio.sleep(0)
        assert not waiting.done()

    asyncio.run(give_up())
    assert pool.statistics().waiting == 0
    lease.release()
    assert pool.statistics().available == 1


def test_threads_and_tasks_at_random() -> None:
    size, rounds = 3, 150
    pool = WatchedPool(size)
    held = [threading.Lock() for _ in range(size)]
    start = threading.Barrier(4)

    @contextlib.contextmanager
    def alone(lease: Lease[int]) -> Iterator[None]:
        with lease as item:
            assert held[item].acquire(blocking=False), "lent twice"
            try:
                yield
            finally:
                held[item].release()

    errors: list[BaseException] = []

    def thread(seed: int) -> None:
        chance = random.Random(seed)
        try:
            start.wait(SOON)
            for _ in range(rounds):
                with (
                    contextlib.suppress(DeadlineExceeded),
                    alone(pool.acquire(chance.choice([0.0, 1e-5, SOON]))),
                ):
                    pass
        except BaseException as error:
            errors.append(error)

    async def tasks(seed: int) -> None:
        chance = random.Random(seed)

        async def take(seconds: float) -> None:
            with contextlib.suppress(DeadlineExceeded), alone(await pool.acquire_async(seconds)):
                await asyncio.sleep(0)

        for _ in range(rounds):
            jobs = [asyncio.create_task(take(chance.choice([0.0, 1e-5, SOON]))) for _ in range(6)]
            for job in chance.sample(jobs, 2):
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            errors.extend(
                error for job in jobs if not job.cancelled() and (error := job.exception()) is not None
            )

    threads = [threading.Thread(target=thread, args=(seed,)) for seed in range(3)]
    for one in threads:
        one.start()
    start.wait(SOON)
    asyncio.run(tasks(3))
    for one in threads:
        one.join(SOON)
    assert errors == []
    assert (pool.statistics().available, pool.statistics().waiting) == (size, 0)


# --- Against a model ----------------------------------------------------------------------------------


class PoolMachine(RuleBasedStateMachine):
    """The pool beside a list of who waits: after each step those served must be the first of the list."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = WatchedPool(2)
        self.size = 2
        self.items = 2  # Made so far.
        self.loop = asyncio.new_event_loop()
        self.held: list[Lease[int]] = []
        self.released: list[Lease[int]] = []
        self.removals: list[Future[int]] = []
        self.removed: set[int] = set()
        self.queue: list[Waiter | asyncio.Task[Lease[int]] | Future[Lease[int]]] = []

    def step_loop(self) -> None:
        # More turns than any hand-over or cancellation takes.
        for _ in range(10):
            self.loop.run_until_complete(asyncio.sleep(0))

    def free(self) -> int:
        return self.size - len(self.held)

    def serve(self) -> None:
        """Let the removals, then those at the head of the queue, take what is free."""
        self.step_loop()
        served = min(len(self.removals), self.free())
        self.removals = [removal for removal in self.removals if not removal.done()]
        self.size -= served
        while self.queue and self.free():
            head = self.queue.pop(0)
            if isinstance(head, asyncio.Task):
                self.held.append(self.loop.run_until_complete(head))
            else:
                self.held.append(head.lease() if isinstance(head, Waiter) else head.result(0))

    def let_go(self, index: int) -> None:
        lease = self.held.pop(index)
        lease.release()
        self.released.append(lease)

    @rule()
    def try_acquire(self) -> None:
        lease = self.pool.try_acquire()
        assert (lease is not None) == (self.free() > 0)
        if lease is not None:
            self.held.append(lease)

    @rule()
    def acquire_no_wait(self) -> None:
        if self.free():
            self.held.append(self.pool.acquire(0.0))
        else:
            with pytest.raises(DeadlineExceeded):
                self.pool.acquire(0.0)
            assert self.pool.placed.acquire(timeout=SOON)

    @precondition(lambda self: not self.free())
    @rule()
    def wait_on_a_thread(self) -> None:
        self.queue.append(Waiter(self.pool))

    @rule()
    def wait_in_a_task(self) -> None:
        self.queue.append(self.loop.create_task(self.pool.acquire_async(SOON)))
        self.serve()
        self.pool.placed.acquire(blocking=False)

    @rule()
    def wait_with_a_future(self) -> None:
        self.queue.append(self.pool.acquire_future())
        self.serve()
        self.pool.placed.acquire(blocking=False)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.let_go(data.draw(st.integers(0, len(self.held) - 1)))
        self.serve()

    @precondition(lambda self: self.released)
    @rule(data=st.data())
    def release_again(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.released)).release()

    @rule()
    def forget_what_was_released(self) -> None:
        self.released.clear()

    @rule()
    def add(self) -> None:
        self.pool.add(self.items)
        self.items += 1
        self.size += 1
        self.serve()

    @precondition(lambda self: len(self.removals) < self.size)
    @rule()
    def remove(self) -> None:
        removal = self.pool.remove()
        removal.add_done_callback(lambda done: self.removed.add(done.result()))
        self.removals.append(removal)
        self.serve()

    @precondition(lambda self: any(isinstance(one, asyncio.Task) for one in self.queue))
    @rule(data=st.data(), released=st.integers(0, 2))
    def cancel_a_task_that_may_have_been_served(self, data: st.DataObject, released: int) -> None:
        task = data.draw(st.sampled_from([one for one in self.queue if isinstance(one, asyncio.Task)]))
        for _ in range(min(released, len(self.held))):
            self.let_go(-1)
        task.cancel()
        self.queue.remove(task)
        self.step_loop()
        assert task.cancelled()
        self.serve()

    @precondition(lambda self: any(isinstance(one, Future) for one in self.queue))
    @rule(data=st.data(), released=st.integers(0, 2))
    def cancel_a_future_that_may_have_been_served(self, data: st.DataObject, released: int) -> None:
        future = data.draw(st.sampled_from([one for one in self.queue if isinstance(one, Future)]))
        for _ in range(min(released, len(self.held))):
            self.let_go(-1)
        first = len(self.removals) + self.queue.index(future) < self.free()
        assert future.cancel() is not first
        if not first:
            self.queue.remove(future)
        self.serve()

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        items = {lease.item for lease in self.held}
        assert len(items) == len(self.held)
        assert not items & self.removed
        assert len(self.removed) == self.items - self.size  # No less served, and no more.
        now = self.pool.statistics()
        assert (now.size, now.available, now.lent) == (self.size, self.free(), len(items))
        assert now.waiting == len(self.queue)

    @invariant()
    def only_the_first_are_served(self) -> None:
        assert not any(one.done() for one in (*self.removals, *self.queue))

    def teardown(self) -> None:
        # Closing is the last of it: who waits is refused, what is lent comes back.
        assert self.pool.close(0.0) is not bool(self.held)
        self.step_loop()
        for one in self.queue:
            if isinstance(one, Waiter):
                one.wait()
            error = one.error if isinstance(one, Waiter) else one.exception()
            assert isinstance(error, Unavailable)
        while self.held:
            self.held.pop().release()
        assert self.pool.close(0.0)
        assert self.pool.statistics().size == 0
        self.loop.close()


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
