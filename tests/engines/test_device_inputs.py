"""Inputs that are on the GPU already: engines copy them to their lanes there, not by way of the host."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from gpu_lanes import run
from plans import doubling, lanes_of, loaded
from small_models import identity, some

from yais.core.tensor import DataType, TensorSpec
from yais.engines.device_function import DeviceFunctionEngine
from yais.engines.device_tensors import DeviceTensors
from yais.engines.onnx import OnnxEngine, OnnxOptions
from yais.engines.onnx_device import OnnxDeviceEngine
from yais.engines.single_lane import single_lane
from yais.errors import InvalidArgument
from yais.lane import Lane
from yais.memory.device_array import DeviceArray
from yais.testing.cuda import FakeCuda
from yais.testing.tensorrt import FakeNetwork, FakeProfile, FakeTensor, FakeTensorRT

SIZED = [datatype for datatype in DataType if datatype.size]
ROWS = some(DataType.FP32, (3, 4))


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    with FakeCuda() as fake:
        yield fake


@contextmanager
def on_gpu(
    cuda: FakeCuda, array: Any, lane: Lane, datatype: DataType = DataType.FP32, offset: int = 0
) -> Iterator[DeviceArray]:
    """Have an array on the GPU, after so many bytes."""
    with cuda.device().memory().allocate(offset + array.nbytes + 1) as memory:
        address = memory.handle + offset
        cuda.view(address, array.nbytes)[:] = array.tobytes()
        yield DeviceArray(address, array.shape, datatype, gpu=0, stream=lane.stream)


def copies(cuda: FakeCuda) -> list[str]:
    """Return the kinds of all copies; "compute" is one on the GPU."""
    return [work.kind for work in cuda.gpus[0].timeline if work.label.endswith("bytes")]


@pytest.mark.parametrize("datatype", SIZED, ids=str)
@pytest.mark.parametrize("offset", [0, 1, 13])
def test_a_copy_of_any_type_and_alignment(cuda: FakeCuda, datatype: DataType, offset: int) -> None:
    array = some(datatype, (2, 3))
    with (
        single_lane(cuda.device(), device=512, staging=256) as (lane, _),
        on_gpu(cuda, array, lane, datatype, offset) as given,
    ):
        tensors = DeviceTensors(lane)
        address = tensors.copy_in(given)
        assert address % 256 == 0 and address != given.address
        back = tensors.copy_out(address, array.dtype, array.shape)
        lane.stream.sync()
        assert back.tobytes() == array.tobytes()
        assert copies(cuda) == ["compute", "copy_out"]
        tensors.reserve(256)
        with pytest.raises(MemoryError, match="expected at most 0 left"):
            tensors.copy_in(given)


def test_without_elements(cuda: FakeCuda) -> None:
    array = np.zeros((0, 4), np.float32)
    with (
        single_lane(cuda.device(), device=512, staging=256) as (lane, _),
        on_gpu(cuda, array, lane) as given,
    ):
        assert DeviceTensors(lane).copy_in(given)
        assert copies(cuda) == []


def test_a_function(cuda: FakeCuda) -> None:
    def double(inputs: Any, outputs: Any, stream: Any, scratch: Any) -> None:
        def kernel() -> None:
            x, y = [np.frombuffer(cuda.view(each.address, each.nbytes), np.float32) for each in (x_, y_)]
            y[:] = 2 * x

        (x_,), (y_,) = inputs, outputs
        cuda.submit(stream.handle, "compute", kernel)

    specs = [TensorSpec(name, DataType.FP32, (-1, 4)) for name in "xy"]
    engine = DeviceFunctionEngine(double, specs[:1], specs[1:], max_batch=8, device=cuda.device())
    assert engine.takes_device_arrays
    with (
        single_lane(cuda.device(), device=engine.device_size, staging=256) as (lane, _),
        on_gpu(cuda, ROWS, lane, offset=3) as given,
    ):
        np.testing.assert_array_equal(run(engine, [given], lane)[0], 2 * ROWS)
        assert copies(cuda) == ["compute", "copy_out"]


@pytest.mark.parametrize(("room", "expected"), [(4096, ["compute", "copy_out"]), (16, ["copy_out"] * 2)])
def test_onnx(cuda: FakeCuda, room: int, expected: list[str]) -> None:
    """What does not fit is given to ONNX Runtime on the host."""
    source = OnnxEngine(identity(DataType.FP32, ("batch", 4)), OnnxOptions(intra_op_threads=1))
    engine = OnnxDeviceEngine(source, gpu=0, max_batch=8, memory=("cpu", 0))
    assert engine.takes_device_arrays
    with (
        single_lane(cuda.device(), device=room, staging=256) as (lane, _),
        on_gpu(cuda, ROWS, lane, offset=3) as given,
    ):
        np.testing.assert_array_equal(run(engine, [given], lane)[0], ROWS)
        if expected[0] == "copy_out":  # the output is where ONNX Runtime has put it: for it, the host
            expected = ["copy_out", "copy_in"]
        assert copies(cuda)[0] == expected[0] and len(copies(cuda)) == 2
    engine.close()


@pytest.mark.parametrize("graphs", [False, True])
def test_a_plan(cuda: FakeCuda, graphs: bool) -> None:
    with FakeTensorRT(cuda) as fake:
        engine = loaded(fake, doubling(), graphs=graphs)
        assert engine.takes_device_arrays
        with lanes_of(cuda, engine) as ((lane,), (scratch,)), on_gpu(cuda, ROWS, lane, offset=3) as given:
            for turn in itertools.count():  # the third one is a graph
                np.testing.assert_array_equal(run(engine, [given], lane, scratch)[0], 2 * ROWS)
                if turn == 3:
                    break
            assert copies(cuda) == ["compute", "copy_out"] * 4
            if engine.graph_counts is not None:
                assert engine.graph_counts.launched
        engine.close()
        del engine


def test_a_plan_that_reads_an_input_on_the_host(cuda: FakeCuda) -> None:
    network = FakeNetwork(
        inputs=[FakeTensor("x", shape=(-1,)), FakeTensor("count", "INT64", (1,), host=True)],
        outputs=[FakeTensor("tiled", shape=(-1, -1))],
        function=lambda x, count: [np.tile(x, (int(count[0]), 1))],
        output_shapes=lambda shapes, values: [(int(values["count"][0]), *shapes["x"])],
        profiles=[FakeProfile({"x": ((1,), (2,), (6,))}, {"count": ((1,), (2,), (5,))})],
    )
    with FakeTensorRT(cuda) as fake:
        engine = loaded(fake, network)
        assert not engine.takes_device_arrays
        count = np.array([2])
        with (
            lanes_of(cuda, engine) as ((lane,), _),
            on_gpu(cuda, count, lane, DataType.INT64) as given,
            pytest.raises(InvalidArgument, match="expected an array on the host"),
        ):
            engine.begin([np.ones(3, np.float32), given], lane)
        engine.close()
        del engine
