"""ONNX models bound to the device memory of lanes; the GPU is a fake, ONNX Runtime is not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from gpu_lanes import a_lane, run
from many_threads import in_threads
from onnx import helper, numpy_helper
from small_models import identity, model, some, tensor, three_outputs

from yais.core.tensor import DataType
from yais.engines import onnx_device
from yais.engines.onnx import OnnxEngine, OnnxOptions
from yais.engines.onnx_device import OnnxDeviceEngine, load_on_gpu
from yais.engines.onnx_options import OnnxProvider
from yais.errors import Internal, InvalidArgument
from yais.inference.manager import InferenceManager
from yais.memory.cuda.error import CudaError
from yais.testing.cuda import FakeCuda

SOON = 20.0
ONE_THREAD = OnnxOptions(intra_op_threads=1)
SIZED = [datatype for datatype in DataType if datatype.size]


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    with FakeCuda() as fake:
        yield fake


def engine_of(source: bytes, max_batch: int = 8) -> OnnxDeviceEngine:
    # Device memory of the fake is the host's, so this is where ONNX Runtime finds it.
    return OnnxDeviceEngine(OnnxEngine(source, ONE_THREAD), gpu=0, max_batch=max_batch, memory=("cpu", 0))


def dynamic() -> bytes:
    """Return a model whose output's size depends on the values: where x is not zero."""
    node = helper.make_node("NonZero", ["x"], ["y"])
    inputs = [tensor("x", DataType.FP32, ("batch", 4))]
    return model([node], inputs, [tensor("y", DataType.INT64, (2, "found"))])


# --- What comes out -------------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", SIZED, ids=str)
@pytest.mark.parametrize("shape", [(2, 3), (0, 3), (1, 3)])
def test_every_data_type_as_on_the_host(cuda, datatype, shape):
    engine = engine_of(identity(datatype, ("batch", 3)))
    array = some(datatype, shape)
    (expected,) = engine.execute([array])
    with a_lane(cuda) as lane:
        (output,) = run(engine, [array], lane)
    assert output.dtype == expected.dtype == datatype.numpy
    assert output.shape == expected.shape == shape
    assert output.tobytes() == expected.tobytes() == array.tobytes()


def test_scalars(cuda):
    engine = engine_of(identity(DataType.FP32, ()), max_batch=0)
    with a_lane(cuda) as lane:
        (output,) = run(engine, [np.array(2.5, np.float32)], lane)
    assert output.shape == () and output == 2.5


def test_batches_of_any_size_on_one_lane(cuda):
    engine = engine_of(three_outputs())
    assert engine.device_size == 2 * 256
    with a_lane(cuda, engine.device_size) as lane:
        for batch in (8, 1, 3, 0, 8, 5):
            a, b = some(DataType.FP32, (batch, 2), 1), some(DataType.FP32, (batch, 2), 2)
            got = run(engine, [a, b], lane)
            for output, expected in zip(got, (a + b, a - b, a * b), strict=True):
                np.testing.assert_array_equal(output, expected)


def test_names_in_another_order(cuda):
    engine = engine_of(three_outputs())
    engine.select(["b", "a"], ["product", "difference"])
    assert [spec.name for spec in (*engine.inputs, *engine.outputs)] == ["b", "a", "product", "difference"]
    a, b = some(DataType.FP32, (3, 2), 1), some(DataType.FP32, (3, 2), 2)
    with a_lane(cuda) as lane:
        product, difference = run(engine, [b, a], lane)
    np.testing.assert_array_equal(product, a * b)
    np.testing.assert_array_equal(difference, a - b)


def test_an_input_that_may_be_left_out(cuda):
    node = helper.make_node("Add", ["x", "plus"], ["y"])
    row = [tensor("x", DataType.FP32, ("batch", 2)), tensor("plus", DataType.FP32, (2,))]
    value = numpy_helper.from_array(np.array([10, 20], np.float32), "plus")
    source = model([node], row, [tensor("y", DataType.FP32, ("batch", 2))], initializer=[value])
    engine = engine_of(source)
    assert [spec.name for spec in engine.optional] == ["plus"]
    engine.select(["x", "plus"], ["y"])
    x = np.array([[1, 2]], np.float32)
    with a_lane(cuda) as lane:
        assert run(engine, [x, None], lane)[0].tolist() == [[11, 22]]
        assert run(engine, [x, np.array([1, 1], np.float32)], lane)[0].tolist() == [[2, 3]]


def test_inputs_that_are_not_contiguous(cuda):
    engine = engine_of(identity(DataType.FP32, ("batch", 3)))
    array = some(DataType.FP32, (3, 4)).T[:, ::1]
    assert not array.flags.c_contiguous
    with a_lane(cuda) as lane:
        np.testing.assert_array_equal(run(engine, [array], lane)[0], array)


@pytest.mark.parametrize("source", [three_outputs(), dynamic()], ids=["three outputs", "dynamic"])
@pytest.mark.parametrize(("device", "staging"), [(0, 4096), (256, 4096), (4096, 0), (0, 0)])
def test_memory_that_does_not_do(cuda, source, device, staging):
    """What does not fit is copied all the same, by longer ways."""
    engine = engine_of(source)
    arrays = [some(spec.datatype, (8, spec.shape[1]), 7) for spec in engine.inputs]
    expected = engine.execute(arrays)
    with a_lane(cuda, device, staging) as lane:
        for output, wanted in zip(run(engine, arrays, lane), expected, strict=True):
            np.testing.assert_array_equal(output, wanted)


@pytest.mark.parametrize(
    ("shape", "expected"), [((3, 4), 256), (("batch", 100), 3328), (("batch", "any"), 256)]
)
def test_device_memory_of_the_largest_batch(shape, expected):
    assert engine_of(identity(DataType.FP32, shape), max_batch=8).device_size == expected


# --- How it gets there ----------------------------------------------------------------------------------


def test_the_model_reads_the_lanes_memory(cuda):
    engine = engine_of(identity(DataType.FP32, ("batch", 4)))
    with a_lane(cuda) as lane:
        execution = engine.begin([np.zeros((2, 4), np.float32)], lane)
        lane.stream.sync()
        other = some(DataType.FP32, (2, 4))
        assert lane.device is not None
        cuda.view(lane.device.handle, other.nbytes)[:] = other.tobytes()
        execution.launch(None)
        execution.wait()
        np.testing.assert_array_equal(execution.outputs()[0], other)


def test_outputs_lie_in_staging(cuda):
    engine = engine_of(three_outputs())
    arrays = [some(DataType.FP32, (3, 2), seed) for seed in (1, 2)]
    with a_lane(cuda) as lane:
        before = lane.staging.statistics().used
        execution = engine.begin(arrays, lane)
        execution.launch(None)
        outputs = execution.outputs()
        assert lane.staging.statistics().used - before == 3 * 64
        lane.staging.reset()
        start = np.frombuffer(lane.staging.take(1), np.uint8).ctypes.data
        assert [array.ctypes.data - start for array in outputs] == [0, 64, 128]


def test_inputs_arrive_before_it_runs(cuda):
    """The copy is held up on the stream, where ONNX Runtime does not look."""
    engine = engine_of(identity(DataType.FP32, ("batch", 4)))
    array = some(DataType.FP32, (2, 4))
    held, entered = threading.Event(), threading.Event()
    with a_lane(cuda) as lane:
        assert lane.device is not None
        cuda.view(lane.device.handle, array.nbytes)[:] = bytes(array.nbytes)

        def hold() -> None:
            entered.set()
            assert held.wait(SOON)

        cuda.submit(lane.stream.handle, "host", hold)
        execution = engine.begin([array], lane)
        thread = threading.Thread(target=execution.launch, args=(None,))
        thread.start()
        assert entered.wait(SOON)
        held.set()
        thread.join(SOON)
        np.testing.assert_array_equal(execution.outputs()[0], array)


def test_lanes_at_once(cuda):
    engine = engine_of(three_outputs())

    def works(seed: int) -> None:
        with a_lane(cuda) as lane:
            for turn in range(20):
                a, b = (some(DataType.FP32, (turn % 8 + 1, 2), seed + part) for part in (0, 100))
                np.testing.assert_array_equal(run(engine, [a, b], lane)[0], a + b)

    in_threads(4, works)


# --- What goes wrong ------------------------------------------------------------------------------------


def test_what_onnx_runtime_refuses(cuda):
    engine = engine_of(three_outputs())
    with a_lane(cuda) as lane:
        execution = engine.begin([np.zeros((2, 2), np.float32), np.zeros((3, 2), np.float32)], lane)
        with pytest.raises(Internal, match=r"running (Add|Sub|Mul) node"):
            execution.launch(None)
        assert cuda.gpus[0].pending == 0
        ones = np.ones((1, 2), np.float32)
        assert run(engine, [ones, ones], lane)[0].tolist() == [[2, 2]]


@pytest.mark.parametrize(
    ("call", "after"), [("cuMemcpyAsync", 0), ("cuMemcpyAsync", 1), ("cuMemcpyAsync", 3)]
)
def test_copies_that_fail(cuda, call, after):
    """The first two are of inputs, the others of outputs."""
    engine = engine_of(three_outputs())
    ones = np.ones((1, 2), np.float32)
    with a_lane(cuda) as lane:
        cuda.fail(call, "CUDA_ERROR_INVALID_VALUE", after=after)
        with pytest.raises(CudaError, match="CUDA_ERROR_INVALID_VALUE"):
            run(engine, [ones, ones], lane)
        assert cuda.gpus[0].pending == 0
        assert run(engine, [ones, ones], lane)[0].tolist() == [[2, 2]]


@pytest.mark.parametrize("after", [0, 1])
def test_waits_that_fail(cuda, after):
    """Before the run, and for the outputs."""
    engine = engine_of(three_outputs())
    ones = np.ones((1, 2), np.float32)
    with a_lane(cuda) as lane:
        cuda.fail("cuEventSynchronize", "CUDA_ERROR_UNKNOWN", after=after)
        cuda.fail("cuStreamSynchronize", "CUDA_ERROR_UNKNOWN")  # which waits without an event
        with pytest.raises(CudaError, match="CUDA_ERROR_UNKNOWN"):
            run(engine, [ones, ones], lane)
        assert run(engine, [ones, ones], lane)[0].tolist() == [[2, 2]]


def test_an_execution_that_is_dropped(cuda):
    engine = engine_of(three_outputs())
    ones = np.ones((1, 2), np.float32)
    with a_lane(cuda) as lane:
        engine.begin([ones, ones], lane)
        assert run(engine, [ones * 2, ones], lane)[0].tolist() == [[3, 3]]


def test_closed_twice(cuda):
    engine = engine_of(three_outputs())
    engine.close()
    engine.close()


# --- Which engine it is ---------------------------------------------------------------------------------


def test_text_stays_on_the_host(monkeypatch, caplog):
    monkeypatch.setattr(onnx_device, "why_no_cuda", lambda: "")
    source = identity(DataType.BYTES, ("batch", 3))
    with caplog.at_level(logging.INFO, "yais.engines"):
        engine = load_on_gpu(source, ONE_THREAD, gpu=0, max_batch=4)
    assert isinstance(engine, OnnxEngine)
    assert "x, y are text" in caplog.text
    with pytest.raises(InvalidArgument, match="x, y are text"):
        OnnxDeviceEngine(engine, gpu=0)


def test_without_cuda(monkeypatch, caplog):
    monkeypatch.setattr(onnx_device, "why_no_cuda", lambda: "no driver")
    with caplog.at_level(logging.INFO, "yais.engines"):
        engine = load_on_gpu(three_outputs(), ONE_THREAD, gpu=1)
    assert isinstance(engine, OnnxEngine)
    assert caplog.messages == ["an ONNX model on GPU 1 copies its tensors itself: no driver"]


def test_with_cuda(monkeypatch):
    monkeypatch.setattr(onnx_device, "why_no_cuda", lambda: "")
    engine = load_on_gpu(three_outputs(), ONE_THREAD, gpu=1, max_batch=4)
    assert isinstance(engine, OnnxDeviceEngine)
    assert (engine.gpu, engine.scratch_size, engine.device_size) == (1, 0, 512)
    assert repr(engine) == "<OnnxDeviceEngine on GPU 1: a: FP32[-1, 2], b: FP32[-1, 2]>"


@pytest.mark.parametrize(
    "provider",
    [
        OnnxProvider("CUDAExecutionProvider", {"enable_cuda_graph": "1"}),
        OnnxProvider("TensorrtExecutionProvider", {"trt_cuda_graph_enable": "true"}),
    ],
)
def test_graphs_are_refused(provider):
    with pytest.raises(InvalidArgument, match="graphs are bound to the addresses"):
        load_on_gpu(three_outputs(), OnnxOptions(providers=(provider,)), gpu=0)


def test_graphs_that_are_not_asked_for():
    provider = OnnxProvider("CUDAExecutionProvider", {"enable_cuda_graph": "0"})
    with pytest.raises(InvalidArgument, match="lacks CUDAExecutionProvider"):
        load_on_gpu(three_outputs(), OnnxOptions(providers=(provider,)), gpu=0)


# --- With a manager -------------------------------------------------------------------------------------


def test_requests_and_batches(cuda):
    """Many at once, on the lanes of the GPU, some of them refused."""
    engine = engine_of(three_outputs())
    with InferenceManager(2, gpus=cuda.device) as manager:
        manager.register("three", engine, max_batch_size=8)
        manager.allocate()
        runner = manager.infer_runner("three")
        pairs = [
            (some(DataType.FP32, (size % 3 + 1, 2), size), some(DataType.FP32, (size % 3 + 1, 2), -size % 97))
            for size in range(60)
        ]
        futures = [runner.infer(a=a, b=b) for a, b in pairs]
        for (a, b), future in zip(pairs, futures, strict=True):
            got = future.get(SOON)
            np.testing.assert_array_equal(got["sum"], a + b)
            np.testing.assert_array_equal(got["product"], a * b)
        cuda.fail("cuMemcpyAsync", "CUDA_ERROR_INVALID_VALUE")
        with pytest.raises(CudaError, match="CUDA_ERROR_INVALID_VALUE"):
            runner.infer(a=pairs[0][0], b=pairs[0][1]).get(SOON)
        assert runner.infer(a=pairs[0][0], b=pairs[0][1]).get(SOON)
