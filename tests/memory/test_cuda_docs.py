"""What docs/cuda.md shows runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import yais
from yais.engines.device_tensors import DeviceTensors
from yais.lane import Lanes
from yais.testing.cuda import FakeCuda

PAGE = Path(__file__).parents[2] / "docs/cuda.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
FIRST, METRICS, KERNEL, FAKE = BLOCKS


@pytest.fixture
def cuda():
    with FakeCuda() as fake:
        yield fake


def run(block, **names):
    exec(compile(block, str(PAGE), "exec"), names)
    return names


def test_the_first_steps(cuda, monkeypatch, capsys):
    monkeypatch.setattr("yais.memory.cuda.device.cuda_device", cuda.device)
    names = run(FIRST)
    said = capsys.readouterr().out
    assert said.startswith("DeviceStatistics(free_bytes=")
    assert re.findall(r"'(\w+)': (\d+)", said) == [("pinned", "0"), ("device", "0")]
    assert names["device"] is cuda.device(0)
    assert list(run(METRICS)["collector"].collect())


def test_the_kernel_in_a_context(cuda, monkeypatch):
    """With a compiler and a launcher that are not there, but for what they compute."""
    launched = []

    def launch(stream, config, kernel, source, target, count):
        assert isinstance(stream, cuda.toolkit.core.Stream)
        launched.append((config.grid, config.block, kernel))
        x, y = (cuda.view(address, 4 * count).cast("f") for address in (source, target))
        cuda.submit(stream.handle, "compute", lambda: np.multiply(x, 2, out=np.asarray(y)))

    core = ModuleType("cuda.core")
    core.LaunchConfig, core.launch, core.ProgramOptions = SimpleNamespace, launch, dict
    code = SimpleNamespace(get_kernel=lambda name: name)
    core.Program = lambda code_, kind, options: SimpleNamespace(compile=lambda target: code)
    monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.core", core)
    monkeypatch.setattr(cuda.toolkit.core.Device, "arch", "90", raising=False)
    device = cuda.device()
    lanes = Lanes(threads={"execute": 1}, device=device)
    lanes.reserve(8192, 10.0, device=8192)
    given = {"yais": yais, "np": np, "DeviceTensors": DeviceTensors, "Doubled": SimpleNamespace}
    names = run(KERNEL, device=device, lanes=lanes, **given)
    assert vars(names["Double"]).keys() & vars(yais.Context).keys() >= {"execute"}
    request = SimpleNamespace(x=np.arange(300, dtype=np.float32).tobytes())
    response = names["Double"].execute(None, request)
    np.testing.assert_array_equal(np.frombuffer(response.y, np.float32), 2 * np.arange(300, dtype=np.float32))
    assert launched == [(2, 256, "twice")]
    assert lanes.close(10.0)


def test_without_a_gpu(capsys):
    run(FAKE, np=np)
    values, timeline = capsys.readouterr().out.splitlines()
    assert values == str(list(np.ones(1, np.float32).tobytes()))
    assert re.findall(r"'(\w+)', (\d+)", timeline)[1][0] == "compute"
    assert int(re.findall(r"'(\w+)', (\d+)", timeline)[1][1]) >= 50_000
