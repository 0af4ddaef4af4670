"""`yais.core.future` as a standard future: whatever takes one must take this."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import threading
import weakref
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yais.core.future import Future

if TYPE_CHECKING:
    from collections.abc import Callable

SOON = 20.0
"""Seconds after which a wait counts as lost."""


class Watched(Future[Any]):
    """Sets `blocked` once somebody waits for it: whoever completes it then must wake that one."""

    def __init__(self) -> None:
        super().__init__()
        self.blocked = threading.Event()
        self._sleepers = Waiters(self.blocked)  # appended to under the lock

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        if self._blocking is None:
            condition = super()._condition
            sleep = condition.wait

            def wait(timeout: float | None = None) -> bool:
                self.blocked.set()  # Under the lock: nobody completes the future before the sleep.
                return sleep(timeout)

            condition.wait = wait  # type: ignore[method-assign]
            self._waiters = Waiters(self.blocked)
        return super()._condition


class Waiters(list[Any]):
    def __init__(self, appended: threading.Event) -> None:
        super().__init__()
        self._appended = appended

    def append(self, waiter: Any) -> None:
        super().append(waiter)
        self._appended.set()


COMPLETIONS: dict[str, Callable[[Future[Any]], object]] = {
    "result": lambda future: future.set_result(7),
    "exception": lambda future: future.set_exception(KeyError("x")),
    "cancel": lambda future: future.cancel(),
}


@pytest.fixture(params=COMPLETIONS)
def complete(request: pytest.FixtureRequest) -> Callable[[Future[Any]], object]:
    return COMPLETIONS[request.param]


def outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except BaseException as error:
        return type(error)


def while_blocked(
    future: Watched, wait: Callable[[], object], complete: Callable[[Future[Any]], object]
) -> object:
    """Return what `wait` gives when the future is completed while it blocks."""
    outcomes: list[object] = []
    thread = threading.Thread(target=lambda: outcomes.append(outcome(wait)))
    thread.start()
    assert future.blocked.wait(SOON)
    complete(future)
    thread.join(SOON)
    assert outcomes, "the waiting thread was not woken"
    return outcomes[0]


# --- Blocking waits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "result", "exception"),
    [
        ("result", 7, None),
        ("exception", KeyError, KeyError),
        ("cancel", concurrent.futures.CancelledError, concurrent.futures.CancelledError),
    ],
)
def test_result_and_exception_wake_and_tell(how: str, result: object, exception: object) -> None:
    first, second = Watched(), Watched()
    assert while_blocked(first, lambda: first.result(SOON), COMPLETIONS[how]) == result
    error = while_blocked(second, lambda: second.exception(SOON), COMPLETIONS[how])
    assert (type(error) if isinstance(error, Exception) else error) == exception
    # And at once, now that both are done.
    assert outcome(lambda: first.result(0)) == result
    assert outcome(lambda: first.get(0)) == result


def test_waits_end_with_their_timeout() -> None:
    future: Future[int] = Future()
    for wait in (future.result, future.exception, future.get):
        with pytest.raises(TimeoutError):
            wait(0.0)
    assert future.wait(0.0) is False


def test_wait_method(complete: Callable[[Future[Any]], object]) -> None:
    future = Watched()
    assert while_blocked(future, lambda: future.wait(SOON), complete) is True
    assert future.wait(0.0) is True


def test_futures_wait(complete: Callable[[Future[Any]], object]) -> None:
    future = Watched()
    waited = while_blocked(future, lambda: concurrent.futures.wait([future], SOON), complete)
    assert waited == ({future}, set())
    # The same for one that is done before: a cancelled one is done although no executor took note.
    assert concurrent.futures.wait([future], 0.0) == ({future}, set())


@pytest.mark.parametrize(
    ("return_when", "how", "woken"),
    [
        (FIRST_COMPLETED, "result", True),
        (FIRST_COMPLETED, "cancel", True),
        (FIRST_EXCEPTION, "exception", True),
        (FIRST_EXCEPTION, "result", False),
        (ALL_COMPLETED, "exception", False),
    ],
)
def test_futures_wait_conditions(return_when: str, how: str, woken: bool) -> None:
    first, second = Watched(), Future[Any]()

    def both(future: Future[Any]) -> None:
        COMPLETIONS[how](future)
        if not woken:
            second.set_result(None)

    waited = while_blocked(first, lambda: concurrent.futures.wait([second, first], SOON, return_when), both)
    futures: set[Future[Any]] = {first, second}
    assert waited == (({first}, {second}) if woken else (futures, set()))


def test_mixed_with_standard_futures() -> None:
    standard: concurrent.futures.Future[int] = concurrent.futures.Future()
    future: Future[int] = Future()
    future.cancel()
    standard.set_result(1)
    assert concurrent.futures.wait([standard, future], SOON).done == {standard, future}
    assert set(concurrent.futures.as_completed([standard, future], SOON)) == {standard, future}


def test_as_completed_in_order_of_completion(complete: Callable[[Future[Any]], object]) -> None:
    futures = [Watched() for _ in range(3)]
    order = [2, 0, 1]
    futures[order[0]].set_result(None)

    def collect() -> list[Any]:
        return list(concurrent.futures.as_completed(list[Future[Any]](futures), SOON))

    def rest(_: Future[Any]) -> None:
        for index in order[1:]:
            complete(futures[index])

    assert while_blocked(futures[order[1]], collect, rest) == [futures[index] for index in order]


# --- Callbacks ----------------------------------------------------------------------------------------


def test_callbacks_run_once_in_order(complete: Callable[[Future[Any]], object]) -> None:
    future: Future[int] = Future()
    calls: list[tuple[int, Future[int]]] = []
    for index in range(3):
        future.add_done_callback(lambda done, index=index: calls.append((index, done)))  # type: ignore[misc]
    assert calls == []
    complete(future)
    future.add_done_callback(lambda done: calls.append((3, done)))
    assert calls == [(index, future) for index in range(4)]


def test_a_callback_may_use_the_future() -> None:
    future: Future[int] = Future()
    seen: list[object] = []
    future.add_done_callback(lambda done: done.add_done_callback(lambda late: seen.append(late.result(0))))
    future.set_result(7)
    assert seen == [7]


def test_a_callback_that_raises_is_logged_and_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    future: Future[int] = Future()
    calls: list[str] = []

    def bad(_: Future[int]) -> None:
        raise KeyError("from the callback")

    future.add_done_callback(bad)
    future.add_done_callback(lambda _: calls.append("after"))
    with caplog.at_level(logging.ERROR):
        future.set_result(1)
        future.add_done_callback(bad)
    assert calls == ["after"]
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [KeyError, KeyError]


# --- States -------------------------------------------------------------------------------------------


def test_states() -> None:
    future: Future[int] = Future()
    assert (future.running(), future.done(), future.cancelled()) == (False, False, False)
    assert future.set_running_or_notify_cancel() is True
    assert (future.running(), future.done(), future.cancelled()) == (True, False, False)
    assert future.cancel() is False
    future.set_result(1)
    assert (future.running(), future.done(), future.cancelled()) == (False, True, False)
    assert future.cancel() is False
    with pytest.raises(concurrent.futures.InvalidStateError):
        future.set_running_or_notify_cancel()


def test_cancel_prevents_the_work() -> None:
    future: Future[int] = Future()
    assert future.cancel() is True
    assert future.cancel() is True
    assert (future.running(), future.done(), future.cancelled()) == (False, True, True)
    assert future.set_running_or_notify_cancel() is False


def test_completing_twice_is_an_error(complete: Callable[[Future[Any]], object]) -> None:
    future: Future[int] = Future()
    complete(future)
    for again in (COMPLETIONS["result"], COMPLETIONS["exception"]):
        with pytest.raises(concurrent.futures.InvalidStateError):
            again(future)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(sorted(COMPLETIONS)), min_size=2, max_size=6))
def test_exactly_one_completion_wins(hows: list[str]) -> None:
    future: Future[int] = Future()
    callbacks: list[object] = []
    future.add_done_callback(lambda _: callbacks.append("early"))
    start = threading.Barrier(len(hows) + 1)
    winners: list[str] = []

    def race(how: str) -> None:
        start.wait(SOON)
        try:
            won = COMPLETIONS[how](future) is not False
        except concurrent.futures.InvalidStateError:
            won = False
        if won:
            winners.append(how)

    def attach() -> None:
        start.wait(SOON)
        future.add_done_callback(lambda _: callbacks.append("late"))

    threads = [threading.Thread(target=race, args=(how,)) for how in hows]
    threads.append(threading.Thread(target=attach))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)

    if "cancel" in winners:
        # Cancelling what is cancelled says True again.
        assert set(winners) == {"cancel"}
        assert future.cancelled()
    else:
        assert len(winners) == 1
        expected = {"result": 7, "exception": KeyError}[winners[0]]
        assert outcome(lambda: future.result(0)) == expected
    assert sorted(str(name) for name in callbacks) == ["early", "late"]


# --- asyncio ------------------------------------------------------------------------------------------


async def test_await_a_result_from_another_thread() -> None:
    future: Future[int] = Future()
    asyncio.get_running_loop().call_soon(threading.Thread(target=future.set_result, args=(7,)).start)
    async with asyncio.timeout(SOON):
        assert await future == 7
        assert await future == 7


async def test_await_an_exception_and_a_cancellation() -> None:
    failed: Future[int] = Future()
    failed.set_exception(KeyError("x"))
    with pytest.raises(KeyError):
        await failed
    cancelled: Future[int] = Future()
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled


async def test_wrap_future_and_gather() -> None:
    futures = [Future[int]() for _ in range(3)]
    both = asyncio.gather(*(asyncio.wrap_future(future) for future in futures))
    for index, future in enumerate(futures):
        future.set_result(index)
    assert await both == [0, 1, 2]


@pytest.mark.parametrize("begun", [False, True])
async def test_cancelling_the_task_cancels_only_work_that_has_not_begun(begun: bool) -> None:
    future: Future[int] = Future()

    async def wait() -> int:
        return await future

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    if begun:
        future.set_running_or_notify_cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert future.cancelled() is not begun
    if begun:
        future.set_result(1)
        assert future.result(0) == 1


async def test_an_awaited_future_is_freed_without_the_garbage_collector() -> None:
    future: Future[int] = Future()
    gone = weakref.ref(future)
    asyncio.get_running_loop().call_soon(future.set_result, 7)
    gc.disable()
    try:
        await future
        del future
        await asyncio.sleep(0)
        assert gone() is None
    finally:
        gc.enable()
