"""Plans in an InferenceManager: from a file to answers, on fake GPUs."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from modelling import SOON

from yais.engines.tensorrt_runtime import _found
from yais.errors import FailedPrecondition, InvalidArgument
from yais.inference.manager import InferenceManager
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.memory.cuda import device as cuda_devices
from yais.testing.cuda import FakeCuda
from yais.testing.tensorrt import FakeNetwork, FakeProfile, FakeTensor, FakeTensorRT

NETWORK: dict[str, Any] = {
    "inputs": [FakeTensor("x")],
    "outputs": [FakeTensor("y")],
    "function": lambda x: [2 * x],
    "profiles": [FakeProfile({"x": ((1, 4), (4, 4), (8, 4))})],
    "scratch": 5000,
}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorRT]:
    """A TensorRT as if it were installed, and two GPUs; nothing is left in the end."""
    with FakeCuda(2) as cuda, FakeTensorRT(cuda, "11.4.0.106") as fake:
        monkeypatch.setitem(sys.modules, "tensorrt", fake.module)
        monkeypatch.setattr(cuda_devices, "cuda_device", cuda.device)
        _found.cache_clear()
        yield fake
        _found.cache_clear()
        gc.collect()


def planned(fake: FakeTensorRT, path: Path, **changes: Any) -> Path:
    path.write_bytes(fake.plan(FakeNetwork(**{**NETWORK, **changes})))
    return path


def test_from_a_file_to_answers(fake: FakeTensorRT, tmp_path: Path) -> None:
    with InferenceManager(2) as manager:
        manager.register(
            "M", planned(fake, tmp_path / "double.plan"), batching=BatchingPolicy(8, max_delay=0.001)
        )
        manager.allocate()
        runner = manager.infer_runner("M")
        futures = [runner.infer(x=np.full((1 + value % 4, 4), value, np.float32)) for value in range(100)]
        for value, future in enumerate(futures):
            y = future.get(SOON)["y"]
            assert y.shape == (1 + value % 4, 4) and (y == 2 * value).all()
        assert manager.find("M").signature.max_batch == 8
    assert not fake.problems


@pytest.mark.parametrize("gpus", [[], [1], [0, 1]], ids=str)
def test_the_contents_of_a_plan(fake: FakeTensorRT, gpus: list[int]) -> None:
    plan = fake.plan(FakeNetwork(**NETWORK))
    with InferenceManager(2) as manager:
        manager.register("M", plan, gpus=gpus, options={"weights": "managed"})
        manager.allocate()
        assert set(manager.statistics().gpus) == set(gpus or [0])
        x = np.full((3, 4), 5, np.float32)
        assert (manager.infer_runner("M").infer(x=x).get(SOON)["y"] == 10).all()
        with pytest.raises(InvalidArgument, match=r"got options \['speed'\]"):
            manager.register("second", plan, options={"speed": 1})
        with pytest.raises(InvalidArgument, match="format 7"):
            manager.register("second", plan[:4] + b"\7" + plan[5:])
    assert not fake.problems


def test_on_two_gpus(fake: FakeTensorRT, tmp_path: Path) -> None:
    with InferenceManager(2) as manager:
        manager.register("M", planned(fake, tmp_path / "double.engine"), gpus=[0, 1])
        manager.allocate()
        runner = manager.infer_runner("M")
        futures = [runner.infer(x=np.full((2, 4), value, np.float32)) for value in range(60)]
        assert all((future.get(SOON)["y"] == 2 * value).all() for value, future in enumerate(futures))
        for gpu in fake.cuda.gpus:
            assert any(work.kind == "compute" for work in gpu.timeline)


def test_an_output_larger_than_its_input_has_room(fake: FakeTensorRT, tmp_path: Path) -> None:
    wide = planned(
        fake,
        tmp_path / "wide.plan",
        inputs=[FakeTensor("x", shape=(-1, -1))],
        outputs=[FakeTensor("y", shape=(-1, -1, 512))],
        function=lambda x: [np.repeat(x[:, :, None], 512, 2)],
        output_shapes=lambda shapes, values: [(*shapes["x"], 512)],
        profiles=[FakeProfile({"x": ((1, 1), (4, 16), (8, 64))})],
    )
    with InferenceManager() as manager:
        manager.register("M", wide)
        manager.allocate()
        x = np.random.default_rng(1).random((8, 64), np.float32)
        y = manager.infer_runner("M").infer(x=x).get(SOON)["y"]
        assert np.array_equal(y, np.repeat(x[:, :, None], 512, 2))
        with pytest.raises(InvalidArgument, match="65"):
            manager.infer_runner("M").infer(x=np.ones((1, 65), np.float32)).get(SOON)


def test_a_request_that_fails_fails_alone(fake: FakeTensorRT, tmp_path: Path) -> None:
    with InferenceManager() as manager:
        manager.register("M", planned(fake, tmp_path / "double.plan"))
        manager.allocate()
        runner = manager.infer_runner("M")
        assert (runner.infer(x=np.ones((1, 4), np.float32)).get(SOON)["y"] == 2).all()
        fake.fail("execute_async_v3", "Error Code 1: Myelin (out of luck)")
        with pytest.raises(Exception, match=r"model 'M' failed: TensorRT's execute_async_v3 failed: .*luck"):
            runner.infer(x=np.ones((1, 4), np.float32)).get(SOON)
        assert (runner.infer(x=np.ones((2, 4), np.float32)).get(SOON)["y"] == 2).all()


def test_without_tensorrt_it_is_named(fake: FakeTensorRT, tmp_path: Path, monkeypatch: Any) -> None:
    for name in ("tensorrt", "tensorrt_lean"):
        monkeypatch.setitem(sys.modules, name, None)
    path = planned(fake, tmp_path / "double.plan")
    with InferenceManager() as manager, pytest.raises(FailedPrecondition, match=r"yais\[tensorrt\]"):
        manager.register("M", path)
