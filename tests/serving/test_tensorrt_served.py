"""Plans in the server: from a repository to answers, on fake GPUs."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving_models import Wire, infer_request, one_process, outputs_of, serving_models

from yais.engines.tensorrt_runtime import _found
from yais.memory.cuda import device as cuda_devices
from yais.repository.devices import Devices
from yais.testing.cuda import FakeCuda
from yais.testing.tensorrt import FakeNetwork, FakeProfile, FakeTensor, FakeTensorRT

pytestmark = one_process

PROFILES = [FakeProfile({"x": ((1, 4), (4, 4), (8, 4))}), FakeProfile({"x": ((1, 4), (16, 4), (32, 4))})]
CONFIG = 'backend: "tensorrt" max_batch_size: 8 dynamic_batching {{}} {}'


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorRT]:
    with FakeCuda(2) as cuda, FakeTensorRT(cuda) as fake:
        monkeypatch.setitem(sys.modules, "tensorrt", fake.module)
        monkeypatch.setattr(cuda_devices, "cuda_device", cuda.device)
        devices = Devices((0, 1), why_not=lambda _: "")
        monkeypatch.setattr(Devices, "here", lambda: devices)
        _found.cache_clear()
        yield fake
        _found.cache_clear()
        gc.collect()


def write_model(fake: FakeTensorRT, root: Path, name: str, config: str | None, **changes: Any) -> None:
    chosen: dict[str, Any] = {
        "inputs": [FakeTensor("x")],
        "outputs": [FakeTensor("y")],
        "function": lambda x: [2 * x],
        "profiles": PROFILES,
        "scratch": 5000,
    }
    directory = root / name / "1"
    directory.mkdir(parents=True)
    (directory / "model.plan").write_bytes(fake.plan(FakeNetwork(**{**chosen, **changes})))
    if config is not None:
        (directory.parent / "config.pbtxt").write_text(CONFIG.format(config))


def serving(fake: FakeTensorRT, root: Path, **options: Any) -> Any:
    return serving_models(root, gpus=fake.cuda.device, **options)


def doubles(wire: Wire, model: str, rows: int, value: float) -> bool:
    x = np.full((rows, 4), value, np.float32)
    y = outputs_of(wire.infer(infer_request(model, {"x": x})))["y"]
    return y.shape == x.shape and bool((y == 2 * x).all())


@pytest.mark.parametrize(
    "config",
    [
        None,
        "",
        "instance_group { gpus: 1 count: 2 }",
        'instance_group { gpus: [ 0, 1 ] profile: "0" }',
        "optimization { cuda { graphs: true } }",
        'parameters { key: "weights" value { string_value: "managed" } }',
    ],
)
def test_a_plan_is_served(fake: FakeTensorRT, tmp_path: Path, config: str | None) -> None:
    write_model(fake, tmp_path, "M", config)
    with serving(fake, tmp_path) as server, Wire(server.port) as wire:
        for value in range(20):
            assert doubles(wire, "M", 1 + value % 4, value)
    assert not fake.problems


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        ('instance_group { profile: "7" }', {}, "got profile 7, expected 0 to 1"),
        ('parameters { key: "wieghts" value { string_value: "managed" } }', {}, "got parameter 'wieghts'"),
        ("", {"capability": "DLA_STANDALONE"}, "a loadable for a DLA alone"),
        ("", {"plugin": "Fancy"}, "Cannot find plugin: Fancy"),
    ],
)
def test_why_a_plan_is_not_served_is_said(
    fake: FakeTensorRT, tmp_path: Path, config: str, changes: dict[str, Any], message: str
) -> None:
    write_model(fake, tmp_path, "M", config, **changes)
    write_model(fake, tmp_path, "other", "")
    with serving(fake, tmp_path) as server, Wire(server.port) as wire:
        (entry,) = [each for each in server.repository.entries if each.name == "M"]
        assert message in entry.reason
        assert doubles(wire, "other", 2, 3)
        del entry
