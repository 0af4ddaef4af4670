"""Executions of plans: the order of calls, what is lent and given back, every type, errors at each call."""

from __future__ import annotations

import contextlib
import gc
import itertools
import logging
import threading
import weakref
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gpu_lanes import run
from plans import BATCHES, SCRATCH, SOON, doubling, eventually, lanes_of, loaded, rows

from yais.errors import FailedPrecondition, Internal, InvalidArgument
from yais.lane import Lanes
from yais.testing import ManualClock
from yais.testing.cuda import FakeCuda
from yais.testing.tensorrt import FakeNetwork, FakeProfile, FakeTensor, FakeTensorRT

SECOND = 1_000_000_000  # ns


def test_the_order_of_calls() -> None:
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, doubling())
        with lanes_of(cuda, engine) as ((lane,), (scratch,)):
            run(engine, [rows(2)], lane, scratch)
            fake.calls.clear()
            before = len(cuda.calls)
            run(engine, [rows(3)], lane, scratch)
            calls = [call for call in cuda.calls[before:] if call.startswith(("cuMemcpy", "cuEvent"))]
        assert fake.calls == ["set_input_shape", "infer_shapes", "set_device_memory", "execute_async_v3"]
        copy, done = "cuMemcpyAsync", "cuEventSynchronize"
        assert calls == [copy, "cuEventRecord", copy, "cuEventRecord", done, done]
        fake.calls.clear()
        engine.close()
        del engine
        gc.collect()
        assert fake.calls == ["free context", "free engine", "free runtime"]


def test_what_did_not_change_is_not_said_again() -> None:
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, doubling())
        with lanes_of(cuda, engine) as ((lane,), (scratch,)):
            run(engine, [rows()], lane, scratch)
            fake.calls.clear()
            assert (run(engine, [rows(value=5)], lane, scratch)[0] == 10).all()
        assert fake.calls == ["set_device_memory", "execute_async_v3"]
        engine.close()
        del engine


def test_the_token_is_free_while_outputs_are_copied() -> None:
    clock = ManualClock()
    seconds = {"now": 0.0}
    with (
        FakeCuda(clock=clock, copy_seconds=lambda size: seconds["now"]) as cuda,
        FakeTensorRT(cuda) as fake,
    ):
        engine = loaded(fake, doubling())
        with lanes_of(cuda, engine, 2) as ((lane, other), (scratch,)):
            execution = engine.begin([rows(value=1)], lane)
            eventually(lambda: not cuda.gpus[0].pending)
            seconds["now"] = 1.0
            execution.launch(scratch)  # the kernel takes no time, the copy a second
            execution.wait()
            assert cuda.gpus[0].pending_by_kind() == {"copy_out": 1}
            seconds["now"] = 0.0
            assert (run(engine, [rows(value=2)], other, scratch)[0] == 4).all()  # with the same token
            assert cuda.gpus[0].pending_by_kind() == {"copy_out": 1}
            clock.advance_ns(SECOND)
            assert (execution.outputs()[0] == 2).all()
            del execution
        engine.close()
        del engine


def test_inputs_are_copied_while_another_execution_runs() -> None:
    clock = ManualClock()
    with FakeCuda(clock=clock) as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, doubling(duration=SECOND))
        with lanes_of(cuda, engine, 2, tokens=2) as ((lane, other), (scratch, _)):
            first = engine.begin([rows(value=1)], lane)
            first.launch(scratch)
            second = engine.begin([rows(value=2)], other)
            eventually(lambda: cuda.gpus[0].pending_by_kind() == {"compute": 1, "copy_out": 1})
            waiting = threading.Thread(target=first.wait)
            waiting.start()
            clock.advance_ns(SECOND)
            waiting.join(SOON)
            second.launch(scratch)
            eventually(lambda: cuda.gpus[0].next_end() is not None)
            clock.advance_ns(SECOND)
            second.wait()
            assert (first.outputs()[0] == 2).all() and (second.outputs()[0] == 4).all()
            del first, second
        engine.close()
        del engine


TYPES = ["FLOAT", "HALF", "BF16", "INT8", "INT32", "INT64", "BOOL", "UINT8", "FP8", "E8M0"]


@pytest.mark.parametrize("dtype", TYPES)
def test_every_type(dtype: str) -> None:
    tensor = FakeTensor("x", dtype)
    network = doubling(
        inputs=[tensor], outputs=[FakeTensor("y", dtype)], function=lambda x: [x[:, ::-1]], scratch=0
    )
    data = np.arange(12).reshape(3, 4).astype(tensor.numpy)
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, network)
        assert engine.inputs[0].datatype.numpy == tensor.numpy
        with lanes_of(cuda, engine) as ((lane,), _):
            (result,) = run(engine, [data], lane, None)
        assert result.dtype == tensor.numpy and np.array_equal(result, data[:, ::-1])
        engine.close()
        del engine


def test_a_batch_of_any_size_takes_the_first_profile_that_admits_it() -> None:
    small = FakeProfile({"x": ((1, 4), (1, 4), (2, 4))})
    large = FakeProfile({"x": ((2, 4), (8, 4), (8, 4))})
    used: list[tuple[int, ...]] = []

    def function(x: Any) -> list[Any]:
        used.append(x.shape)
        return [2 * x]

    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, doubling(profiles=[small, large], function=function))
        with lanes_of(cuda, engine) as ((lane,), (scratch,)):
            switches = []
            for batch in [1, 2, 3, 8, 2, 1, 8]:
                fake.calls.clear()
                (result,) = run(engine, [rows(batch, batch)], lane, scratch)
                assert result.shape == (batch, 4) and (result == 2 * batch).all()
                switches.append(fake.calls.count("set_optimization_profile_async"))
            # Measuring ended with the last profile. Forms that are known are told again when they come back.
            assert switches == [1, 0, 1, 0, 1, 0, 1]
            with pytest.raises(
                InvalidArgument, match=r"got x \[9, 4\], expected them within profile 0 \(x \[1, 4\]"
            ):
                engine.begin([rows(9)], lane)
        assert used == [(batch, 4) for batch in [1, 2, 3, 8, 2, 1, 8]]
        engine.close()
        del engine


def test_shape_tensors_stay_on_the_host() -> None:
    network = FakeNetwork(
        inputs=[FakeTensor("x", shape=(-1,)), FakeTensor("count", "INT64", (1,), host=True)],
        outputs=[FakeTensor("y", shape=(-1, -1)), FakeTensor("size", "INT32", (2,), host=True)],
        function=lambda x, count: [np.tile(x, (int(count[0]), 1)), np.array([count[0], len(x)], np.int32)],
        output_shapes=lambda shapes, values: [(int(values["count"][0]), *shapes["x"]), (2,)],
        profiles=[FakeProfile({"x": ((1,), (2,), (6,))}, {"count": ((1,), (2,), (5,))})],
    )
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, network, graphs=True)
        assert engine.graph_counts is None  # what is computed on the host is in no graph
        assert engine.largest == {"x": (6,), "count": (1,), "y": (5, 6), "size": (2,)}
        assert engine.device_size == 256 + 256 and engine.max_batch == 0
        with lanes_of(cuda, engine) as ((lane,), _):
            for length, count in itertools.product([3, 6], [1, 5, 2]):
                x = np.arange(length, dtype=np.float32)
                tiled, size = run(engine, [x, np.array([count])], lane, None)
                assert np.array_equal(tiled, np.tile(x, (count, 1))) and size.tolist() == [count, length]
            with pytest.raises(
                InvalidArgument, match=r"count \[6\], expected them within .*count \[1\] to \[5\]"
            ):
                engine.begin([x, np.array([6])], lane)
        engine.close()
        del engine


def sizes(*names: str) -> FakeNetwork:
    """The number of rows, as outputs on the host."""
    return FakeNetwork(
        inputs=[FakeTensor("x")],
        outputs=[FakeTensor(name, "INT32", (1,), host=True) for name in names],
        function=lambda x: [np.array([len(x)], np.int32)] * len(names),
        output_shapes=lambda shapes, values: [(1,)] * len(names),
        profiles=[BATCHES, FakeProfile({"x": ((9, 4), (9, 4), (9, 4))})],
    )


def test_answers_on_the_host_stay_as_they_were() -> None:
    """TensorRT writes such outputs when it infers shapes, wherever they are then."""
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, sizes("size"))
        with lanes_of(cuda, engine) as ((lane,), _):
            answers = []
            for count in (1, 2, 9, 3, 3):
                execution = engine.begin([rows(count)], lane)
                execution.launch(None)
                execution.wait()
                answers.extend(execution.outputs())
            assert [answer.tolist() for answer in answers] == [[1], [2], [9], [3], [3]]
            del execution
        engine.close()
        del engine


def test_outputs_on_the_host_are_there_until_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, made = ManualClock(), []

    def empty(*arguments: Any) -> Any:
        array = np.zeros(*arguments)
        made.append(weakref.ref(array))
        return array

    with FakeCuda(clock=clock) as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, replace(sizes("size", "other"), duration=SECOND))
        engine.select(["x"], ["size"])
        with lanes_of(cuda, engine) as ((lane,), _):
            monkeypatch.setattr("yais.engines.tensorrt_execution.np", SimpleNamespace(empty=empty))
            execution = engine.begin([rows(3)], lane)
            execution.launch(None)
            monkeypatch.undo()
            eventually(lambda: cuda.gpus[0].next_end() is not None)
            assert [array().tolist() for array in made] == [[0], [0]]
            clock.advance_ns(SECOND)
            execution.wait()
            assert [array().tolist() for array in made] == [[3], [3]]
            (size,) = execution.outputs()
            assert size.tolist() == [3] and made[1]() is None
            del execution
        engine.close()
        del engine


def test_strange_inputs() -> None:
    with FakeCuda(gpus=2) as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, doubling())
        other = loaded(fake, doubling(), gpu=1)
        with lanes_of(cuda, engine) as ((lane,), (scratch,)), lanes_of(cuda, other) as ((elsewhere,), _):
            column_major = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4))
            assert np.array_equal(run(engine, [column_major], lane, scratch)[0], 2 * column_major)
            for inputs, message in [
                ([], "got 0 inputs, expected 1"),
                ([rows().astype(np.float64)], "got float64 for input 'x', expected float32"),
                ([rows()[0]], r"got x \[4\], expected"),
                ([rows(0)], r"got x \[0, 4\], expected"),
            ]:
                with pytest.raises(InvalidArgument, match=message):
                    engine.begin(inputs, lane)
            with pytest.raises(FailedPrecondition, match="expected one of GPU 0"):
                engine.begin([rows()], elsewhere)
            execution = engine.begin([rows()], lane)
            for call in (execution.wait, execution.outputs):
                with pytest.raises(FailedPrecondition, match="was not launched"):
                    call()
            for memory in (None, cuda.device().memory().allocate(SCRATCH - 1)):
                with pytest.raises(MemoryError, match=f"expected at least {SCRATCH} bytes"):
                    execution.launch(memory)
                if memory is not None:
                    memory.close()
            del execution
        engine.close()
        other.close()
        del engine, other


def test_tensors_without_elements() -> None:
    network = doubling(profiles=[FakeProfile({"x": ((0, 4), (4, 4), (8, 4))})])
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, network)
        with lanes_of(cuda, engine) as ((lane,), (scratch,)):
            assert run(engine, [rows(0)], lane, scratch)[0].shape == (0, 4)
        engine.close()
        del engine


def test_an_execution_may_be_dropped_before_its_launch() -> None:
    clock = ManualClock()
    with FakeCuda(clock=clock, copy_seconds=lambda size: 1.0) as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, doubling())
        with lanes_of(cuda, engine) as ((lane,), _):
            engine.begin([rows()], lane)
            assert cuda.gpus[0].pending == 1
            clock.advance_ns(SECOND)
            lane.stream.sync()
        engine.close()
        del engine


def test_more_contexts_are_made_when_more_executions_run() -> None:
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, doubling(), contexts=2)
        assert fake.alive["context"] == 2
        with lanes_of(cuda, engine, 4, tokens=4) as (lanes, tokens):
            executions = [engine.begin([rows(value=index)], lane) for index, lane in enumerate(lanes)]
            for execution, scratch in zip(executions, tokens, strict=True):
                execution.launch(scratch)
            assert fake.alive["context"] == 4
            engine.close()  # those that are lent go when they come back
            for index, execution in enumerate(executions):
                execution.wait()
                assert (execution.outputs()[0] == 2 * index).all()
            del executions, execution
            gc.collect()
            assert "context" not in fake.alive
            with pytest.raises(FailedPrecondition, match="the engine is closed"):
                run(engine, [rows()], lanes[0], tokens[0])
        del engine


@pytest.mark.parametrize(
    "call",
    [
        "set_optimization_profile_async",
        "set_input_shape",
        "infer_shapes",
        "set_tensor_address",
        "set_device_memory",
        "execute_async_v3",
        "create_execution_context",
    ],
)
@pytest.mark.parametrize("graphs", [False, True])
def test_every_call_of_tensorrt_may_fail(call: str, graphs: bool) -> None:
    small = FakeProfile({"x": ((1, 4), (1, 4), (2, 4))})
    with FakeCuda(copy_seconds=lambda size: 0.0005) as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, doubling(profiles=[small, BATCHES]), graphs=graphs)
        failed = 0
        with lanes_of(cuda, engine, 2, tokens=2) as ((lane, other), (scratch, token)):
            blocking = engine.begin([rows()], other)
            for after in range(3):
                if call == "create_execution_context":
                    blocking.launch(token)  # it has the one context there is
                for batch in (1, 5, 2, 5):
                    fake.fail(call, "Error Code 7: bad day", after=after)
                    try:
                        (result,) = run(engine, [rows(batch, batch)], lane, scratch)
                        assert (result == 2 * batch).all()
                    except Internal as error:
                        failed += 1
                        assert f"TensorRT's {call} failed: {call}: Error Code 7: bad day" in str(error)  # noqa: PT017
                    assert lane.stream.record().done  # nothing is left there
                    fake._failures.clear()
                    assert (run(engine, [rows(batch, 7)], lane, scratch)[0] == 14).all()
                if call == "create_execution_context":
                    blocking.wait()
                    blocking.outputs()
                    blocking = engine.begin([rows()], other)
            del blocking
        assert failed
        assert engine._contexts._free and len(engine._contexts._free) == engine._contexts.size
        engine.close()
        del engine
        gc.collect()


CUDA_CALLS = ["cuMemcpyAsync", "cuEventRecord", "cuEventSynchronize", "cuEventCreate"]


@pytest.mark.parametrize("call", CUDA_CALLS)
@pytest.mark.parametrize("graphs", [False, True])
def test_every_call_of_cuda_may_fail(call: str, graphs: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1, "yais.memory")
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, doubling(), graphs=graphs)
        failed = 0
        with lanes_of(cuda, engine) as ((lane,), (scratch,)):
            for after in range(8):
                cuda.fail(call, "CUDA_ERROR_INVALID_VALUE", after=after)
                with contextlib.suppress(Internal):
                    failed += 1
                    assert (run(engine, [rows(3, after)], lane, scratch)[0] == 2 * after).all()
                    failed -= 1
                eventually(lambda: not cuda.gpus[0].pending)  # a mark may fail as well: then it is not waited
                assert len(engine._contexts._free) == engine._contexts.size
            for _ in range(40):  # until all of these failures are over
                with contextlib.suppress(Internal):
                    run(engine, [rows()], lane, scratch)
            assert (run(engine, [rows(3, 9)], lane, scratch)[0] == 18).all()
        assert failed or call == "cuEventCreate"  # events are made once
        engine.close()
        del engine


def test_a_fault_of_the_gpu_reaches_who_waits(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1, "yais.memory")

    def fault(x: Any) -> list[Any]:
        raise RuntimeError("an illegal instruction")

    with FakeCuda() as cuda:
        fake = FakeTensorRT(cuda)  # not as a block: the error of the GPU, which stays, holds what it was in
        engine = loaded(fake, doubling(function=fault))
        device = cuda.device()
        scratch = device.memory().allocate(SCRATCH)
        lanes = Lanes("gpu", threads={"execute": 1}, count=1, device=device)
        lanes.reserve(1 << 16, SOON, device=engine.device_size)
        with lanes.pool.acquire(SOON) as lane:
            execution = engine.begin([rows()], lane)
            execution.launch(scratch)
            with pytest.raises(Internal, match="start the process again"):
                execution.wait()
        assert engine._contexts is not None and len(engine._contexts._free) == 1
        scratch.close()
        engine.close()
        assert lanes.close(SOON)
        assert not fake.problems
