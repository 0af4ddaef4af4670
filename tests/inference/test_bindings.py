"""Bindings: inputs in the memory of a lane."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from managing import X, Y, check_idle, doubling, eventually, free_lanes, ones
from modelling import SOON

from yais.core.tensor import DataType, TensorSpec
from yais.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, Unavailable
from yais.inference.manager import InferenceManager
from yais.inference.profile import Profile

OPEN = TensorSpec("x", DataType.FP32, (-1, -1, 4))


@pytest.fixture
def manager() -> Iterator[InferenceManager]:
    """One token, two lanes."""
    with InferenceManager(1) as manager:
        manager.register("M", doubling(), max_batch_size=8)
        manager.register("open", lambda arrays: {"y": arrays["x"].sum(1)}, inputs=[OPEN], outputs=[Y])
        profile = {"x": Profile((1, 4), (16, 4), (5, 4))}
        manager.register(
            "profiled", lambda arrays: {"y": arrays["x"].sum(1)}, inputs=[OPEN], outputs=[Y], profiles=profile
        )
        manager.allocate()
        yield manager
        check_idle(manager)


def test_what_is_written_is_what_the_model_gets(manager: InferenceManager) -> None:
    runner = manager.infer_runner("M")
    with runner.bindings(3) as bindings:
        assert list(bindings) == ["x"] and len(bindings) == 1 and bindings["x"].shape == (3, 4)
        assert bindings["x"].ctypes.data % 64 == 0 and repr(bindings).startswith("<Bindings of 'M' on infer-")
        for value in range(3):
            bindings["x"][...] = value
            assert (runner.infer(bindings).get(SOON)["y"] == 2 * value).all()
        assert free_lanes(manager) == 1  # theirs; the requests took no other
    assert free_lanes(manager) == 2


def test_the_model_reads_the_memory_of_the_lane(manager: InferenceManager) -> None:
    seen: list[int] = []

    def look(arrays: Any) -> Any:
        seen.append(arrays["x"].ctypes.data)
        return {"y": arrays["x"]}

    manager.register("looking", look, inputs=[X], outputs=[Y])
    runner = manager.infer_runner("looking")
    with runner.bindings(2) as bindings:
        assert runner.infer(bindings).get(SOON)
        own = ones(2)
        bindings.bind("x", own)
        assert (runner.infer(bindings).get(SOON)["y"] == own).all()
        assert bindings["x"] is own
    with runner.bindings(2) as bindings:
        assert seen == [bindings["x"].ctypes.data, own.ctypes.data]


def test_what_is_bound_is_converted(manager: InferenceManager) -> None:
    runner = manager.infer_runner("M")
    with runner.bindings(2) as bindings:
        bindings.bind("x", [[1, 2, 3, 4], [5, 6, 7, 8]])
        assert (runner.infer(bindings).get(SOON)["y"] == [[2, 4, 6, 8], [10, 12, 14, 16]]).all()
        with pytest.raises(InvalidArgument, match="'z'"):
            bindings.bind("z", ones())
        with pytest.raises(InvalidArgument, match="'x'"):
            bindings.bind("x", ["text"])
        bindings.bind("x", np.ones((2, 5), np.float32))
        with pytest.raises(InvalidArgument, match=r"\[-1,4\]"):
            runner.infer(bindings).get(SOON)


def test_a_lane_is_kept_until_the_request_is_answered(manager: InferenceManager) -> None:
    engine = doubling()
    manager.register("slow", engine)
    engine.gate.clear()
    runner = manager.infer_runner("slow")
    with runner.bindings(2) as bindings:
        bindings["x"][...] = 7
        future = runner.infer(bindings)
        assert engine.entered.acquire(timeout=SOON)
    assert free_lanes(manager) == 1
    with manager.infer_runner("M").bindings(2) as others:
        others["x"][...] = 9  # must not be what the engine reads
        with pytest.raises(DeadlineExceeded):
            runner.bindings(timeout=0.01)
        engine.gate.set()
        assert (future.get(SOON)["y"] == 14).all()


def test_a_cancelled_request_gives_the_lane_back(manager: InferenceManager) -> None:
    engine = doubling()
    engine.gate.clear()
    manager.register("slow", engine)
    runner = manager.infer_runner("slow")
    running = runner.infer(x=ones())
    assert engine.entered.acquire(timeout=SOON)
    with runner.bindings() as bindings:
        future = runner.infer(bindings)
    assert free_lanes(manager) == 0
    assert future.cancel()
    assert free_lanes(manager) == 1
    engine.gate.set()
    assert running.get(SOON)
    assert runner.infer(x=ones()).get(SOON) and engine.batches == [1, 1]


def test_released_bindings_are_not_asked(manager: InferenceManager) -> None:
    runner = manager.infer_runner("M")
    bindings = runner.bindings()
    bindings.release()
    bindings.release()
    assert free_lanes(manager) == 2
    with pytest.raises(FailedPrecondition, match="released"):
        runner.infer(bindings)
    with pytest.raises(FailedPrecondition, match="released"):
        _ = bindings.lane


def test_bindings_that_are_dropped_give_the_lane_back(manager: InferenceManager) -> None:
    bindings = manager.infer_runner("M").bindings()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del bindings
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]
    eventually(lambda: free_lanes(manager) == 2)


def test_there_are_as_many_as_lanes(manager: InferenceManager) -> None:
    runner = manager.infer_runner("M")
    with runner.bindings() as first, runner.bindings() as second:
        assert first.lane is not second.lane
        assert not np.shares_memory(first["x"], second["x"])
        with pytest.raises(DeadlineExceeded):
            runner.bindings(timeout=0.01)


@pytest.mark.parametrize("batch", [0, -1, 9])
def test_a_batch_that_the_model_does_not_take(manager: InferenceManager, batch: int) -> None:
    with pytest.raises(InvalidArgument, match=f"batch of {batch} .* 1 to 8"):
        manager.infer_runner("M").bindings(batch)
    assert free_lanes(manager) == 2


@pytest.mark.parametrize("shape", [None, (4,), (3, 5), (-1, 4), (1, 2, 4)], ids=str)
def test_a_shape_that_the_model_does_not_take(
    manager: InferenceManager, shape: tuple[int, ...] | None
) -> None:
    with pytest.raises(InvalidArgument, match=r"\[-1, 4\]"):
        manager.infer_runner("open").bindings(shapes=None if shape is None else {"x": shape})
    assert free_lanes(manager) == 2


def test_shapes_of_any_size(manager: InferenceManager) -> None:
    runner = manager.infer_runner("open")
    for size in (3, 0, 5000):  # the last is more than was planned for: the lane grows
        with runner.bindings(2, shapes={"x": (size, 4)}) as bindings:
            bindings["x"][...] = 1
            assert (runner.infer(bindings).get(SOON)["y"] == size).all()


def test_the_usual_shape_of_a_profile_is_the_default(manager: InferenceManager) -> None:
    runner = manager.infer_runner("profiled")
    with runner.bindings(2) as bindings:
        assert bindings["x"].shape == (2, 5, 4)
    with pytest.raises(InvalidArgument, match="17"):
        runner.bindings(2, shapes={"x": (17, 4)})
    with pytest.raises(InvalidArgument, match="typo"):
        runner.bindings(2, shapes={"typo": (3, 4)})


def test_texts_are_objects(manager: InferenceManager) -> None:
    text = TensorSpec("text", DataType.BYTES, (-1, 1))
    manager.register("texts", lambda arrays: {"text": arrays["text"]}, inputs=[text], outputs=[text])
    runner = manager.infer_runner("texts")
    with runner.bindings(2) as bindings:
        assert (bindings["text"] == b"").all()
        bindings["text"][...] = [[b"one"], [b"two\0"]]
        assert runner.infer(bindings).get(SOON)["text"].tolist() == [[b"one"], [b"two\0"]]


def test_bindings_go_through_pre(manager: InferenceManager) -> None:
    runner = manager.infer_runner("M", pre=lambda given: given, post=lambda answer: answer["y"][0, 0])
    with runner.bindings() as bindings:
        bindings["x"][...] = 3
        assert runner.infer(bindings).get(SOON) == 6


def test_a_decoupled_model_takes_them(manager: InferenceManager) -> None:
    def thrice(arrays: Any) -> Any:
        for _ in range(3):
            yield {"y": arrays["x"]}

    manager.register("thrice", thrice, inputs=[X], outputs=[Y])
    runner = manager.infer_runner("thrice")
    with runner.bindings() as bindings, runner.bindings():
        bindings["x"][...] = 3
        with runner.stream(bindings) as stream:  # with the lane they have: there is no other
            assert [answer["y"][0, 0] for answer in stream] == [3, 3, 3]


def test_bindings_wait_for_an_instance_as_all_requests_do() -> None:
    engine = doubling()
    engine.gate.clear()
    with InferenceManager(2, 3) as manager:
        manager.register("M", engine, concurrency=1)
        manager.allocate()
        runner = manager.infer_runner("M")
        with runner.bindings() as first, runner.bindings() as second:
            futures = [runner.infer(first), runner.infer(second)]
            assert engine.entered.acquire(timeout=SOON)
            assert not engine.entered.acquire(timeout=0.02) and manager.find("M").pending == 1
            engine.gate.set()
            assert all(future.get(SOON) for future in futures)


def test_bindings_that_wait_fail_with_their_model() -> None:
    engine = doubling()
    engine.gate.clear()
    with InferenceManager(1, 2) as manager:
        manager.register("M", engine)
        manager.allocate()
        runner = manager.infer_runner("M")
        running = runner.infer(x=ones())
        assert engine.entered.acquire(timeout=SOON)
        with runner.bindings() as bindings:
            waiting = runner.infer(bindings)
            assert not manager.unregister("M", 0.02)
            with pytest.raises(Unavailable):
                waiting.get(0)
        engine.gate.set()
        assert running.get(SOON)
        check_idle(manager)
