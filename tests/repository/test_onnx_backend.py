"""ONNX models on the GPUs that a configuration names: which engines are made, and for what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from onnx_models import identity, write

from yais.core.tensor import DataType, TensorSpec
from yais.engines import onnx_device
from yais.engines.onnx import OnnxEngine
from yais.errors import InvalidArgument
from yais.repository.config import parse_config
from yais.repository.devices import Devices
from yais.repository.onnx_backend import load_onnx
from yais.testing import FakeEngine

GROUPS = (
    "instance_group { kind: KIND_GPU count: 2 gpus: [1, 0] } instance_group { kind: KIND_CPU } "
    "instance_group { kind: KIND_GPU gpus: 1 }"
)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Have two GPUs; return what is made for them: GPU, largest batch, providers and engine."""
    made: list[Any] = []

    def load(path: Path, options: Any, *, gpu: int, max_batch: int) -> FakeEngine:
        if len(made) == 1 and path.name == "second.onnx":
            raise InvalidArgument("no more")
        x = TensorSpec("X", DataType.FP32, (-1, -1))
        engine = FakeEngine([x], [x], lambda x: [x])
        providers = [(each.name, each.options["device_id"]) for each in options.providers]
        made.append((gpu, max_batch, providers, engine))
        return engine

    devices = Devices((0, 1), frozenset({"CUDAExecutionProvider"}))
    monkeypatch.setattr(Devices, "here", lambda: devices)
    monkeypatch.setattr(onnx_device, "load_on_gpu", load)
    return made


@pytest.mark.parametrize(("said", "batch"), [("", 32), ("max_batch_size: 6", 6)])
def test_an_engine_for_each_gpu(made: list[Any], said: str, batch: int, tmp_path: Path) -> None:
    write(tmp_path, "m", identity("FP32"))
    engine = load_onnx(parse_config(f"{said} {GROUPS}", "m"), "1", tmp_path / "m/1/model.onnx")
    assert [each[:3] for each in made] == [
        (1, batch, [("CUDAExecutionProvider", "1")]),
        (0, batch, [("CUDAExecutionProvider", "0")]),
    ]
    on_one, on_other = (each[3] for each in made)
    instances = [engine.at(instance) for instance in range(7)]  # type: ignore[attr-defined]
    assert instances[:4] == [on_one, on_one, on_other, on_other]
    assert instances[4] is instances[5]  # two on the CPUs
    assert isinstance(instances[4], OnnxEngine)
    assert instances[6] is on_one
    engine.close()
    assert (on_one.closed, on_other.closed) == (1, 1)


def test_an_engine_that_fails_closes_the_ones_before(made: list[Any], tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="no more"):
        load_onnx(parse_config(GROUPS, "m"), "1", tmp_path / "second.onnx")
    assert made[0][3].closed == 1
