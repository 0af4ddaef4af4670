"""One manager for models here and elsewhere: waiting, cancelling, deadlines, callables before and after."""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from both_managers import SOON, Gate, eventually, register_all, served

import yais
from yais.infer_runner import InferFuture
from yais.inference.manager import InferenceManager

ONE = np.ones((1, 1), np.float32)
FOUR = np.ones((1, 4), np.float32)


@pytest.fixture
def closed(gate, local):
    """The gate, closed: a model that does not answer until it is opened."""
    with gate.closed(local):
        yield gate


def asked(gate):
    """Wait until the gate is asked once more."""
    assert gate.asked.acquire(timeout=SOON)


# Waiting.


def test_a_future_is_one_of_the_standard_library(manager):
    future = manager.infer_runner("twice").infer(X=FOUR)
    assert isinstance(future, InferFuture) and isinstance(future, concurrent.futures.Future)
    done, _ = concurrent.futures.wait([future], SOON)
    assert done == {future} and future.done() and not future.running()
    assert future.exception(0) is None
    assert future.get()["Y"].tolist() == future.result()["Y"].tolist() == [[2.0] * 4]


def test_who_waits_for_less_than_the_request_takes(manager, closed):
    future = manager.infer_runner("gate").infer(X=ONE)
    asked(closed)
    for wait in (future.get, future.result):
        with pytest.raises(TimeoutError):
            wait(0.01)
    assert future.wait(0.01) is False
    assert not future.done()
    closed.open.set()
    assert future.wait(SOON) is True
    assert future.get(0)["Y"].tolist() == [[1.0]]


def test_from_many_threads(manager):
    runner = manager.infer_runner("twice")

    def ask(number):
        return runner.infer(X=FOUR * number).result(SOON)["Y"][0, 0]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(200))) == [2.0 * number for number in range(200)]


def test_many_at_once(manager):
    runner = manager.infer_runner("twice")
    futures = [runner.infer(X=FOUR * number) for number in range(300)]
    assert [future.get(SOON)["Y"][0, 0] for future in futures] == [2.0 * number for number in range(300)]


async def test_await(manager):
    outputs = await asyncio.wait_for(manager.infer_runner("soon").infer(X=FOUR), SOON)
    assert outputs["Y"].tolist() == [[2.0] * 4]
    with pytest.raises(yais.NotFound, match="three is not here"):
        await manager.infer_runner("raising").infer(which=[3])


async def test_gather(manager):
    runner = manager.infer_runner("twice")
    async with asyncio.timeout(SOON):
        outputs = await asyncio.gather(*(runner.infer(X=FOUR * number) for number in range(50)))
    assert [output["Y"][0, 0] for output in outputs] == [2.0 * number for number in range(50)]


async def test_awaiting_does_not_block_the_loop(manager, closed):
    waiting = asyncio.ensure_future(manager.infer_runner("gate").infer(X=ONE))
    async with asyncio.timeout(SOON):
        other = await manager.infer_runner("twice").infer(X=FOUR)
        assert other["Y"].tolist() == [[2.0] * 4] and not waiting.done()
        closed.open.set()
        assert (await waiting)["Y"].tolist() == [[1.0]]


def test_callbacks(manager):
    answers = queue.Queue()
    future = manager.infer_runner("twice").infer(X=FOUR)
    future.add_done_callback(answers.put)
    assert answers.get(timeout=SOON) is future
    future.add_done_callback(answers.put)  # at once
    assert answers.get_nowait() is future
    failed = manager.infer_runner("raising").infer(which=[4])
    failed.add_done_callback(answers.put)
    assert isinstance(answers.get(timeout=SOON).exception(0), yais.ResourceExhausted)


def test_a_callback_that_raises_harms_nobody(manager, caplog):
    called = threading.Event()
    future = manager.infer_runner("twice").infer(X=FOUR)

    def fails(_):
        called.set()
        raise ValueError("in a callback")

    future.add_done_callback(fails)
    assert called.wait(SOON)
    assert future.get(SOON)["Y"].tolist() == [[2.0] * 4]
    assert manager.infer_runner("twice").infer(X=FOUR).get(SOON)["Y"].tolist() == [[2.0] * 4]


def test_a_callback_may_ask_again(manager):
    runner = manager.infer_runner("twice")
    second = queue.Queue()
    runner.infer(X=FOUR).add_done_callback(lambda first: second.put(runner.infer(X=first.get(0)["Y"])))
    assert second.get(timeout=SOON).get(SOON)["Y"].tolist() == [[4.0] * 4]


# Cancelling.


def test_cancelled_before_it_is_executed(manager, closed, local, server):
    runner = manager.infer_runner("gate")
    gate = local.find("gate")
    first = runner.infer(X=ONE)
    asked(closed)
    second = runner.infer(X=ONE)
    eventually(lambda: gate.pending == 1)
    assert second.cancel() and second.cancelled() and second.done()
    assert second.cancel()  # again
    eventually(lambda: server.in_flight == (manager is not local))  # the server has heard of it
    with pytest.raises(concurrent.futures.CancelledError):
        second.result(SOON)
    closed.open.set()
    assert first.get(SOON)["Y"].tolist() == [[1.0]]
    assert runner.infer(X=ONE).get(SOON)["Y"].tolist() == [[1.0]]
    eventually(lambda: closed.calls == 2)  # the cancelled one is never executed


def test_what_is_answered_can_no_longer_be_cancelled(manager):
    future = manager.infer_runner("twice").infer(X=FOUR)
    future.result(SOON)
    assert not future.cancel() and not future.cancelled()


async def test_a_task_that_is_cancelled(manager, closed):
    runner = manager.infer_runner("gate")
    first = runner.infer(X=ONE)
    asked(closed)
    second = runner.infer(X=ONE)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await second
    assert second.cancelled()
    closed.open.set()
    async with asyncio.timeout(SOON):
        await first


# Deadlines.


def test_a_deadline_that_passes_in_the_queue(manager, closed):
    runner = manager.infer_runner("gate")
    first = runner.infer(X=ONE)
    asked(closed)
    late = runner.infer_with_deadline(0.05, X=ONE)
    with pytest.raises(yais.DeadlineExceeded):
        late.result(SOON)  # while the first still holds the model
    assert not late.cancelled() and not first.done()
    closed.open.set()
    assert first.get(SOON)["Y"].tolist() == [[1.0]]
    assert runner.infer_with_deadline(SOON, X=ONE).get(SOON)["Y"].tolist() == [[1.0]]
    eventually(lambda: closed.calls == 2)  # the late one is never executed


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_deadline_that_is_over(manager, seconds):
    runner = manager.infer_runner("twice")
    with pytest.raises(yais.DeadlineExceeded):
        runner.infer_with_deadline(seconds, X=FOUR).result(SOON)


# Callables before and after.


def brighter(given):
    return {"X": np.asarray(given["image"], np.float32) + given.get("more", 0)}


def test_pre_and_post(manager):
    runner = manager.infer_runner("twice", pre=brighter, post=lambda outputs: float(outputs["Y"].sum()))
    assert runner.infer(image=FOUR, more=1).get(SOON) == 16.0
    assert runner.infer({"image": FOUR}).get(SOON) == 8.0
    assert runner.infer_with_deadline(SOON, image=FOUR).get(SOON) == 8.0


def test_pre_and_post_run_on_threads_of_the_manager(manager):
    names = {}

    def pre(given):
        names["pre"] = threading.current_thread().name
        return given

    def post(outputs):
        names["post"] = threading.current_thread().name
        return outputs

    assert manager.infer_runner("twice", pre=pre, post=post).infer(X=FOUR).get(SOON)["Y"].sum() == 8.0
    assert "-pre-" in names["pre"] and "-post-" in names["post"]


async def test_pre_and_post_can_be_awaited(manager):
    runner = manager.infer_runner("twice", pre=brighter, post=lambda outputs: outputs["Y"][:, 0].tolist())
    async with asyncio.timeout(SOON):
        sums = await asyncio.gather(*(runner.infer(image=FOUR * number) for number in range(20)))
    assert sums == [[2.0 * number] for number in range(20)]


def fails(_):
    raise RuntimeError("not today")


@pytest.mark.parametrize("stage", ["pre", "post"])
def test_pre_or_post_that_raises(manager, stage):
    runner = manager.infer_runner("twice", **{stage: fails})
    with pytest.raises(RuntimeError, match="not today"):
        runner.infer(X=FOUR).result(SOON)
    with pytest.raises(RuntimeError, match="not today"):
        runner.infer(X=FOUR).result(SOON)  # and its thread goes on


@pytest.mark.parametrize("made", [{}, {"Y": FOUR}, {"X": FOUR, "Y": FOUR}])
def test_pre_that_makes_something_else(manager, made):
    future = manager.infer_runner("twice", pre=lambda _: made).infer(image=FOUR)
    with pytest.raises(yais.InvalidArgument) as caught:
        future.result(SOON)
    assert str(caught.value) == f"got inputs {sorted(made)} for model 'twice', expected ['X']"


@pytest.mark.parametrize("made", [None, 5])
def test_pre_that_makes_no_inputs_at_all(manager, made):
    future = manager.infer_runner("twice", pre=lambda _: made).infer(image=FOUR)
    with pytest.raises(yais.InvalidArgument) as caught:
        future.result(SOON)
    assert str(caught.value) == f"got a {type(made).__name__} from pre, expected a mapping of inputs"


def test_errors_pass_post_by(manager):
    called = []
    runner = manager.infer_runner("raising", post=called.append)
    with pytest.raises(yais.NotFound, match="three is not here"):
        runner.infer(which=[3]).result(SOON)
    assert called == []


def test_cancelled_before_pre(manager):
    entered, leave = threading.Event(), threading.Event()
    executed = []

    def pre(given):
        executed.append(given["number"])
        entered.set()
        assert leave.wait(SOON)
        return {"X": FOUR}

    runner = manager.infer_runner("twice", pre=pre)
    first = runner.infer(number=1)  # there is one thread for it
    assert entered.wait(SOON)
    second = runner.infer(number=2)
    assert second.cancel() and second.cancelled()
    leave.set()
    assert first.get(SOON)["Y"].tolist() == [[2.0] * 4]
    third = runner.infer(number=3)
    third.get(SOON)
    assert executed == [1, 3]


# The end.


@pytest.fixture(params=["local", "remote"])
def leaving(request):
    """A manager of its own, with its gate, to be closed by the test."""
    gate = Gate()
    with InferenceManager(max_exec_concurrency=2) as models:
        register_all(models, gate)
        models.allocate()
        if request.param == "local":
            yield models, gate
        else:
            with served(models) as server:
                address = f"127.0.0.1:{server.port}"
                with yais.RemoteInferenceManager(address, timeout=SOON) as manager:
                    yield manager, gate
                    gate.open.set()
        gate.open.set()


def test_closing_while_requests_are_in_flight(leaving):
    manager, gate = leaving
    futures = [manager.infer_runner("gate").infer(X=ONE) for _ in range(5)]
    asked(gate)
    closing = threading.Thread(target=manager.close, args=(SOON,))
    closing.start()
    gate.open.set()
    closing.join(SOON)
    assert not closing.is_alive()
    for future in futures:  # every one ends: with its answer, or told that the manager is closed
        error = future.exception(SOON)
        assert error is None or isinstance(error, yais.Cancelled | yais.Unavailable)


def test_a_closed_manager(leaving):
    manager, _ = leaving
    runner = manager.infer_runner("twice")
    with_pre = manager.infer_runner("twice", pre=lambda given: given)
    assert manager.close() and manager.close()
    with pytest.raises(yais.FailedPrecondition, match="closed"):
        manager.infer_runner("twice")
    for one in (runner, with_pre):
        future = one.infer(X=FOUR)
        with pytest.raises(yais.Unavailable, match="'twice'"):
            future.result(SOON)


def test_the_end_of_a_with_block_closes(leaving):
    manager, _ = leaving
    with manager as entered:
        assert entered is manager
        runner = manager.infer_runner("twice")
    with pytest.raises(yais.Unavailable):
        runner.infer(X=FOUR).result(SOON)
