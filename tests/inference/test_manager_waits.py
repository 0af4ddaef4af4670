"""Who runs a short request, what is waited for, and what is too late."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from managing import X, Y, check_idle, doubling, eventually, ones
from many_threads import in_threads
from modelling import SOON

from yais.core.clock import Deadline
from yais.core.tensor import DataType, TensorSpec
from yais.errors import DeadlineExceeded
from yais.inference.manager import InferenceManager
from yais.inference.request import InferRequest
from yais.inference.scheduling.dynamic import BatchingPolicy


@pytest.fixture
def manager() -> Iterator[InferenceManager]:
    with InferenceManager(max_exec_concurrency=1, max_copy_concurrency=4) as made:
        yield made


def short(manager: InferenceManager, name: str = "short") -> tuple[Any, Any]:
    """Register a model that is known to be short; return its engine and a runner."""
    engine = doubling()
    manager.register(name, engine)
    manager.allocate()
    for size in range(1, 6):
        manager.find(name)._runner.pace.observe(1 << size, 1000, here=True)
    manager.find(name)._runner.pace.observe(1, 1000, here=True)
    return engine, manager.infer_runner(name)


def names(engine: Any) -> list[str]:
    """Note the threads that the engine runs on."""
    seen: list[str] = []
    function = engine._function
    engine._function = lambda x: (seen.append(threading.current_thread().name), function(x))[1]
    return seen


# Who waits does the work.


def test_a_thread_that_waits_runs_a_short_request(manager: InferenceManager) -> None:
    engine, runner = short(manager)
    manager.find("short")._scheduler._patience = 10**10  # however late this thread is
    seen = names(engine)
    assert (runner.infer(x=ones()).get(SOON)["y"] == 2).all()
    assert seen == [threading.current_thread().name]
    check_idle(manager)


@pytest.mark.parametrize("how", ["callback", "short timeout", "nobody", "await"])
def test_others_run_what_no_thread_waits_for(manager: InferenceManager, how: str) -> None:
    engine, runner = short(manager)
    seen = names(engine)
    future = runner.infer(x=ones())
    if how == "callback":
        called = threading.Event()
        future.add_done_callback(lambda _: called.set())
        assert called.wait(SOON)
    elif how == "short timeout":
        eventually(lambda: future.wait(0.001))
    elif how == "await":
        import asyncio

        async def wait() -> Any:
            return await asyncio.wait_for(future, SOON)

        asyncio.run(wait())
    eventually(future.done)
    assert (future.get(0)["y"] == 2).all() and len(seen) == 1
    assert seen[0].startswith("infer-execute")
    check_idle(manager)


def test_a_thread_that_waits_runs_no_callback_of_others(manager: InferenceManager) -> None:
    # Or a lock that it holds would be waited for by itself.
    _, runner = short(manager)
    strangers: list[str] = []
    stop = threading.Event()
    left = threading.Semaphore(0)

    def again(done: Any) -> None:
        done.result(0)
        strangers.append(threading.current_thread().name)
        if stop.is_set():
            left.release()
            return
        runner.infer(x=ones()).add_done_callback(again)

    for _ in range(4):
        runner.infer(x=ones()).add_done_callback(again)
    for _ in range(50):
        assert (runner.infer(x=ones()).get(SOON)["y"] == 2).all()
    stop.set()
    for _ in range(4):
        assert left.acquire(timeout=SOON)
    assert threading.current_thread().name not in strangers
    check_idle(manager)


def test_many_threads_that_wait_all_get_their_own(manager: InferenceManager) -> None:
    _, runner = short(manager)

    def work(index: int) -> None:
        for number in range(200):
            value = 1000.0 * index + number
            assert (runner.infer(x=ones(value=value)).get(SOON)["y"] == 2 * value).all()

    in_threads(6, work)
    check_idle(manager)


def test_python_callables_never_run_on_the_thread_that_waits(manager: InferenceManager) -> None:
    seen: list[str] = []

    def model(arrays: dict[str, Any]) -> dict[str, Any]:
        seen.append(threading.current_thread().name)
        return {"y": arrays["x"] * 2}

    manager.register("model", model, inputs=[X], outputs=[Y])
    manager.allocate()
    runner = manager.infer_runner("model")
    for _ in range(20):
        runner.infer(x=ones()).get(SOON)
    assert {name.rsplit("-", 1)[0] for name in seen} == {"infer-execute"}


# Waits and deadlines.


def blocked(manager: InferenceManager) -> tuple[threading.Event, threading.Event]:
    """Keep the only token with a model that waits; return the events that say so and that end it."""
    entered, go_on = threading.Event(), threading.Event()

    def model(arrays: dict[str, Any]) -> dict[str, Any]:
        entered.set()
        assert go_on.wait(SOON)
        return {"y": arrays["x"]}

    manager.register("blocking", model, inputs=[X], outputs=[Y])
    return entered, go_on


def test_a_wait_for_the_only_token_is_counted_as_that(manager: InferenceManager) -> None:
    # There is one thread that executes, too: who waits for it waits for the token it would use.
    entered, go_on = blocked(manager)
    engine = doubling()
    manager.register("other", engine)
    manager.allocate()
    first = manager.infer_runner("blocking").infer(x=ones())
    assert entered.wait(SOON)
    second = manager.infer_runner("other").infer(x=ones())
    assert not second.wait(1.0)
    go_on.set()
    first.get(SOON), second.get(SOON)
    counts = manager.find("other").counts()
    assert counts.token_seconds.sum > 0.5 > counts.queue_seconds.sum
    check_idle(manager)


@pytest.mark.parametrize("requests", [1, 3])
def test_what_is_too_late_is_not_executed(manager: InferenceManager, requests: int) -> None:
    entered, go_on = blocked(manager)
    engine = doubling()
    manager.register("batched", engine, batching=BatchingPolicy(max_batch=4, max_delay=20_000_000))
    manager.allocate()
    first = manager.infer_runner("blocking").infer(x=ones())
    assert entered.wait(SOON)
    model = manager.find("batched")
    spec = TensorSpec("x", DataType.FP32, (1, 4))
    deadline = Deadline.after(0.1)
    asked = [InferRequest([spec], [ones().tobytes()], deadline=deadline) for _ in range(requests)]
    futures = [model.submit(request) for request in asked]
    eventually(lambda: model.pending == 0)  # one batch, which waits for the token
    eventually(deadline.expired)
    go_on.set()
    for future in futures:
        assert isinstance(future.exception(SOON), DeadlineExceeded)
    assert engine.batches == [] and first.get(SOON)
    check_idle(manager)


# The end.


def test_what_did_not_end_in_time_is_closed_later(manager: InferenceManager) -> None:
    engine, other = doubling(), doubling()
    manager.register("one", engine)
    manager.register("two", other)
    manager.allocate()
    engine.gate.clear()
    future = manager.infer_runner("one").infer(x=ones())
    future.add_done_callback(lambda _: None)
    assert engine.entered.acquire(timeout=SOON)
    assert not manager.unregister("one", 0.01)
    assert not manager.close(0.01)
    assert engine.closed == 0
    engine.gate.set()
    assert (future.get(SOON)["y"] == 2).all()
    assert manager.close(SOON)
    assert (engine.closed, other.closed) == (1, 1)


def test_values_stay_apart() -> None:
    # A request of one thread may be run by another that waits; each has its own arrays.
    with InferenceManager(max_exec_concurrency=2) as manager:
        _, runner = short(manager)
        answers = [runner.infer(x=ones(value=value)) for value in range(50)]
        got = [future.get(SOON)["y"][0, 0] for future in answers]
        assert got == (2 * np.arange(50)).tolist()
        check_idle(manager)
