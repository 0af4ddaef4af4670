"""Engines on a GPU give what they give on the CPUs: every data type, every batch."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu_machine import GpuMachine, twice_function
from yais.core.tensor import DataType, TensorSpec
from yais.engines.device_function import DeviceFunctionEngine
from yais.engines.tensorrt import TensorRTEngine, TensorRTOptions
from yais.engines.tensorrt_options import Weights
from yais.inference.manager import InferenceManager
from yais.memory.cuda.device import CudaDevice

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples/models/digits/1/model.onnx"
LARGEST = 8
FIXED = [datatype for datatype in DataType if datatype.size]
TENSORRT = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")


@contextlib.contextmanager
def infer(device: CudaDevice, model: Any, **register: Any) -> Iterator[Callable[..., dict[str, np.ndarray]]]:
    """Yield what asks a model, or what a function makes, on the GPU; in the end it has left nothing there."""
    held = device.statistics().held_bytes
    with contextlib.closing(InferenceManager(max_exec_concurrency=2, gpus=lambda _: device)) as manager:
        made = model() if callable(model) else model
        manager.register("model", made, max_batch_size=LARGEST, **register)
        manager.allocate()
        runner = manager.infer_runner("model")
        yield lambda **arrays: dict(runner.infer(**arrays).get(timeout=60))
    gc.collect()  # errors keep what they came through
    left = device.statistics().held_bytes
    assert {kind: size for kind, size in left.items() if size != held.get(kind, 0)} == {}


def on_cpu(path: Path, **arrays: np.ndarray) -> dict[str, np.ndarray]:
    with contextlib.closing(InferenceManager()) as manager:
        manager.register("model", path, max_batch_size=LARGEST)
        manager.allocate()
        return dict(manager.infer_runner("model").infer(**arrays).get(timeout=60))


def some(datatype: DataType, batch: int, seed: int = 0) -> np.ndarray:
    """Small whole numbers, so that every data type has them and their doubles; BF16 as FP32."""
    values = np.random.default_rng(seed).integers(0, 2 if datatype is DataType.BOOL else 50, (batch, 5))
    return values.astype(np.float32 if datatype is DataType.BF16 else datatype.numpy)


def in_bits(array: np.ndarray, datatype: DataType) -> np.ndarray:
    """Return an array as it lies on the GPU: runners take and give BF16 as FP32."""
    if datatype is DataType.BF16:
        return (array.view(np.uint32) >> 16).astype(np.uint16)
    return array


def onnx_twice(path: Path, datatype: DataType) -> Path:
    """Write a model of y = x + x, or not x."""
    onnx = pytest.importorskip("onnx")
    helper, numbers = onnx.helper, onnx.TensorProto
    names = {"FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE", "BF16": "BFLOAT16"}
    element = getattr(numbers, names.get(datatype.value, datatype.value))
    node = ("Not", ["x"]) if datatype is DataType.BOOL else ("Add", ["x", "x"])
    graph = helper.make_graph(
        [helper.make_node(*node, ["y"])],
        "twice",
        [helper.make_tensor_value_info("x", element, ["batch", 5])],
        [helper.make_tensor_value_info("y", element, ["batch", 5])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def expected_twice(datatype: DataType, x: np.ndarray) -> np.ndarray:
    if datatype is DataType.BOOL:
        return ~x
    return (x + x).astype(x.dtype)


def test_a_kernel_and_every_batch(machine: GpuMachine, gpu: CudaDevice) -> None:
    x, y = (TensorSpec(name, DataType.FP32, (-1, 100)) for name in "xy")
    engine = DeviceFunctionEngine(
        twice_function(machine.kernels), [x], [y], max_batch=LARGEST, device=gpu, scratch_size=4096
    )
    with infer(gpu, engine) as ask:
        for batch in range(1, LARGEST + 1):
            array = np.random.default_rng(batch).random((batch, 100), np.float32)
            np.testing.assert_array_equal(ask(x=array)["y"], 2 * array)
    np.testing.assert_array_equal(engine.execute([array])[0], 2 * array)


@pytest.mark.parametrize("datatype", FIXED, ids=lambda datatype: datatype.value)
def test_a_kernel_and_every_data_type(machine: GpuMachine, gpu: CudaDevice, datatype: DataType) -> None:
    def backwards(inputs: Any, outputs: Any, stream: Any, scratch: Any) -> None:
        machine.kernels.reversed(stream, inputs[0].address, outputs[0].address, inputs[0].nbytes)

    x, y = (TensorSpec(name, datatype, (-1, 5)) for name in "xy")
    engine = DeviceFunctionEngine(backwards, [x], [y], max_batch=LARGEST, device=gpu)
    with infer(gpu, engine) as ask:
        for batch in (1, 3, LARGEST):
            array = some(datatype, batch)
            answer = in_bits(ask(x=array)["y"], datatype)
            assert answer.tobytes() == in_bits(array, datatype).tobytes()[::-1]


def test_a_function_that_raises_disturbs_nobody(
    machine: GpuMachine, gpu: CudaDevice, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "yais.inference")  # records would keep the errors
    twice, calls = twice_function(machine.kernels), []

    def sometimes(inputs: Any, outputs: Any, stream: Any, scratch: Any) -> None:
        twice(inputs, outputs, stream, scratch)
        calls.append(1)
        if inputs[0].shape[0] == 2:
            raise LookupError("on purpose")

    x, y = (TensorSpec(name, DataType.FP32, (-1, 100)) for name in "xy")
    engine = DeviceFunctionEngine(sometimes, [x], [y], max_batch=LARGEST, device=gpu)
    with infer(gpu, engine) as ask:
        for number in range(30):
            array = np.full((1 + number % 2, 100), number, np.float32)
            if number % 2:
                with pytest.raises(Exception, match="on purpose"):
                    ask(x=array)
            else:
                np.testing.assert_array_equal(ask(x=array)["y"], 2 * array)
    assert len(calls) == 30


def test_a_pytorch_callable(real_gpu: CudaDevice) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    layer = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)).eval()
    on_host = {name: value.clone() for name, value in layer.state_dict().items()}
    layer = layer.cuda()

    def run(inputs: Any, outputs: Any, stream: Any, scratch: Any) -> None:
        with torch.inference_mode(), torch.cuda.stream(torch.cuda.ExternalStream(stream.handle)):
            torch.from_dlpack(outputs[0]).copy_(layer(torch.from_dlpack(inputs[0])))

    x, y = TensorSpec("x", DataType.FP32, (-1, 64)), TensorSpec("y", DataType.FP32, (-1, 10))
    engine = DeviceFunctionEngine(run, [x], [y], max_batch=LARGEST, device=real_gpu)
    with infer(real_gpu, engine) as ask:
        for batch in (1, 3, LARGEST):
            array = np.random.default_rng(batch).random((batch, 64), np.float32)
            hidden = np.maximum(array @ on_host["0.weight"].numpy().T + on_host["0.bias"].numpy(), 0)
            expected = hidden @ on_host["2.weight"].numpy().T + on_host["2.bias"].numpy()
            np.testing.assert_allclose(ask(x=array)["y"], expected, rtol=1e-2, atol=1e-3)


def needs_cuda_provider() -> None:
    runtime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDAExecutionProvider")


# What ONNX Runtime adds; the others it has no kernel for.
@pytest.mark.parametrize("name", ["FP16", "FP32", "FP64", "INT32", "INT64", "UINT32", "UINT64", "BOOL"])
def test_onnx_runtime_and_every_data_type(real_gpu: CudaDevice, tmp_path: Path, name: str) -> None:
    needs_cuda_provider()
    datatype = DataType(name)
    model = onnx_twice(tmp_path / "twice.onnx", datatype)
    with infer(real_gpu, model, gpus=[0]) as ask:
        for batch in (1, 3, LARGEST):
            array = some(datatype, batch)
            np.testing.assert_array_equal(ask(x=array)["y"], expected_twice(datatype, array))


def test_onnx_runtime_and_a_network(real_gpu: CudaDevice) -> None:
    needs_cuda_provider()
    check_network(real_gpu, DIGITS)


@pytest.mark.parametrize("name", ["FP16", "FP32", "BF16", "INT32", "INT64", "BOOL"])
def test_tensorrt_and_every_data_type(real_gpu: CudaDevice, tmp_path: Path, name: str) -> None:
    datatype = DataType(name)
    plan = built(onnx_twice(tmp_path / "twice.onnx", datatype), tmp_path)
    with infer(real_gpu, plan, gpus=[0]) as ask:
        for batch in (1, 3, LARGEST):
            array = some(datatype, batch)
            np.testing.assert_array_equal(ask(x=array)["y"], expected_twice(datatype, array))


def test_tensorrt_and_a_network(real_gpu: CudaDevice, tmp_path: Path) -> None:
    check_network(real_gpu, built(DIGITS, tmp_path))


def test_tensorrt_and_graphs(real_gpu: CudaDevice, tmp_path: Path) -> None:
    plan, made = built(DIGITS, tmp_path), []

    def engine() -> TensorRTEngine:
        made.append(TensorRTEngine(plan, real_gpu, TensorRTOptions(graphs=True)))
        return made[0]

    check_network(real_gpu, engine, rounds=20)
    counts = made[0].graph_counts
    assert counts is not None
    assert (counts.failed, counts.launched > 0) == (0, True), counts


@pytest.mark.parametrize("weights", ["managed", "streamed"])
def test_tensorrt_and_where_weights_are(real_gpu: CudaDevice, tmp_path: Path, weights: Weights) -> None:
    if weights == "managed" and not real_gpu.properties.concurrent_managed_access:
        pytest.skip("this GPU does not move pages on demand")
    plan = built(DIGITS, tmp_path, weight_streaming=weights == "streamed")

    def engine() -> TensorRTEngine:
        made = TensorRTEngine(plan, real_gpu, TensorRTOptions(weights=weights))
        assert (real_gpu.statistics().held_bytes.get("managed", 0) > 0) == (weights == "managed")
        return made

    check_network(real_gpu, engine)


def built(model: Path, folder: Path, **options: Any) -> Path:
    """Build a plan for this GPU, with whichever TensorRT there is."""
    if not any(importlib.util.find_spec(name) for name in TENSORRT):
        pytest.skip("there is no TensorRT that builds: tensorrt or tensorrt-rtx")
    from yais.build.options import BuildOptions
    from yais.build.plan import build_plan
    from yais.build.shape_ranges import ShapeRange

    wanted = BuildOptions(batches=(ShapeRange((1,), (4,), (LARGEST,)),), **options)
    plan = folder / "model.plan"
    plan.write_bytes(build_plan(model, wanted).contents)
    return plan


def check_network(device: CudaDevice, model: Any, rounds: int = 1) -> None:
    with infer(device, model, **({"gpus": [0]} if isinstance(model, Path) else {})) as ask:
        for batch in sorted([*range(1, LARGEST + 1)] * rounds):
            images = np.random.default_rng(batch).integers(0, 17, (batch, *image_shape())).astype(np.float32)
            expected = on_cpu(DIGITS, **{image_name(): images})
            for name, array in ask(**{image_name(): images}).items():
                np.testing.assert_allclose(array, expected[name], rtol=1e-2, atol=1e-2)


def digits() -> TensorSpec:
    with contextlib.closing(InferenceManager()) as manager:
        manager.register("model", DIGITS)
        manager.allocate()
        (spec,) = manager.infer_runner("model").input_bindings().values()
        return spec


def image_shape() -> tuple[int, ...]:
    return tuple(digits().shape[1:])


def image_name() -> str:
    return digits().name


@pytest.mark.parametrize("name", ["FP16", "FP32", "FP64", "BF16", "INT8", "INT32", "INT64", "UINT8", "BOOL"])
def test_an_exported_program_and_every_data_type(real_gpu: CudaDevice, tmp_path: Path, name: str) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    datatype = DataType(name)
    program = exported_twice(torch, tmp_path / "twice.pt2", datatype)
    with infer(real_gpu, program, gpus=[0]) as ask:
        for batch in (1, 3, LARGEST):
            array = some(datatype, batch)
            (output,) = ask(x=array).values()
            np.testing.assert_array_equal(output, expected_twice(datatype, array))


def exported_twice(torch: Any, path: Path, datatype: DataType) -> Path:
    """Write a program of y = x + x, or not x."""
    names = {"FP16": "float16", "FP32": "float32", "FP64": "float64", "BF16": "bfloat16"}
    dtype = getattr(torch, names.get(datatype.value, datatype.value.lower()))

    class Twice(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return {"y": ~x if datatype is DataType.BOOL else x + x}

    example = torch.zeros((2, 5), dtype=dtype)
    batch = torch.export.Dim("batch", min=1, max=LARGEST)
    program = torch.export.export(Twice(), (example,), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
    return path
