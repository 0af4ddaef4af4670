"""Loading plans: what is found out at once, and what is refused why."""

from __future__ import annotations

import contextlib
import gc
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plans import BATCHES, SCRATCH, doubling, loaded, rows

from yais.core.tensor import DataType, TensorSpec
from yais.engines.kinds import EngineSettings, engine_kinds
from yais.engines.tensorrt import TensorRTEngine, TensorRTOptions
from yais.engines.tensorrt_kind import _options
from yais.engines.tensorrt_runtime import _found, tensorrt_runtime
from yais.errors import FailedPrecondition, Internal, InvalidArgument
from yais.testing.cuda import FakeCuda
from yais.testing.tensorrt import FakeNetwork, FakeProfile, FakeTensor, FakeTensorRT, Flavour

FLAVOURS: list[tuple[Flavour, str]] = [
    ("tensorrt", "10.16.1.11"),
    ("tensorrt", "11.4.0.106"),
    ("tensorrt_lean", "11.4.0.106"),
    ("tensorrt_rtx", "1.7.1.116"),
]


@pytest.mark.parametrize(("flavour", "version"), FLAVOURS)
def test_every_relative_runs_its_plans(flavour: Flavour, version: str) -> None:
    with FakeCuda() as cuda, FakeTensorRT(cuda, version, flavour) as fake:
        engine = loaded(fake, doubling(version_compatible=True))
        (result,) = engine.execute([rows(3)])
        assert (result == 2).all() and result.shape == (3, 4)
        assert version in repr(engine)
        engine.close()
        engine.close()
        del engine


def test_what_an_engine_says_of_itself() -> None:
    with FakeCuda(gpus=2) as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, doubling(), gpu=1)
        assert engine.inputs == (TensorSpec("x", DataType.FP32, (-1, 4)),)
        assert engine.outputs == (TensorSpec("y", DataType.FP32, (-1, 4)),)
        assert (engine.gpu, engine.max_batch, engine.scratch_size) == (1, 8, SCRATCH)
        assert engine.device_size == 2 * 256  # 8 x 4 x 4 bytes in, as many out
        assert engine.smallest == {"x": (1, 4), "y": (1, 4)}
        assert engine.largest == {"x": (8, 4), "y": (8, 4)}
        assert engine.graph_counts is None
        engine.close()
        del engine


def test_sizes_are_over_all_profiles_that_may_be_used() -> None:
    profiles = [BATCHES, FakeProfile({"x": ((64, 4), (64, 4), (64, 4))})]
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        both = loaded(fake, doubling(profiles=profiles))
        assert (both.max_batch, both.device_size) == (64, 2 * 1024)
        second = loaded(fake, doubling(profiles=profiles), profiles=(1,))
        assert second.max_batch == 0 and second.inputs[0].shape == (64, 4) == second.outputs[0].shape
        with pytest.raises(
            InvalidArgument, match=r"expected them within profile 1 \(x \[64, 4\] to \[64, 4\]"
        ):
            second.execute([rows(3)])
        for engine in (both, second):
            engine.close()
        del both, second, engine


def test_the_order_is_chosen() -> None:
    network = FakeNetwork(
        inputs=[FakeTensor("a", shape=(2,)), FakeTensor("b", shape=(2,))],
        outputs=[FakeTensor("sum", shape=(2,)), FakeTensor("difference", shape=(2,))],
        function=lambda a, b: [a + b, a - b],
    )
    one, two = np.array([1, 1], np.float32), np.array([2, 2], np.float32)
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, network)
        engine.select(["b", "a"], ["difference"])
        (difference,) = engine.execute([two, one])
        assert (difference == -1).all()
        for inputs, outputs in ((["a"], ["sum"]), (["a", "b"], ["product"]), (["a", "b"], ["sum", "sum"])):
            with pytest.raises(InvalidArgument, match="expected"):
                engine.select(inputs, outputs)
        engine.close()
        del engine


def test_a_file_is_mapped(tmp_path: Path) -> None:
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        path = tmp_path / "model.plan"
        path.write_bytes(fake.plan(doubling()))
        engine = TensorRTEngine(path, cuda.device(), runtime=fake.runtime)
        path.unlink()
        assert (engine.execute([rows()])[0] == 2).all()
        engine.close()
        del engine
        for contents in (None, b""):
            if contents is not None:
                path.write_bytes(contents)
            with pytest.raises(InvalidArgument, match="expected a file with a TensorRT plan"):
                TensorRTEngine(path, cuda.device(), runtime=fake.runtime)
        path.write_bytes(b"PK\x03\x04")
        with pytest.raises(InvalidArgument, match="expected a TensorRT plan"):
            TensorRTEngine(path, cuda.device(), runtime=fake.runtime)


def tensor_of(name: str, **changes: Any) -> FakeNetwork:
    """A network one of whose tensors is changed."""
    tensors = {"x": FakeTensor("x"), "y": FakeTensor("y")}
    tensors[name] = FakeTensor(name, **changes)
    return doubling(inputs=[tensors["x"]], outputs=[tensors["y"]])


REFUSED: list[tuple[FakeNetwork, str]] = [
    (doubling(capability="DLA_STANDALONE"), "a loadable for a DLA alone"),
    (doubling(capability="SAFETY"), "for the safety runtime"),
    (doubling(stripped=100), "lacks 100 bytes of weights"),
    (doubling(plugin="MyPlugin"), "cannot load the plan: .*Cannot find plugin: MyPlugin"),
    (tensor_of("x", dtype="INT4"), "tensor 'x' of the plan is of INT4, of which two share a byte"),
    (tensor_of("y", dtype="FP4"), "tensor 'y' of the plan is of FP4"),
    (
        tensor_of("x", format="Channel major FP16 format where C % 8 == 0"),
        "tensor 'x' of the plan has the format 'Channel major",
    ),
    (tensor_of("y", vectorized=1), "expected a row major linear one"),
    (tensor_of("y", alias="x"), "output 'y' of the plan shares the memory of input 'x'"),
    (
        doubling(output_shapes=lambda shapes, values: [(-1, 4)]),
        r"output 'y' of the plan has a size that depends on the data \(\[-1, 4\]\)",
    ),
]


@pytest.mark.parametrize(("network", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_what_is_not_supported_is_refused(network: FakeNetwork, message: str) -> None:
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        with pytest.raises(InvalidArgument, match=message):
            loaded(fake, network)
        gc.collect()


@pytest.mark.parametrize(
    ("version", "flavour", "message"),
    [
        ("10.3.0.1", "tensorrt", "got 10.3.0.1, please rebuild"),
        ("11.5.0.1", "tensorrt", "built by TensorRT 11.5.0.1, and here is tensorrt 10.16.1.11"),
        ("1.7.1.116", "tensorrt_rtx", r"built by TensorRT-RTX 1.7.1.116.*pip install 'yais\[tensorrt-rtx\]'"),
    ],
)
def test_plans_of_others_are_refused(version: str, flavour: Flavour, message: str) -> None:
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        plan = FakeTensorRT(cuda, version, flavour).plan(doubling())
        with pytest.raises(FailedPrecondition, match=message) as refused:
            TensorRTEngine(plan, cuda.device(), runtime=fake.runtime)
        assert "yais build MODEL.onnx" in str(refused.value)
        assert ("deserialize_cuda_engine" in fake.calls) is (
            version == "10.3.0.1"
        )  # the others are known to fail
        del refused


def test_an_older_plan_that_is_version_compatible_runs() -> None:
    with FakeCuda() as cuda, FakeTensorRT(cuda, "11.4.0.106") as fake:
        plan = FakeTensorRT(cuda, "10.16.1.11").plan(doubling(version_compatible=True))
        engine = TensorRTEngine(plan, cuda.device(), runtime=fake.runtime)
        assert (engine.execute([rows()])[0] == 2).all()
        engine.close()
        del engine


def test_a_missing_runtime_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt_lean", "tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    _found.cache_clear()
    with pytest.raises(FailedPrecondition, match=r"TensorRT needs it: pip install 'yais\[tensorrt\]'"):
        tensorrt_runtime("tensorrt")
    with pytest.raises(
        FailedPrecondition, match=r"TensorRT-RTX needs it: pip install 'yais\[tensorrt-rtx\]'"
    ):
        tensorrt_runtime("tensorrt_rtx")
    _found.cache_clear()


def test_the_first_module_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeCuda() as cuda, FakeTensorRT(cuda, "11.4.0.106", "tensorrt_lean") as fake:
        modules = __import__("sys").modules
        monkeypatch.setitem(modules, "tensorrt", None)
        monkeypatch.setitem(modules, "tensorrt_lean", fake.module)
        _found.cache_clear()
        engine = TensorRTEngine(fake.plan(doubling(version_compatible=True)), cuda.device())
        assert (engine.execute([rows()])[0] == 2).all()
        engine.close()
        del engine
        _found.cache_clear()


@pytest.mark.parametrize("version", ["10.16.1.11", "11.4.0.106"])
def test_managed_weights_are_managed(version: str) -> None:
    with FakeCuda() as cuda, FakeTensorRT(cuda, version) as fake:
        engine = loaded(fake, doubling(weights=4096), weights="managed")
        assert cuda.held["managed"] == 4096 and "device" not in cuda.held
        assert (engine.execute([rows()])[0] == 2).all()
        assert engine._allocations is not None  # what TensorRT allocates later is no weight
        address = engine._allocations.allocate(512)
        assert cuda.held == {**cuda.held, "managed": 4096, "device": 512}
        assert engine._allocations.free(address) and not engine._allocations.free(address)
        engine.close()
        del engine
        gc.collect()
        assert not cuda.held.get("managed")


def test_weights_on_the_device_are_the_default() -> None:
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, doubling(weights=4096))
        assert cuda.held["device"] == 4096 and "managed" not in cuda.held
        engine.close()
        del engine


@pytest.mark.parametrize(("budget", "scratch"), [(None, 500), (200, 800), (5000, 0)])
def test_weights_are_streamed_with_a_budget(budget: int | None, scratch: int) -> None:
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, doubling(streamable=1000), weights="streamed", weight_streaming_budget=budget)
        assert engine.scratch_size == SCRATCH + scratch
        assert (engine.execute([rows()])[0] == 2).all()
        engine.close()
        del engine


def test_many_weights_are_streamed_with_a_given_budget() -> None:
    """TensorRT tells Python its own choice in 32 bits, so that of 5 GiB would be the half of 1 GiB."""
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        with pytest.raises(InvalidArgument, match="no weight_streaming_budget for a plan with 5368709120"):
            loaded(fake, doubling(streamable=5 << 30), weights="streamed")
        gc.collect()
        engine = loaded(
            fake, doubling(streamable=5 << 30), weights="streamed", weight_streaming_budget=(5 << 30) - 100
        )
        assert engine.scratch_size == SCRATCH + 100
        engine.close()
        del engine


def test_weights_that_cannot_be_streamed_are_said() -> None:
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        with pytest.raises(InvalidArgument, match="without weights that can be streamed"):
            loaded(fake, doubling(), weights="streamed")
        fake.fail("weight_streaming_budget_v2", "Error Code 3: too small")
        with pytest.raises(Internal, match="Error Code 3: too small"):
            loaded(fake, doubling(streamable=1000), weights="streamed", weight_streaming_budget=10)
        gc.collect()


@pytest.mark.parametrize("weights", ["device", "managed"])
def test_too_little_memory_for_weights(weights: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1, "yais.tensorrt")
    with FakeCuda(memory=1 << 20) as cuda, FakeTensorRT(cuda) as fake:
        if weights == "managed":
            cuda.fail("cuMemAllocManaged", "CUDA_ERROR_OUT_OF_MEMORY")
            cuda.fail("cuMemAllocManaged", "CUDA_ERROR_OUT_OF_MEMORY")
        with pytest.raises(MemoryError, match=r"too little device memory for the plan: .*OutOfMemory"):
            loaded(fake, doubling(weights=1 << 21), weights=weights)
        gc.collect()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"contexts": 0}, "got contexts=0"),
        ({"weights": "disk"}, "got weights='disk', expected one of device, managed, streamed"),
        ({"weight_streaming_budget": 5}, "expected it with weights='streamed' only"),
        ({"weights": "streamed", "weight_streaming_budget": -5}, "expected 0 or more bytes"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        TensorRTOptions(**options)


def test_profiles_that_are_not_there() -> None:
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        with pytest.raises(InvalidArgument, match="got profile 3, expected 0 to 0: the plan has 1"):
            loaded(fake, doubling(), profiles=(0, 3))
        gc.collect()


def test_the_kind_is_registered() -> None:
    kind = engine_kinds()["tensorrt"]
    assert (kind.platform, kind.filename, kind.uses_gpus, kind.uses_cpus) == (
        "tensorrt_plan",
        "model.plan",
        True,
        False,
    )
    settings = EngineSettings(
        "m",
        instances=3,
        profiles=("0", "2"),
        graphs=True,
        parameters={"weights": "streamed", "weight_streaming_budget": "100"},
    )
    assert _options(settings) == TensorRTOptions(3, (0, 2), True, "streamed", 100)
    for wrong in ({"profiles": ("small",)}, {"parameters": {"weight_streaming_budget": "1 MB"}}):
        with pytest.raises(InvalidArgument, match="for model 'm', expected a number from 0 on"):
            _options(EngineSettings("m", **wrong))  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="got weights='disk'"):
        _options(EngineSettings("m", parameters={"weights": "disk"}))


LOADING = [
    "deserialize_cuda_engine",
    "create_execution_context",
    "set_optimization_profile_async",
    "set_input_shape",
    "infer_shapes",
]


@pytest.mark.parametrize("call", LOADING)
def test_every_call_of_a_load_may_fail(call: str, caplog: pytest.LogCaptureFixture) -> None:
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        loaded(fake, doubling(), contexts=2).close()
        how_often = fake.calls.count(call)
        assert how_often
        for after in range(how_often + 1):
            fake.fail(call, "Error Code 9: no luck", after=after)
            with contextlib.ExitStack() as fails:
                if after < how_often:
                    fails.enter_context(pytest.raises((InvalidArgument, Internal), match="9: no luck"))
                engine = loaded(fake, doubling(), contexts=2)
            gc.collect()
            assert bool(fake.alive) is bool(cuda.held.get("device")) is (after == how_often)
        engine.close()
        del engine
    assert ("yais.tensorrt", logging.ERROR) in [(each.name, each.levelno) for each in caplog.records]


@pytest.mark.parametrize(
    "call", ["cuStreamCreate", "cuEventCreate", "cuEventRecord", "cuEventSynchronize", "cuMemAlloc"]
)
def test_every_call_of_cuda_in_a_load_may_fail(call: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1, "yais.memory")  # what is logged holds the frames
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        cuda.device()
        cuda.fail(call, "CUDA_ERROR_INVALID_VALUE")
        with contextlib.suppress(Internal, MemoryError):
            loaded(fake, doubling()).close()
        gc.collect()
        assert call in cuda.calls and not fake.alive
