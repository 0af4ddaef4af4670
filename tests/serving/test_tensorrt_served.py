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


def test_states_that_are_larger_than_all_that_requests_see(fake: FakeTensorRT, tmp_path: Path) -> None:
    """They come from the GPU as outputs do, and so by way of a lane's memory."""
    wide = ((1, 20_000), (4, 20_000), (4, 20_000))
    write_model(
        fake,
        tmp_path,
        "M",
        None,
        inputs=[FakeTensor("x"), FakeTensor("before", shape=(-1, 20_000))],
        outputs=[FakeTensor("y"), FakeTensor("after", shape=(-1, 20_000))],
        function=lambda x, before: [x + before[:, -4:], before + x[:, :1]],
        profiles=[FakeProfile({"x": ((1, 4), (4, 4), (4, 4)), "before": wide})],
    )
    state = 'state { input_name: "before" output_name: "after" data_type: TYPE_FP32 dims: [ 20000 ] }'
    (tmp_path / "M/config.pbtxt").write_text(
        'backend: "tensorrt" max_batch_size: 4 input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } '
        'output { name: "y" data_type: TYPE_FP32 dims: [ 4 ] } '
        f"sequence_batching {{ max_sequence_idle_microseconds: 60000000 direct {{}} {state} }}"
    )
    with serving(fake, tmp_path) as server, Wire(server.port) as wire:
        for number in range(3):
            request = infer_request("M", {"x": np.ones((1, 4), np.float32)})
            request.parameters["sequence_id"].int64_param = 7
            request.parameters["sequence_start"].bool_param = number == 0
            assert (outputs_of(wire.infer(request))["y"] == number + 1).all()


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
