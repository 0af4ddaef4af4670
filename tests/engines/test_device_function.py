"""Functions on device memory as engines; the kernels are numpy on the memory of a fake GPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from gpu_lanes import a_lane, run
from many_threads import in_threads
from small_models import some

from yais.core.tensor import DataType, TensorSpec
from yais.engines.device_function import DeviceFunctionEngine
from yais.engines.device_tensors import DeviceTensors
from yais.engines.single_lane import single_lane
from yais.errors import Internal, InvalidArgument
from yais.inference.manager import InferenceManager
from yais.memory.cuda.error import CudaError
from yais.memory.device_array import DeviceArray
from yais.testing.cuda import FakeCuda

SOON = 20.0
SIZED = [datatype for datatype in DataType if datatype.size]

X = TensorSpec("x", DataType.FP32, (-1, 3))
Y = TensorSpec("y", DataType.FP32, (-1, 3))
ONES = np.ones((1, 3), np.float32)


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    with FakeCuda() as fake:
        yield fake


def contents(cuda: FakeCuda, array: DeviceArray) -> Any:
    return np.frombuffer(cuda.view(array.address, array.nbytes), array.dtype).reshape(array.shape)


def kernel(cuda: FakeCuda, compute: Callable[..., Any]) -> Any:
    """Return a function whose work, when the stream gets there, is `outputs[...] = compute(*inputs)`."""

    def function(inputs, outputs, stream, scratch):
        def work():
            results = compute(*[contents(cuda, array) for array in inputs])
            for array, result in zip(outputs, results, strict=True):
                contents(cuda, array)[...] = result

        cuda.submit(stream.handle, "compute", work)

    return function


def engine_of(cuda: FakeCuda, compute: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    inputs, outputs = arguments or ([X], [Y])
    options = {"max_batch": 8, "device": cuda.device()} | options
    return DeviceFunctionEngine(kernel(cuda, compute), inputs, outputs, **options)


# --- What comes out -------------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", SIZED, ids=str)
@pytest.mark.parametrize("shape", [(2, 3), (0, 3), (8, 3)])
def test_every_data_type(cuda, datatype, shape):
    specs = [TensorSpec(name, datatype, (-1, 3)) for name in "xy"]
    engine = engine_of(cuda, lambda x: [x[:, ::-1]], specs[:1], specs[1:])
    array = some(datatype, shape)
    with a_lane(cuda) as lane:
        (output,) = run(engine, [array], lane)
    assert output.dtype == datatype.numpy and output.shape == shape
    assert output.tobytes() == array[:, ::-1].tobytes()


def test_batches_of_any_size_on_one_lane(cuda):
    engine = engine_of(cuda, lambda x: [2 * x])
    assert engine.device_size == 2 * 256
    with a_lane(cuda, engine.device_size) as lane:
        for batch in (8, 1, 3, 8):
            x = some(DataType.FP32, (batch, 3), batch)
            np.testing.assert_array_equal(run(engine, [x], lane)[0], 2 * x)


def test_orders_of_inputs_and_outputs(cuda):
    """The function sees its own, whatever is selected."""
    specs = [TensorSpec(name, DataType.FP32, (-1, 3)) for name in ("a", "b", "sum", "difference")]
    engine = engine_of(cuda, lambda a, b: [a + b, a - b], specs[:2], specs[2:])
    engine.select(["b", "a"], ["difference"])
    assert engine.inputs == (specs[1], specs[0]) and engine.outputs == (specs[3],)
    a, b = some(DataType.FP32, (4, 3), 1), some(DataType.FP32, (4, 3), 2)
    with a_lane(cuda) as lane:
        (difference,) = run(engine, [b, a], lane)
    np.testing.assert_array_equal(difference, a - b)
    with pytest.raises(InvalidArgument, match="expected \\['a', 'b'\\] in any order"):
        engine.select(["a"], ["sum"])
    with pytest.raises(InvalidArgument, match="expected some of \\['sum', 'difference'\\]"):
        engine.select(["a", "b"], ["product"])


def test_shapes_that_the_caller_tells(cuda):
    """Rows of any length, and as many sums of them."""
    inputs = [TensorSpec("x", DataType.FP32, (-1, -1))]
    outputs = [TensorSpec("sums", DataType.FP32, (-1,))]
    engine = engine_of(
        cuda,
        lambda x: [x.sum(0)],
        inputs,
        outputs,
        shapes=lambda shapes: [shapes[0][1:]],
        device_size=1024,
    )
    assert engine.device_size == 1024
    x = some(DataType.FP32, (2, 7))
    with a_lane(cuda) as lane:
        np.testing.assert_allclose(run(engine, [x], lane)[0], x.sum(0))


def test_tensors_that_are_the_same_for_all_of_a_batch(cuda):
    """The batch is that of the first input that has one."""
    inputs = [TensorSpec("factor", DataType.FP32, (1,)), X]
    outputs = [Y, TensorSpec("twice", DataType.FP32, (1,))]
    engine = engine_of(cuda, lambda factor, x: [factor * x, 2 * factor], inputs, outputs)
    assert engine.device_size == DeviceTensors.size([4, 96, 96, 4])
    with a_lane(cuda) as lane:
        scaled, twice = run(engine, [np.array([3], np.float32), np.ones((5, 3), np.float32)], lane)
    assert scaled.shape == (5, 3) and (scaled == 3).all() and twice.tolist() == [6]


def test_a_model_without_a_batch(cuda):
    specs = [TensorSpec("x", DataType.INT32, (4,)), TensorSpec("y", DataType.INT32, ())]
    engine = engine_of(cuda, lambda x: [x.sum()], specs[:1], specs[1:], max_batch=0)
    with a_lane(cuda) as lane:
        assert run(engine, [np.arange(4, dtype=np.int32)], lane)[0] == 6


def test_arrays_say_where_they_are(cuda):
    seen: list[DeviceArray] = []
    engine = DeviceFunctionEngine(
        lambda inputs, outputs, _stream, _scratch: seen.extend([*inputs, *outputs]),
        [X],
        [Y],
        max_batch=8,
        device=cuda.device(),
    )
    with a_lane(cuda) as lane:
        run(engine, [ONES], lane)
        assert lane.device is not None
        assert [array.address - lane.device.handle for array in seen] == [0, 256]
        assert [array.__cuda_array_interface__["stream"] for array in seen] == [lane.stream.handle] * 2
        assert [array.gpu for array in seen] == [0, 0]


def test_activation_memory(cuda):
    used: list[Any] = []

    def function(_inputs, _outputs, _stream, scratch):
        used.append(scratch and (scratch.handle, scratch.size))

    engines = [
        DeviceFunctionEngine(function, [X], [Y], max_batch=8, scratch_size=size, device=cuda.device())
        for size in (512, 0)
    ]
    with single_lane(cuda.device(), device=4096, staging=4096, scratch=512) as (lane, scratch):
        for engine in engines:
            run(engine, [ONES], lane, scratch)
        assert scratch is not None
        assert used == [(scratch.handle, 512), None]


def test_the_gpu_is_current_for_the_function():
    with FakeCuda(gpus=2) as cuda:
        current = []
        engine = DeviceFunctionEngine(
            lambda *_: current.append(int(cuda.toolkit.call("cuCtxGetCurrent"))),
            [X],
            [Y],
            gpu=1,
            max_batch=8,
            device=cuda.device(1),
        )
        with single_lane(cuda.device(1), device=4096, staging=4096) as (lane, _):
            execution = engine.begin([ONES], lane)
            with cuda.device(1):
                expected = int(cuda.toolkit.call("cuCtxGetCurrent"))
            thread = threading.Thread(target=execution.launch, args=(None,))
            thread.start()
            thread.join(SOON)
            execution.outputs()
            del execution, lane  # which keep memory
        assert current == [expected]


def test_on_its_own(cuda):
    engine = engine_of(cuda, lambda x: [2 * x], scratch_size=512)
    x = some(DataType.FP32, (4, 3)).T[:3].T
    before = dict(cuda.device().statistics().held_bytes)
    np.testing.assert_array_equal(engine.execute([x])[0], 2 * x)
    assert cuda.device().statistics().held_bytes == dict.fromkeys(before, 0) | {"pinned": 0, "device": 0}


# --- When it is done ------------------------------------------------------------------------------------


def test_the_token_is_free_before_the_outputs_are_copied():
    with FakeCuda(engines={"copy_out": 1}) as cuda:
        engine = engine_of(cuda, lambda x: [2 * x])
        gate = threading.Event()
        other = cuda.device().stream()
        with a_lane(cuda) as lane:
            cuda.submit(other.handle, "copy_out", lambda: gate.wait(SOON))
            execution = engine.begin([ONES], lane)
            execution.launch(None)
            execution.wait()
            assert cuda.gpus[0].pending >= 2  # both copies
            gate.set()
            assert execution.outputs()[0].tolist() == [[2, 2, 2]]
            del execution, lane  # which keep memory
        other.close()


def test_lanes_at_once(cuda):
    engine = engine_of(cuda, lambda x: [2 * x])

    def works(number: int) -> None:
        with a_lane(cuda) as lane:
            for turn in range(20):
                x = some(DataType.FP32, (turn % 8 + 1, 3), 100 * number + turn)
                np.testing.assert_array_equal(run(engine, [x], lane)[0], 2 * x)

    in_threads(4, works)


# --- What goes wrong ------------------------------------------------------------------------------------


def test_a_function_that_raises(cuda):
    """What it has queued before ends first."""
    queue = kernel(cuda, lambda x: [2 * x])
    fails = [True]

    def function(*arguments):
        queue(*arguments)
        if fails.pop():
            raise KeyError("no such weight")

    engine = DeviceFunctionEngine(function, [X], [Y], max_batch=8, device=cuda.device())
    with a_lane(cuda) as lane:
        execution = engine.begin([ONES], lane)
        with pytest.raises(KeyError, match="no such weight"):
            execution.launch(None)
        assert cuda.gpus[0].pending == 0
        fails.append(False)
        assert run(engine, [ONES], lane)[0].tolist() == [[2, 2, 2]]


@pytest.mark.parametrize(
    ("call", "after"),
    [
        ("cuMemcpyAsync", 0),
        ("cuMemcpyAsync", 1),
        ("cuEventRecord", 0),
        ("cuEventRecord", 1),
        ("cuEventSynchronize", 0),
        ("cuEventSynchronize", 1),
    ],
)
def test_calls_that_fail(cuda, call, after):
    engine = engine_of(cuda, lambda x: [2 * x])
    with a_lane(cuda) as lane:
        cuda.fail(call, "CUDA_ERROR_UNKNOWN", after=after)
        cuda.fail("cuStreamSynchronize", "CUDA_ERROR_UNKNOWN")  # which waits without an event
        with pytest.raises(CudaError, match="CUDA_ERROR_UNKNOWN"):
            run(engine, [ONES], lane)
        assert run(engine, [ONES], lane)[0].tolist() == [[2, 2, 2]]


@pytest.mark.parametrize(("device", "staging"), [(0, 4096), (256, 4096), (4096, 0)])
def test_too_little_memory(cuda, device, staging):
    engine = engine_of(cuda, lambda x: [2 * x])
    with a_lane(cuda, device, staging) as lane:
        with pytest.raises(MemoryError, match="expected at most 0 left"):
            run(engine, [ONES], lane)
        assert cuda.gpus[0].pending == 0


def test_an_execution_that_is_dropped(cuda):
    engine = engine_of(cuda, lambda x: [2 * x])
    with a_lane(cuda) as lane:
        engine.begin([5 * ONES], lane)
        assert run(engine, [ONES], lane)[0].tolist() == [[2, 2, 2]]


@pytest.mark.parametrize(
    ("inputs", "outputs", "options", "text"),
    [
        ([TensorSpec("x", DataType.BYTES, (-1,))], [Y], {}, "elements of a fixed size"),
        ([X], [TensorSpec("y", DataType.FP32, (-1, -1))], {}, "expected shapes="),
        ([TensorSpec("x", DataType.FP32, (-1, -1))], [Y], {}, "expected device_size="),
        ([X], [Y], {"max_batch": 0}, "expected shapes="),
    ],
)
def test_tensors_of_unknown_size(cuda, inputs, outputs, options, text):
    with pytest.raises(InvalidArgument, match=text):
        engine_of(cuda, lambda x: [x], inputs, outputs, **options)


def test_device_size_counts_the_largest_batch(cuda):
    wide = [TensorSpec(name, DataType.FP32, (-1, 1000)) for name in "xy"]
    engine = engine_of(cuda, lambda x: [x], wide[:1], wide[1:])
    assert engine.device_size == DeviceTensors.size([32000, 32000])
    assert repr(engine).startswith("<DeviceFunctionEngine kernel.<locals>.function on GPU 0")
    engine.close()


# --- With a manager -------------------------------------------------------------------------------------


def test_requests_and_batches(cuda):
    """Many at once, on the lanes and tokens of the GPU."""
    engine = engine_of(cuda, lambda x: [2 * x], scratch_size=512)
    with InferenceManager(2, gpus=cuda.device) as manager:
        manager.register("double", engine, max_batch_size=8)
        manager.allocate()
        assert cuda.held["device"] >= 2 * 512
        runner = manager.infer_runner("double")
        arrays = [some(DataType.FP32, (size % 3 + 1, 3), size) for size in range(60)]
        futures = [runner.infer(x=array) for array in arrays]
        for array, future in zip(arrays, futures, strict=True):
            np.testing.assert_array_equal(future.get(SOON)["y"], 2 * array)
        kinds = [work.kind for work in cuda.gpus[0].timeline]
        assert kinds.count("compute") <= 60 + 1  # and what it was warmed up with
        assert kinds.count("copy_in") >= kinds.count("compute") <= kinds.count("copy_out")


def test_a_request_that_fails_fails_alone(cuda):
    queue = kernel(cuda, lambda x: [2 * x])

    def function(inputs, outputs, stream, scratch):
        if inputs[0].shape[0] == 2:
            raise Internal("no twos")
        queue(inputs, outputs, stream, scratch)

    engine = DeviceFunctionEngine(function, [X], [Y], max_batch=8, device=cuda.device())
    with InferenceManager(1, gpus=cuda.device) as manager:
        manager.register("double", engine, max_batch_size=8)
        manager.allocate()
        runner = manager.infer_runner("double")
        futures = [runner.infer(x=np.ones((size, 3), np.float32)) for size in (1, 2, 3, 2, 1)]
        for size, future in zip((1, 2, 3, 2, 1), futures, strict=True):
            if size == 2:
                with pytest.raises(Internal, match="no twos"):
                    future.get(SOON)
            else:
                assert future.get(SOON)["y"].shape == (size, 3)
        assert cuda.gpus[0].pending == 0
