"""The manager of local models: what it plans, takes, refuses and gives back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from managing import X, Y, check_idle, doubling, eventually, free_lanes, ones
from many_threads import in_threads
from modelling import SOON, onnx_model

import yais
from yais.core.clock import Deadline
from yais.core.tensor import DataType, TensorSpec
from yais.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from yais.inference.manager import InferenceManager
from yais.inference.profile import Profile
from yais.inference.request import InferRequest
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.memory.host import HostMemoryResource
from yais.memory.tracked import TrackedResource

WIDE = TensorSpec("x", DataType.FP32, (-1, 1 << 16))


@pytest.fixture
def manager() -> Iterator[InferenceManager]:
    manager = InferenceManager(max_exec_concurrency=2)
    yield manager
    check_idle(manager)
    assert manager.close(SOON)


# --- Numbers ------------------------------------------------------------------------------------------


def test_defaults_are_those_of_the_original() -> None:
    with yais.InferenceManager(max_exec_concurrency=3) as manager:
        assert (manager.max_exec_concurrency, manager.max_copy_concurrency) == (3, 6)
        assert (manager.plan().tokens, manager.plan().lanes) == (3, 6)
        (threads,) = manager._lanes.threads
        assert {name: pool.statistics().threads for name, pool in threads.items()} == {
            "pre": 1,
            "execute": 3,
            "post": 3,
        }


def test_numbers_are_taken_as_they_are_given() -> None:
    with InferenceManager(2, 1, pre_threads=2, execute_threads=1, post_threads=1) as manager:
        assert (manager.plan().tokens, manager.plan().lanes) == (2, 1)
        (threads,) = manager._lanes.threads
        assert [pool.statistics().threads for pool in threads.values()] == [2, 1, 1]


@pytest.mark.parametrize(
    "numbers",
    [
        {"max_exec_concurrency": 0},
        {"max_copy_concurrency": 0},
        {"max_copy_concurrency": -1},
        {"pre_threads": 0},
        {"execute_threads": 0},
        {"post_threads": 0},
    ],
    ids=str,
)
def test_a_number_below_one_is_refused(numbers: dict[str, int]) -> None:
    before = set(threading.enumerate())
    with pytest.raises(ValueError, match="at least 1 of each"):
        InferenceManager(**numbers)
    assert not set(threading.enumerate()) - before


def test_a_model_takes_as_many_tokens_as_it_may(
    manager: InferenceManager, caplog: pytest.LogCaptureFixture
) -> None:
    manager.register("default", doubling())
    manager.register("one", doubling(), concurrency=1)
    assert "cut" not in caplog.text
    manager.register("many", doubling(), concurrency=7)
    assert "model 'many': concurrency 7 is cut to max_exec_concurrency 2" in caplog.text
    assert [(model.name, model.concurrency) for model in manager.plan().models] == [
        ("default", 2),
        ("one", 1),
        ("many", 2),
    ]


def test_concurrency_is_kept(manager: InferenceManager) -> None:
    engine = doubling()
    engine.gate.clear()
    manager.register("M", engine, concurrency=1)
    manager.register("other", other := doubling())
    manager.allocate()
    futures = [manager.infer_runner("M").infer(x=ones()) for _ in range(3)]
    assert engine.entered.acquire(timeout=SOON)
    assert manager.infer_runner("other").infer(x=ones()).get(SOON)  # the other token is free
    assert not engine.entered.acquire(timeout=0.02) and other.entered.acquire(timeout=0)
    engine.gate.set()
    assert all(future.get(SOON) for future in futures)


@pytest.mark.parametrize("placed", [False, True], ids=["token", "instance"])
def test_a_request_whose_deadline_passes_is_not_executed(placed: bool) -> None:
    """Of a server, say, where nobody cancels it."""
    engine, other = doubling(), doubling()
    with InferenceManager(1, 3, execute_threads=2) as manager:
        manager.register("M", engine, concurrency=1)
        manager.register("other", other)
        manager.allocate()
        busy = engine if placed else other
        busy.gate.clear()
        first = manager.infer_runner("M" if placed else "other").infer(x=ones())
        assert busy.entered.acquire(timeout=SOON)
        with manager.infer_runner("M").bindings() as bindings:
            deadline = Deadline.after(2.0)
            asked = InferRequest(
                [TensorSpec("x", DataType.FP32, (1, 4))],
                [ones().tobytes()],
                deadline=deadline,
                lane=bindings.lane if placed else None,
            )
            future = manager.find("M").submit(asked)
            if not placed:
                eventually(lambda: manager._tokens.pool.statistics().waiting)
            eventually(deadline.expired)
            busy.gate.set()
            with pytest.raises(DeadlineExceeded):
                future.get(SOON)
        assert first.get(SOON) and engine.batches == ([1] if placed else [])


# --- Register -----------------------------------------------------------------------------------------


def test_a_name_is_given_once(manager: InferenceManager) -> None:
    engine = doubling()
    manager.register("M", engine)
    with pytest.raises(AlreadyExists, match="'M'"):
        manager.register("M", engine)
    manager.allocate()
    assert (manager.infer_runner("M").infer(x=ones()).get(SOON)["y"] == 2).all()  # it was not closed


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"concurrency": 0}, "concurrency=0"),
        ({"concurrency": -2}, "concurrency=-2"),
        ({"max_batch_size": -1}, "max_batch_size=-1"),
        ({"batching": BatchingPolicy(4), "max_batch_size": 8}, "batching of up to 4"),
        ({"profiles": {"z": Profile((1,), (2,))}}, "'z'"),
        ({"profiles": {"x": Profile((1,), (4,))}}, "'x'"),
        ({"profiles": {"x": Profile((4, 4), (4, 4))}}, "'x'"),
    ],
    ids=str,
)
def test_what_contradicts_the_model_is_refused(
    manager: InferenceManager, options: dict[str, Any], says: str
) -> None:
    engine = doubling()
    with pytest.raises(InvalidArgument, match=says):
        manager.register("M", engine, **options)
    assert engine.closed == 0  # it stays the caller's
    manager.register("M", engine)
    manager.allocate()
    assert manager.get_models() == ["M"]


def test_a_batch_needs_a_first_dimension_of_any_size(manager: InferenceManager) -> None:
    fixed = TensorSpec("x", DataType.FP32, (2, 4))
    with pytest.raises(InvalidArgument, match="max_batch_size=3"):
        manager.register("M", lambda arrays: arrays, inputs=[fixed], outputs=[Y], max_batch_size=3)
    manager.register("M", lambda arrays: {"y": arrays["x"]}, inputs=[fixed], outputs=[Y])
    assert manager.plan().models[0].batch == 1


@pytest.mark.parametrize(
    ("model", "options", "says"),
    [
        ("/nowhere/model.onnx", {}, "/nowhere/model.onnx"),
        (Path("/nowhere/model.plan"), {}, "/nowhere/model.plan"),
        (b"no model", {}, "model"),
        (17, {}, "int"),
        (lambda arrays: arrays, {}, "inputs"),
        (lambda arrays: arrays, {"inputs": [X]}, "outputs"),
        (onnx_model("Add", ["x", "x"]), {"inputs": [X]}, "says itself"),
        (onnx_model("Add", ["x", "x"]), {"options": {"weights": "managed"}}, "expected OnnxOptions"),
    ],
    ids=["missing", "plan", "bytes", "int", "callable", "no outputs", "onnx with specs", "dict for onnx"],
)
def test_what_is_no_model_is_refused(
    manager: InferenceManager, model: Any, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidArgument, match=says):
        manager.register("M", model, **options)
    assert manager.plan().models == ()


def test_a_model_that_stops_the_program_as_it_warms_up_is_not_registered(
    manager: InferenceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.allocate()

    def interrupted(_: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("yais.inference.model.Model.warm_up", interrupted)
    with pytest.raises(KeyboardInterrupt):
        manager.register("M", onnx_model("Add", ["x", "x"]))
    monkeypatch.undo()
    manager.register("M", onnx_model("Add", ["x", "x"]))
    assert manager.get_models() == ["M"]


# --- Plan and allocate --------------------------------------------------------------------------------


def test_a_plan_allocates_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "yais.inference")
    memory = TrackedResource(HostMemoryResource(), owner="staging")
    with InferenceManager(2, memory=memory) as manager:
        manager.register("M", doubling())
        assert manager.get_models() == []
        before = memory.statistics().bytes
        plan = manager.plan()
        assert memory.statistics().bytes == before == 0
        with pytest.raises(FailedPrecondition, match="allocate"):
            manager.infer_runner("M")
        assert not caplog.messages
        assert manager.allocate() == plan and caplog.messages == str(plan).splitlines()
        assert memory.statistics().bytes == plan.host_total == 4 * plan.staging
        assert manager.get_models() == ["M"]
    assert memory.statistics().bytes == 0


def test_a_model_that_fits_is_ready_at_once(manager: InferenceManager) -> None:
    manager.allocate()
    manager.register("late", doubling())
    assert manager.get_models() == ["late"]
    assert (manager.infer_runner("late").infer(x=ones(3)).get(SOON)["y"] == 2).all()


def test_a_model_that_does_not_fit_waits_for_update_resources(
    manager: InferenceManager, caplog: pytest.LogCaptureFixture
) -> None:
    manager.register("M", doubling())
    manager.allocate()
    manager.register("wide", lambda arrays: {"y": arrays["x"][:, :4]}, inputs=[WIDE], outputs=[Y])
    assert "'wide' needs 8388608 bytes of staging" in caplog.text and "update_resources" in caplog.text
    assert manager.get_models() == ["M"] and "1 of 2 models ready" in repr(manager)
    with pytest.raises(FailedPrecondition, match="update_resources"):
        manager.infer_runner("wide")
    manager.update_resources(SOON)
    assert manager.get_models() == ["M", "wide"]
    answer = manager.infer_runner("wide").infer(x=np.ones((2, 1 << 16), np.float32)).get(SOON)
    assert answer["y"].shape == (2, 4)


def test_resources_are_updated_during_traffic(manager: InferenceManager) -> None:
    manager.register("M", doubling())
    manager.allocate()
    runner = manager.infer_runner("M")
    stop = threading.Event()

    def work(index: int) -> None:
        if index == 0:
            for size in range(1, 8):
                inputs = [TensorSpec("x", DataType.FP32, (-1, 4 << (2 * size)))]
                manager.register(f"wide-{size}", lambda _: {"y": ones()}, inputs=inputs, outputs=[Y])
                manager.update_resources(SOON)
            stop.set()
        value = index
        while not stop.is_set():
            value += 4
            assert (runner.infer(x=ones(5, value)).get(SOON)["y"] == 2 * value).all()

    in_threads(4, work)
    assert len(manager.get_models()) == 8


def test_allocating_waits_for_lanes_and_gives_up_in_time(manager: InferenceManager) -> None:
    manager.register("M", doubling())
    manager.allocate()
    manager.register("wide", lambda arrays: {"y": arrays["x"]}, inputs=[WIDE], outputs=[Y])
    with manager.infer_runner("M").bindings():
        with pytest.raises(DeadlineExceeded):
            manager.allocate(0.01)
        assert free_lanes(manager) == 3 and manager.get_models() == ["M"]
    manager.allocate(SOON)
    assert manager.get_models() == ["M", "wide"]


def test_what_is_said_of_models_holds_while_they_change(manager: InferenceManager) -> None:
    def work(index: int) -> None:
        for number in range(100):
            if index < 2:
                manager.register(f"{index}/{number}", doubling())
            else:
                assert manager.plan().tokens == 2 and manager.get_models() == [] and repr(manager)

    in_threads(4, work)


# --- Find and unregister ------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "version"), [("N", ""), ("M", "2"), ("", "")])
def test_an_unknown_model_is_not_found(manager: InferenceManager, name: str, version: str) -> None:
    manager.register("M", doubling())
    manager.allocate()
    with pytest.raises(NotFound, match="'M'"):
        manager.infer_runner(name, version)
    assert manager.infer_runner("M", "1").name == "M"


def test_unregister_lets_requests_end(manager: InferenceManager) -> None:
    engine = doubling()
    engine.gate.clear()
    manager.register("M", engine, concurrency=1)
    manager.allocate()
    runner = manager.infer_runner("M")
    futures = [runner.infer(x=ones(value=value)) for value in range(3)]
    assert engine.entered.acquire(timeout=SOON)
    drained: list[bool] = []
    thread = threading.Thread(target=lambda: drained.append(manager.unregister("M", SOON)))
    thread.start()
    eventually(lambda: not manager.get_models())
    with pytest.raises(NotFound):
        manager.infer_runner("M")
    assert not engine.closed and not drained
    engine.gate.set()
    thread.join(SOON)
    # All were answered when it returned.
    assert drained == [True] and engine.closed == 1
    assert [future.get(0)["y"][0, 0] for future in futures] == [0, 2, 4]
    with pytest.raises(Unavailable):
        runner.infer(x=ones()).get(SOON)


def test_unregister_gives_up_in_time(manager: InferenceManager) -> None:
    engine = doubling()
    engine.gate.clear()
    manager.register("M", engine, concurrency=1)
    manager.allocate()
    runner = manager.infer_runner("M")
    running, waiting = runner.infer(x=ones()), runner.infer(x=ones())
    assert engine.entered.acquire(timeout=SOON)
    assert not manager.unregister("M", 0.02)
    with pytest.raises(Unavailable):
        waiting.get(0)
    manager.register("M", again := doubling())  # its name is free
    assert (manager.infer_runner("M").infer(x=ones(value=2)).get(SOON)["y"] == 4).all()
    engine.gate.set()
    assert (running.get(SOON)["y"] == 2).all()
    assert not engine.closed and again.batches == [1]


def test_what_never_became_ready_is_closed_too(manager: InferenceManager) -> None:
    engine = doubling()
    manager.register("M", engine)
    assert manager.unregister("M") and engine.closed == 1
    with pytest.raises(NotFound):
        manager.unregister("M")


# --- Close --------------------------------------------------------------------------------------------


def test_a_closed_manager_refuses() -> None:
    before = set(threading.enumerate())
    engine = doubling()
    manager = InferenceManager(1)
    manager.register("M", engine)
    manager.allocate()
    runner = manager.infer_runner("M")
    with_pre = manager.infer_runner("M", pre=lambda given: given)
    assert runner.infer_with_deadline(SOON, x=ones()).get(SOON)  # the timer runs
    assert manager.close(SOON) and manager.close(SOON) and engine.closed == 1
    assert not set(threading.enumerate()) - before
    for call in (manager.allocate, manager.update_resources, lambda: manager.register("N", doubling())):
        with pytest.raises(FailedPrecondition, match="closed"):
            call()
    for ask in (runner, with_pre):
        with pytest.raises(Unavailable):
            ask.infer(x=ones()).get(SOON)
        with pytest.raises(Unavailable):
            ask.infer_with_deadline(SOON, x=ones()).get(SOON)
    with pytest.raises(Unavailable):
        runner.bindings(timeout=SOON)
    with pytest.raises(Unavailable):
        next(runner.stream(x=ones()))
    with pytest.raises(NotFound):
        manager.unregister("M")


def test_it_is_a_context_manager() -> None:
    engine = doubling()
    with InferenceManager(1) as manager:
        manager.register("M", engine)
    assert engine.closed == 1
    with pytest.raises(FailedPrecondition):
        manager.allocate()


def test_closing_from_several_threads(manager: InferenceManager) -> None:
    engines = [doubling() for _ in range(8)]
    for index, engine in enumerate(engines):
        manager.register(str(index), engine)
    manager.allocate()
    in_threads(4, lambda index: manager.close(SOON) or pytest.fail("it did not drain"))
    assert [engine.closed for engine in engines] == [1] * 8


def test_closing_takes_no_longer_than_it_may() -> None:
    manager = InferenceManager(4)
    engines = [doubling() for _ in range(4)]
    for index, engine in enumerate(engines):
        engine.gate.clear()
        manager.register(str(index), engine)
    manager.allocate()
    futures = [manager.infer_runner(str(index)).infer(x=ones()) for index in range(4)]
    for engine in engines:
        assert engine.entered.acquire(timeout=SOON)
    closed = threading.Event()
    thread = threading.Thread(target=lambda: closed.set() if not manager.close(2.0) else None)
    thread.start()
    thread.join(6.0)  # two seconds for all of it, not for each model
    assert closed.is_set()
    for engine in engines:
        engine.gate.set()
    assert all((future.get(SOON)["y"] == 2).all() for future in futures)
    assert manager.close(SOON)


# --- Kinds of models ----------------------------------------------------------------------------------


async def halved(arrays: Any) -> Any:
    return {"y": arrays["x"] / 2}


def counted(arrays: Any) -> Any:
    yield from ({"y": arrays["x"] + step} for step in range(3))


def test_every_kind_of_callable(manager: InferenceManager) -> None:
    tensors: dict[str, Any] = {"inputs": [X], "outputs": [Y]}
    manager.register("plain", lambda arrays: {"y": -arrays["x"]}, **tensors)
    manager.register("async", halved, **tensors)
    manager.register("generator", counted, **tensors)
    manager.allocate()
    assert (manager.infer_runner("plain").infer(x=ones()).get(SOON)["y"] == -1).all()
    assert (manager.infer_runner("async").infer(x=ones()).get(SOON)["y"] == 0.5).all()
    with manager.infer_runner("generator").stream(x=ones()) as stream:
        assert [answer["y"][0, 0] for answer in stream] == [1, 2, 3]
    with pytest.raises(yais.Unimplemented, match="stream"):
        manager.infer_runner("generator").infer(x=ones()).get(SOON)


def test_what_a_model_raises_fails_its_request(manager: InferenceManager) -> None:
    def fail(_: object) -> Any:
        raise {0: StopIteration, 1: SystemExit, 2: KeyboardInterrupt}.get(next(numbers), ValueError)("odd")

    numbers = iter(range(4))
    manager.register("M", fail, inputs=[X], outputs=[Y])
    manager.allocate()
    for _ in range(4):
        with pytest.raises(Internal, match="model 'M' failed: odd"):
            manager.infer_runner("M").infer(x=ones()).get(SOON)


def test_a_model_file(manager: InferenceManager, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_model("Add", ["x", "x"]))
    manager.register("path", path)
    manager.register("text", str(path), batching=BatchingPolicy(4))
    manager.allocate()
    assert [model.batch for model in manager.plan().models] == [32, 4]
    for name in ("path", "text"):
        runner = manager.infer_runner(name)
        assert runner.max_batch_size() in {4, 32}
        assert [spec.shape for spec in runner.input_bindings().values()] == [(-1, 2)]
        assert list(runner.output_bindings()) == ["Y"]
        assert (runner.infer(x=np.ones((3, 2), np.float32)).get(SOON)["Y"] == 2).all()
