"""The futures of `infer`: cancelled, late, failed and done in each phase of a request."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, as_completed
from typing import Any

import numpy as np
import pytest

from yais.core.clock import Deadline
from yais.core.future import Future
from yais.core.tensor import DataType, TensorSpec
from yais.errors import DeadlineExceeded, FailedPrecondition, Internal, InvalidArgument
from yais.infer_runner import InferFuture
from yais.inference.infer_runner import InferRunner
from yais.inference.manager import InferenceManager
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.testing import FakeEngine

SOON = 20.0
X = TensorSpec("x", DataType.FP32, (-1, 4))
Y = TensorSpec("y", DataType.FP32, (-1, 4))


class Stop:
    """A `pre` or `post` that lets its argument through when told to."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.error: BaseException | None = None

    def __call__(self, given: Any) -> Any:
        self.entered.release()
        assert self.gate.wait(SOON)
        if self.error is not None:
            raise self.error
        return given


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine([X], [Y], lambda x: [2 * x])


@pytest.fixture
def manager(engine: FakeEngine) -> Iterator[InferenceManager]:
    # More threads than tokens, so that some of them find none.
    with InferenceManager(1, 4, execute_threads=2) as manager:
        manager.register("M", engine, concurrency=1)
        manager.allocate()
        yield manager
        engine.gate.set()
        assert (manager.infer_runner("M").infer(x=ones(9)).get(SOON)["y"] == 18).all()  # it still works


@pytest.fixture
def runner(manager: InferenceManager) -> InferRunner:
    return manager.infer_runner("M")


def ones(value: float = 1.0) -> Any:
    return np.full((1, 4), value, np.float32)


def busy(runner: InferRunner, engine: FakeEngine) -> InferFuture:
    """Return the future of a request that is being executed until the gate is set."""
    engine.gate.clear()
    future = runner.infer(x=ones())
    assert engine.entered.acquire(timeout=SOON)
    return future


def eventually(holds: Callable[[], object]) -> None:
    end = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.001)


def calls(future: Future[Any]) -> list[Any]:
    done: list[Any] = []
    future.add_done_callback(done.append)
    return done


# --- Done ---------------------------------------------------------------------------------------------


def test_every_way_to_wait(runner: InferRunner, engine: FakeEngine) -> None:
    engine.gate.clear()
    future = runner.infer(x=ones())
    done = calls(future)
    assert not future.wait(0.001) and not future.done() and not done
    with pytest.raises(TimeoutError):
        future.get(0.001)
    engine.gate.set()
    assert future.wait(SOON) and (future.get(0)["y"] == 2).all() and future.result(0) is future.get(0)
    assert not future.running() and not future.cancelled() and future.exception(0) is None
    assert calls(future) == [future]
    futures = [runner.infer(x=ones(value)) for value in range(5)]
    assert {future.get(0)["y"][0, 0] for future in as_completed(futures, SOON)} == {0, 2, 4, 6, 8}


async def test_it_can_be_awaited(runner: InferRunner) -> None:
    answers = await asyncio.wait_for(asyncio.gather(*(runner.infer(x=ones(v)) for v in range(20))), SOON)
    assert [answer["y"][0, 0] for answer in answers] == [2 * value for value in range(20)]


async def test_a_task_that_is_cancelled_cancels_the_request(runner: InferRunner, engine: FakeEngine) -> None:
    first = busy(runner, engine)
    waiting = runner.infer(x=ones())
    task = asyncio.ensure_future(_awaited(waiting))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert waiting.cancelled()
    engine.gate.set()
    assert await first and engine.batches == [1]


async def _awaited(future: InferFuture) -> Any:
    return await future


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt], ids=lambda kind: kind.__name__)
def test_callbacks_that_raise_disturb_nobody(
    manager: InferenceManager,
    engine: FakeEngine,
    error: type[BaseException],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR, "yais.future")

    def fail(_: object) -> None:
        raise error("of a callback")

    first = busy(manager.infer_runner("M"), engine)
    runner = manager.infer_runner("M", post=lambda answer: answer["y"][0, 0])
    futures = [
        first,
        runner.infer(x=ones()),
        runner.infer(x=ones(2)),
        runner.infer_with_deadline(0.01, x=ones()),
    ]
    futures.append(cancelled := runner.infer(x=ones()))
    done = []
    for future in futures:
        future.add_done_callback(fail)
        done.append(calls(future))
    assert isinstance(futures[3].exception(SOON), DeadlineExceeded) and cancelled.cancel()
    engine.gate.set()
    assert futures[1].get(SOON) == 2 and futures[2].get(SOON) == 4
    late = busy(manager.infer_runner("M"), engine), runner.infer_with_deadline(0.01, x=ones())
    assert isinstance(late[1].exception(SOON), DeadlineExceeded)  # the timer lives
    engine.gate.set()
    assert late[0].get(SOON)
    eventually(lambda: done == [[future] for future in futures])
    assert "of a callback" in caplog.text


# --- Cancelled ----------------------------------------------------------------------------------------


def test_cancelled_while_it_waits(runner: InferRunner, engine: FakeEngine) -> None:
    first = busy(runner, engine)
    waiting = runner.infer(x=ones())
    done = calls(waiting)
    assert waiting.cancel() and waiting.cancel() and waiting.cancelled() and done == [waiting]
    with pytest.raises(CancelledError):
        waiting.get(0)
    engine.gate.set()
    assert first.get(SOON) and runner.infer(x=ones()).get(SOON) and engine.batches == [1, 1]


def test_not_cancelled_while_it_is_executed(runner: InferRunner, engine: FakeEngine) -> None:
    future = busy(runner, engine)
    assert future.running() and not future.cancel() and not future.cancelled() and not future.done()
    engine.gate.set()
    assert (future.get(SOON)["y"] == 2).all() and not future.running() and not future.cancel()


def waiting_for_a_token(
    manager: InferenceManager, seconds: float
) -> tuple[FakeEngine, InferFuture, InferFuture]:
    """Return the engine and the request that have the only token, and a request that waits for it."""
    other = FakeEngine([X], [Y], lambda x: [2 * x])
    manager.register("other", other)
    first = busy(manager.infer_runner("other"), other)
    future = manager.infer_runner("M").infer_with_deadline(seconds, x=ones())
    eventually(lambda: manager._tokens.pool.statistics().waiting or future.done())
    return other, first, future


def test_cancelled_while_it_waits_for_a_token(manager: InferenceManager, engine: FakeEngine) -> None:
    other, first, future = waiting_for_a_token(manager, SOON)
    assert not future.running() and future.cancel() and future.cancelled()
    other.gate.set()
    assert first.get(SOON) and manager.infer_runner("M").infer(x=ones()).get(SOON)
    assert engine.batches == [1]  # the second


@pytest.mark.parametrize("fails", [False, True])
def test_a_request_of_a_batch_cancelled_while_it_waits_for_a_token(
    manager: InferenceManager, fails: bool
) -> None:
    engine = FakeEngine([X], [Y], lambda x: [2 * x] if len(x) == 1 or not fails else [])
    manager.register("batched", engine, batching=BatchingPolicy(3, max_delay=10_000_000_000))
    other, first, _ = waiting_for_a_token(manager, SOON)
    futures = [manager.infer_runner("batched").infer(x=ones(value)) for value in range(3)]
    eventually(lambda: manager._tokens.pool.statistics().waiting == 2)
    assert futures[1].cancel()
    other.gate.set()
    assert first.get(SOON)
    assert [futures[index].get(SOON)["y"][0, 0] for index in (0, 2)] == [0, 4]
    assert futures[1].cancelled() and manager.find("batched").counts().success.count == 2
    assert engine.batches == ([3, 1, 1] if fails else [3])


def test_late_while_it_waits_for_a_token(manager: InferenceManager, engine: FakeEngine) -> None:
    other, first, future = waiting_for_a_token(manager, 0.02)
    with pytest.raises(DeadlineExceeded):  # though the token is still lent
        future.get(SOON)
    other.gate.set()
    assert first.get(SOON) and manager.infer_runner("M").infer(x=ones()).get(SOON)
    assert engine.batches == [1]


def test_cancelled_before_pre(manager: InferenceManager, engine: FakeEngine) -> None:
    stop = Stop()
    runner = manager.infer_runner("M", pre=stop)
    first, second = runner.infer(x=ones()), runner.infer(x=ones())
    assert stop.entered.acquire(timeout=SOON)  # there is one thread for it
    assert second.cancel() and second.cancelled()
    stop.gate.set()
    assert first.get(SOON) and not stop.entered.acquire(blocking=False)


def test_cancelled_between_pre_and_execution(manager: InferenceManager, engine: FakeEngine) -> None:
    first = busy(manager.infer_runner("M"), engine)
    stop = Stop()
    future = manager.infer_runner("M", pre=stop).infer(x=ones())
    assert stop.entered.acquire(timeout=SOON)
    assert not future.cancel() and future.running()  # it is in user code
    stop.gate.set()
    eventually_cancelled = threading.Event()

    def cancel() -> None:
        while not future.cancel():
            assert not future.done()
        eventually_cancelled.set()

    thread = threading.Thread(target=cancel)
    thread.start()
    thread.join(SOON)
    assert eventually_cancelled.is_set() and future.cancelled()
    engine.gate.set()
    assert first.get(SOON)


def test_not_cancelled_in_post(manager: InferenceManager) -> None:
    stop = Stop()
    future = manager.infer_runner("M", post=stop).infer(x=ones())
    assert stop.entered.acquire(timeout=SOON)
    assert not future.cancel() and not future.done()
    stop.gate.set()
    assert (future.get(SOON)["y"] == 2).all()


# --- Late ---------------------------------------------------------------------------------------------


def test_late_while_it_waits(runner: InferRunner, engine: FakeEngine) -> None:
    first = busy(runner, engine)
    future = runner.infer_with_deadline(0.02, x=ones())
    with pytest.raises(DeadlineExceeded, match="deadline"):  # though the engine is still busy
        future.get(SOON)
    assert not future.cancelled() and not first.done()
    engine.gate.set()
    assert first.get(SOON) and runner.infer(x=ones()).get(SOON) and engine.batches == [1, 1]


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_late_from_the_start(runner: InferRunner, engine: FakeEngine, seconds: float) -> None:
    with pytest.raises(DeadlineExceeded):
        runner.infer_with_deadline(seconds, {"x": ones()}).get(SOON)
    assert engine.batches == []


def test_in_time(runner: InferRunner) -> None:
    assert (runner.infer_with_deadline(SOON, x=ones()).get(SOON)["y"] == 2).all()
    assert (runner.infer_with_deadline(float("inf"), x=ones()).get(SOON)["y"] == 2).all()


def test_late_before_pre(manager: InferenceManager) -> None:
    stop = Stop()
    runner = manager.infer_runner("M", pre=stop)
    first, second = runner.infer(x=ones()), runner.infer_with_deadline(0.02, x=ones())
    with pytest.raises(DeadlineExceeded):
        second.get(SOON)
    stop.gate.set()
    assert first.get(SOON)


def test_late_in_pre(manager: InferenceManager, engine: FakeEngine) -> None:
    first = busy(manager.infer_runner("M"), engine)
    stop = Stop()
    future = manager.infer_runner("M", pre=stop).infer_with_deadline(1.0, x=ones())
    assert stop.entered.acquire(timeout=SOON)
    assert not future.wait(1.1)
    stop.gate.set()
    with pytest.raises(DeadlineExceeded):  # though the engine is still busy
        future.get(SOON)
    engine.gate.set()
    assert (
        first.get(SOON) and manager.infer_runner("M").infer(x=ones()).get(SOON) and engine.batches == [1, 1]
    )


# --- Failed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["pre", "post"])
@pytest.mark.parametrize(
    "error", [ValueError("mine"), SystemExit(3), StopIteration(), InvalidArgument("no")], ids=repr
)
def test_what_pre_and_post_raise_comes_as_it_is(
    manager: InferenceManager, stage: str, error: BaseException
) -> None:
    stop = Stop()
    stop.gate.set()
    stop.error = error
    runner = manager.infer_runner("M", **{stage: stop})  # type: ignore[arg-type]
    for future in (runner.infer(x=ones()), runner.infer_with_deadline(SOON, x=ones())):
        assert future.exception(SOON) is error
        assert not future.cancel()
    stop.error = None
    assert runner.infer(x=ones()).get(SOON)


def test_pre_and_post_change_what_goes_through(manager: InferenceManager) -> None:
    runner = manager.infer_runner(
        "M", pre=lambda given: {"x": ones(given["value"])}, post=lambda answer: float(answer["y"][0, 0])
    )
    assert runner.infer(value=4).get(SOON) == 8.0
    assert runner.infer({"value": 5}).get(SOON) == 10.0


@pytest.mark.parametrize("result", [None, 17, {}, {"z": 1}, {"x": "text"}], ids=str)
def test_pre_that_makes_no_inputs_fails_the_future(manager: InferenceManager, result: Any) -> None:
    with pytest.raises(InvalidArgument):
        manager.infer_runner("M", pre=lambda _: result).infer(x=ones()).get(SOON)


def test_what_is_no_input_is_refused_at_once(runner: InferRunner, engine: FakeEngine) -> None:
    for inputs in ({}, {"z": ones()}, {"x": ones(), "z": ones()}, {"x": ["text"]}):
        with pytest.raises(InvalidArgument):
            runner.infer(inputs)
    with pytest.raises(InvalidArgument, match=r"\[-1,4\]"):
        runner.infer(x=np.zeros((1, 5), np.float32)).get(SOON)
    assert engine.batches == []


def test_an_engine_that_fails(
    runner: InferRunner, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.error = GeneratorExit("odd")
    with pytest.raises(Internal, match="model 'M' failed: odd"):
        runner.infer(x=ones()).get(SOON)
    engine.error = FailedPrecondition("not yet")
    with pytest.raises(FailedPrecondition, match="not yet"):
        runner.infer(x=ones()).get(SOON)
    engine.error = None


# --- The future alone ---------------------------------------------------------------------------------


def late() -> DeadlineExceeded:
    return DeadlineExceeded("late")


def follow(future: InferFuture, source: Future[Any]) -> None:
    """Do what a runner does: pass on how the source fails."""
    future.follow(source)
    source.add_done_callback(
        lambda source: (
            future.fail(source.exception(0)) if not source.cancelled() else future.fail(CancelledError())
        )
    )


def test_expired_before_it_follows_the_next_work() -> None:
    future, prepared, answer = InferFuture(), Future[Any](), Future[Any]()
    prepared.set_result(None)
    future.follow(prepared)
    future.expire(late())
    assert not future.done()
    follow(future, answer)
    assert answer.cancelled() and isinstance(future.exception(0), DeadlineExceeded)


def test_expired_in_work_that_fails_by_itself() -> None:
    future, source = InferFuture(), Future[Any]()
    follow(future, source)
    assert source.set_running_or_notify_cancel()
    future.expire(late())
    assert not future.done()
    source.set_exception(Internal("broken"))
    assert isinstance(future.exception(0), Internal)


def test_expired_after_it_was_cancelled_or_done() -> None:
    future, source = InferFuture(), Future[Any]()
    follow(future, source)
    assert future.cancel()
    future.expire(late())
    assert future.cancelled()
    future, source = InferFuture(), Future[Any]()
    follow(future, source)
    source.set_exception(Internal("broken"))
    future.expire(late())
    assert isinstance(future.exception(0), Internal) and not future.cancel()


def test_cancelling_and_expiring_at_once() -> None:
    for _ in range(200):
        future, source = InferFuture(), Future[Any]()
        follow(future, source)
        done = calls(future)
        start = threading.Barrier(2)

        def expire(future: InferFuture = future, start: threading.Barrier = start) -> None:
            start.wait(SOON)
            future.expire(late())

        thread = threading.Thread(target=expire)
        thread.start()
        start.wait(SOON)
        cancelled = future.cancel()
        thread.join(SOON)
        assert future.done() and done == [future] and cancelled == future.cancelled()


def test_a_deadline_that_never_comes_starts_no_timer(manager: InferenceManager, runner: InferRunner) -> None:
    assert Deadline.after(float("inf")).at is None
    assert runner.infer_with_deadline(float("inf"), x=ones()).get(SOON)
    assert not any(thread.name == "infer-timer" for thread in threading.enumerate())
