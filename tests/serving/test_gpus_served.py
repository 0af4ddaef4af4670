"""Models on GPUs in the server: instance groups, memory reserved as they load, and who fails alone."""

from __future__ import annotations

import gc
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from onnx_models import identity, write
from scraping import scrape
from serving_models import SOON, Wire, eventually, infer_request, one_process, outputs_of, serving_models

from yais.core.tensor import DataType, TensorSpec
from yais.engines import kinds
from yais.engines.device_function import DeviceFunctionEngine
from yais.engines.kinds import EngineKind, EngineSettings
from yais.memory.cuda import device
from yais.protocol import kserve_pb2 as pb
from yais.repository.devices import Devices
from yais.repository.repository import ControlMode, ModelState
from yais.serving.server import InferenceServer
from yais.testing import FakeEngine
from yais.testing.cuda import FakeCuda

pytestmark = one_process

X, Y = (TensorSpec(name, DataType.FP32, (-1, 4)) for name in "XY")
CONFIG = """
backend: "doubling" max_batch_size: 8 {}
input {{ name: "X" data_type: TYPE_FP32 dims: 4 }} output {{ name: "Y" data_type: TYPE_FP32 dims: 4 }}
"""
ROW = np.arange(4, dtype=np.float32)[None]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    """Two GPUs of 8 MiB, and a kind of engines of y = 2 x, also for the CPUs. Its files say the scratch."""
    with FakeCuda(2, memory=1 << 23) as fake:

        def double(inputs: Any, outputs: Any, stream: Any, scratch: Any) -> None:
            def kernel() -> None:
                (x,), (y,) = [
                    [np.frombuffer(fake.view(each.address, each.nbytes), np.float32) for each in arrays]
                    for arrays in (inputs, outputs)
                ]
                y[:] = 2 * x

            fake.submit(stream.handle, "compute", kernel)

        def load(path: Path, settings: EngineSettings) -> Any:
            if settings.gpu is None:
                return FakeEngine([X], [Y], lambda x: [2 * x])
            scratch = int(path.read_text())
            device = fake.device(settings.gpu)
            options = {"gpu": settings.gpu, "max_batch": 8, "scratch_size": scratch, "device": device}
            return DeviceFunctionEngine(double, [X], [Y], **options)

        kind = EngineKind("doubling", "doubling", "size", (".size",), load, uses_gpus=True)
        there = dict(kinds.engine_kinds())
        monkeypatch.setattr(kinds, "_read", lambda: ({**there, "doubling": kind}, {}))
        devices = Devices((0, 1), why_not=lambda _: "")
        monkeypatch.setattr(Devices, "here", lambda: devices)
        yield fake
        gc.collect()


def write_model(root: Path, name: str, config: str, scratch: int = 4096) -> None:
    directory = root / name / "1"
    directory.mkdir(parents=True)
    (directory / "size").write_text(str(scratch))
    (directory.parent / "config.pbtxt").write_text(CONFIG.format(config))


def serving(cuda: FakeCuda, root: Path, **options: Any) -> Any:
    return serving_models(root, gpus=cuda.device, **options)


def doubles(wire: Wire, model: str, value: float = 1.0) -> bool:
    answer = wire.infer(infer_request(model, {"X": ROW + np.float32(value)}))
    return bool((outputs_of(answer)["Y"] == 2 * (ROW + np.float32(value))).all())


def states(server: InferenceServer) -> dict[str, ModelState]:
    return {entry.name: entry.state for entry in server.repository.entries}


def computed(cuda: FakeCuda) -> list[bool]:
    return [any(work.kind == "compute" for work in gpu.timeline) for gpu in cuda.gpus]


@pytest.mark.parametrize(
    ("group", "sites"),
    [
        ("", {"GPU 0": 2, "GPU 1": 2}),
        ("instance_group { kind: KIND_GPU gpus: [ 0, 1 ] count: 2 }", {"GPU 0": 2, "GPU 1": 2}),
        ("instance_group { gpus: 1 count: 3 }", {"GPU 1": 3}),
        ("instance_group { kind: KIND_CPU count: 2 }", {"host": 2}),
        ("instance_group [ { gpus: 0 }, { kind: KIND_CPU count: 1 } ]", {"GPU 0": 2, "host": 1}),
    ],
)
def test_instances_are_where_their_groups_say(
    cuda: FakeCuda, tmp_path: Path, group: str, sites: dict[str, int]
) -> None:
    write_model(tmp_path, "M", group)
    with serving(cuda, tmp_path) as server, Wire(server.port) as wire:
        model: Any = server.repository.find("M").model
        found = [str(site) for site in model._runner.sites]
        assert {site: found.count(site) for site in found} == sites
        for value in range(5):
            assert doubles(wire, "M", value)
        assert set(server._host.sites.gpus) == {int(site[-1]) for site in sites if site != "host"}
        for site in server._host.sites.gpus.values():
            assert (site.tokens.size, site.lanes.size) == (2, 4)
    assert not any(cuda.device(gpu).statistics().held_bytes.get("device") for gpu in range(2))


def test_how_much_runs_at_once_is_said(cuda: FakeCuda, tmp_path: Path) -> None:
    write_model(tmp_path, "M", "instance_group { gpus: 0 }")
    with serving(cuda, tmp_path, gpu_executions=3, gpu_lanes=4) as server, Wire(server.port) as wire:
        site = server._host.sites.of(0)
        assert (site.tokens.size, site.lanes.size) == (3, 4)
        assert doubles(wire, "M")


def test_what_is_reserved_is_logged(cuda: FakeCuda, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "yais.repository")
    write_model(tmp_path, "M", "")
    write_model(tmp_path, "second", "instance_group { gpus: 1 }", 100)
    with serving(cuda, tmp_path):
        lines = [record.getMessage() for record in caplog.records if "execution tokens" in record.message]
    reserved = (
        ": 2 execution tokens with 4.0 KiB of activation memory each, 4 lanes with 512 B of device and "
        "32.0 KiB of staging memory each, 10.0 KiB on the device in all"
    )
    for gpu in ("GPU 0", "GPU 1"):
        assert [line for line in lines if line.startswith(gpu)][-1] == gpu + reserved


def test_what_gpus_hold_is_told(cuda: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pinned memory once, though the device counts it as well as the lanes."""
    monkeypatch.setattr(device, "_devices", {gpu: cuda.device(gpu) for gpu in range(2)})
    write_model(tmp_path, "M", "instance_group { gpus: 1 }")
    with (
        serving(cuda, tmp_path, metrics_port=0) as server,
        cuda.device(0).managed().allocate(100),
        cuda.device(1).memory(owner="other").allocate(200),
    ):
        found = {
            labels: value for (name, labels), value in scrape(server).items() if name == "yais_memory_bytes"
        }
        pinned = cuda.device(1).statistics().held_bytes["pinned"]
    told = {tuple(value for _, value in labels): value for labels, value in found.items()}  # by kind, owner
    assert told["device", "gpu1"] == 2 * 4096 + 4 * 512
    assert told["managed", "gpu0"] == 100
    assert told["device", "other"] == 200
    assert sum(value for (kind, _), value in told.items() if kind == "pinned") == pinned == 4 * (32 << 10)


def test_too_little_memory_fails_that_load_alone(cuda: FakeCuda, tmp_path: Path) -> None:
    write_model(tmp_path, "good", "")
    write_model(tmp_path, "large", "instance_group { gpus: 1 }", 1 << 23)
    write(tmp_path, "host", identity("FP32"))
    with serving(cuda, tmp_path) as server, Wire(server.port) as wire:
        assert states(server) == {
            "good": ModelState.READY,
            "host": ModelState.READY,
            "large": ModelState.UNAVAILABLE,
        }
        (reason,) = [entry.reason for entry in server.repository.entries if entry.name == "large"]
        assert "\n" not in reason and "GPU 1 has too little memory" in reason
        assert re.search(
            r"8\.0 MiB of activation .* 16\.0 MiB on the device in all: .* 8388608 bytes", reason
        )
        for value in range(6):
            assert doubles(wire, "good", value)
        code, text = wire.refusal(infer_request("large", {"X": ROW}))
        assert code is grpc.StatusCode.NOT_FOUND and "large" in text


def test_what_a_model_needed_stays_for_the_next(cuda: FakeCuda, tmp_path: Path) -> None:
    write_model(tmp_path, "large", "instance_group { gpus: 0 }", 1 << 20)
    write_model(tmp_path, "small", "instance_group { gpus: 0 }", 1 << 10)
    options = {"control": ControlMode.EXPLICIT, "load": ("large",)}
    with serving(cuda, tmp_path, **options) as server, Wire(server.port) as wire:
        held = cuda.device(0).statistics().held_bytes["device"]
        assert held == 2 * (1 << 20) + 4 * 512
        server.repository.unload("large").result(SOON)
        server.repository.load("small").result(SOON)
        assert doubles(wire, "small")
        assert cuda.device(0).statistics().held_bytes["device"] == held
        server.repository.load("large").result(SOON)
        assert doubles(wire, "large") and doubles(wire, "small")


def test_a_larger_model_is_loaded_under_traffic(cuda: FakeCuda, tmp_path: Path) -> None:
    write_model(tmp_path, "M", "instance_group { gpus: [ 0, 1 ] count: 2 }")
    write_model(tmp_path, "larger", "instance_group { gpus: [ 0, 1 ] }", 1 << 19)
    options = {"control": ControlMode.EXPLICIT, "load": ("M",)}
    with serving(cuda, tmp_path, **options) as server, Wire(server.port) as wire:
        infer = wire.method("ModelInfer")
        requests = [infer_request("M", {"X": ROW + np.float32(value)}) for value in range(50)]
        futures = [infer.future(request.SerializeToString()) for request in requests[:25]]
        loading = server.repository.load("larger")
        futures += [infer.future(request.SerializeToString()) for request in requests[25:]]
        loading.result(SOON)
        assert all(future.result(SOON) for future in futures)
        assert doubles(wire, "larger") and doubles(wire, "M") and computed(cuda) == [True, True]


def test_a_gpu_that_fails_leaves_the_rest_serving(
    cuda: FakeCuda, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    write_model(tmp_path, "first", "instance_group { gpus: 0 }")
    write_model(tmp_path, "second", "instance_group { gpus: 1 }")
    with serving(cuda, tmp_path) as server, Wire(server.port) as wire:
        # An address that is none: from now on every call on that GPU says so.
        site = server._host.sites.of(0)
        with site.lanes.pool.acquire(SOON) as lane:
            cuda.submit(lane.stream.handle, "compute", _illegal)
            eventually(lambda: not cuda.gpus[0].pending)
        for value in range(3):
            code, text = wire.refusal(infer_request("first", {"X": ROW}))
            # The first finds it out, and nothing is sent there any more.
            assert code is (grpc.StatusCode.UNAVAILABLE if value else grpc.StatusCode.INTERNAL)
            assert "CUDA_ERROR" in text and bool(value) == ("GPU 0 is lost" in text)
            assert doubles(wire, "second", value)
        for name, ready in (("first", False), ("second", True)):
            assert wire.call("ModelReady", pb.ModelReadyRequest(name=name)).ready is ready
        assert wire.call("ServerLive").live and not wire.call("ServerReady").ready
        assert site.lanes.pool.statistics().lent == 0


def _illegal() -> None:
    raise ValueError("an illegal address")


def test_a_gpu_that_cannot_be_used_is_said(cuda: FakeCuda, tmp_path: Path) -> None:
    write_model(tmp_path, "M", "instance_group { gpus: 7 }")
    write_model(tmp_path, "good", "instance_group { gpus: 1 }")
    with serving(cuda, tmp_path) as server, Wire(server.port) as wire:
        reasons = {entry.name: entry.reason for entry in server.repository.entries}
        assert "specifies invalid or unsupported gpu id 7. GPUs are: 0, 1" in reasons["M"]
        assert doubles(wire, "good")
