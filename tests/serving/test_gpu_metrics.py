"""The metrics of GPUs, from a stand-in for NVML."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from yais.memory.host import HostMemoryResource
from yais.memory.tracked import MemoryTracker, TrackedResource
from yais.serving import backend
from yais.serving.exemplars import Exemplars
from yais.serving.gpu_metrics import GpuCollector, PinnedMemoryCollector
from yais.serving.metrics import MetricsOptions
from yais.telemetry.exposition import exposition
from yais.telemetry.metrics import registry_of
from yais.testing import ManualClock

NAMES = (
    "nv_gpu_utilization",
    "nv_gpu_memory_total_bytes",
    "nv_gpu_memory_used_bytes",
    "nv_gpu_power_usage",
    "nv_gpu_power_limit",
    "nv_energy_consumption",
)


class Error(Exception):
    """As NVML raises them."""


class Nvml:
    """The functions of `pynvml` that are used; those in `failing` raise, for one device or for all."""

    NVMLError = Error

    def __init__(self, gpus: int = 1) -> None:
        self.gpus = gpus
        self.failing: set[str | tuple[str, int]] = set()
        self.lost: set[int] = set()
        self.calls = 0
        self.energy = 5_000_000

    def _answer(self, call: str, device: int, value: Any) -> Any:
        self.calls += 1
        if device in self.lost or {call, (call, device)} & self.failing:
            raise Error
        return value

    def nvmlDeviceGetCount(self) -> int:
        return self.gpus

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return self._answer("handle", index, index)

    def nvmlDeviceGetUUID(self, device: int) -> str | bytes:
        return self._answer("uuid", device, b"GPU-odd" if device % 2 else "GPU-even")

    def nvmlDeviceGetUtilizationRates(self, device: int) -> Any:
        return self._answer("utilization", device, SimpleNamespace(gpu=25, memory=90))

    def nvmlDeviceGetMemoryInfo(self, device: int) -> Any:
        return self._answer("memory", device, SimpleNamespace(total=1000 + device, used=400, free=600))

    def nvmlDeviceGetPowerUsage(self, device: int) -> int:
        return self._answer("power", device, 71_500)

    def nvmlDeviceGetPowerManagementLimit(self, device: int) -> int:
        return self._answer("limit", device, 700_000)

    def nvmlDeviceGetTotalEnergyConsumption(self, device: int) -> int:
        return self._answer("energy", device, self.energy)


def values(collector: Any) -> dict[str, float]:
    lines = exposition(registry_of([collector])).splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"}


def of(uuid: str, found: dict[str, float]) -> list[float | None]:
    return [found.get(f'{name}{{gpu_uuid="{uuid}"}}') for name in NAMES]


def test_every_value_in_its_unit() -> None:
    clock, nvml = ManualClock(), Nvml()
    collector = GpuCollector(nvml, 2.0, clock=clock)
    assert of("GPU-even", values(collector)) == [0.25, 1000, 400, 71.5, 700, 0]
    nvml.energy += 1_500
    clock.advance(2.0)
    assert of("GPU-even", values(collector))[-1] == 1.5


def test_names_and_types_are_those_of_triton() -> None:
    lines = exposition(registry_of([GpuCollector(Nvml(), 2.0)])).splitlines()
    types = [line.split()[2:] for line in lines if line.startswith("# TYPE")]
    assert types == [[name, "counter" if name == "nv_energy_consumption" else "gauge"] for name in NAMES]


def test_the_driver_is_asked_once_in_an_interval() -> None:
    clock, nvml = ManualClock(), Nvml()
    collector = GpuCollector(nvml, 2.0, clock=clock)
    asked = nvml.calls
    for _ in range(5):
        values(collector)
    clock.advance(1.9)
    values(collector)
    assert nvml.calls == asked
    clock.advance(0.1)
    values(collector)
    assert nvml.calls == asked + len(NAMES)


def test_many_who_ask_at_once_are_one() -> None:
    clock, nvml = ManualClock(), Nvml()
    collector = GpuCollector(nvml, 2.0, clock=clock)
    asked = nvml.calls
    clock.advance(3.0)
    threads = [threading.Thread(target=values, args=(collector,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert nvml.calls == asked + len(NAMES)


@pytest.mark.parametrize(
    ("call", "gone"),
    [("utilization", [0]), ("memory", [1, 2]), ("power", [3]), ("limit", [4]), ("energy", [5])],
)
def test_what_a_gpu_does_not_tell_is_left_out_alone(call: str, gone: list[int]) -> None:
    nvml = Nvml(2)
    nvml.failing.add((call, 0))
    found = values(GpuCollector(nvml, 2.0))
    assert [at for at, value in enumerate(of("GPU-even", found)) if value is None] == gone
    assert None not in of("GPU-odd", found)


def test_a_family_that_no_gpu_tells_is_not_there() -> None:
    nvml = Nvml(2)
    nvml.failing.add("limit")
    assert "nv_gpu_power_limit" not in exposition(registry_of([GpuCollector(nvml, 2.0)]))


def test_a_gpu_that_is_lost_and_comes_back() -> None:
    clock, nvml = ManualClock(), Nvml(2)
    collector = GpuCollector(nvml, 1.0, clock=clock)
    nvml.lost.add(1)
    clock.advance(1.0)
    found = values(collector)
    assert of("GPU-odd", found) == [None] * 6
    assert of("GPU-even", found) == [0.25, 1000, 400, 71.5, 700, 0]
    nvml.lost.clear()
    clock.advance(1.0)
    assert of("GPU-odd", values(collector)) == [0.25, 1001, 400, 71.5, 700, 0]


def test_energy_that_is_told_later_counts_from_then() -> None:
    clock, nvml = ManualClock(), Nvml()
    nvml.failing.add("energy")
    collector = GpuCollector(nvml, 1.0, clock=clock)
    assert of("GPU-even", values(collector))[-1] is None
    nvml.failing.clear()
    clock.advance(1.0)
    assert of("GPU-even", values(collector))[-1] == 0
    nvml.energy += 250
    clock.advance(1.0)
    assert of("GPU-even", values(collector))[-1] == 0.25


def test_only_the_gpus_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert {name.partition("{")[2] for name in values(GpuCollector(Nvml(2), 1.0))} == {'gpu_uuid="GPU-odd"}'}


class Pinned(HostMemoryResource):
    """Memory that a GPU can access, or so it says."""

    is_device_accessible = True


def test_pinned_memory() -> None:
    tracker = MemoryTracker()
    collector = PinnedMemoryCollector(tracker.statistics)
    names = ("nv_pinned_memory_pool_total_bytes", "nv_pinned_memory_pool_used_bytes")
    assert values(collector) == dict.fromkeys(names, 0)
    pinned = TrackedResource(Pinned(), owner="a", tracker=tracker)
    host = TrackedResource(HostMemoryResource(), owner="a", tracker=tracker)
    first, second, _ = pinned.allocate(4096), pinned.allocate(8192), host.allocate(4096)
    first.close()
    assert values(collector) == dict(zip(names, (12288, 8192), strict=True))
    second.close()


@pytest.mark.parametrize("wanted", [True, False])
def test_a_server_has_them_where_there_is_a_driver(monkeypatch: pytest.MonkeyPatch, wanted: bool) -> None:
    monkeypatch.setattr(backend, "open_nvml", Nvml)
    models: Any = SimpleNamespace(entries=())
    registry = registry_of(
        backend._collectors(models, MetricsOptions(gpu=wanted), MemoryTracker(), Exemplars())
    )
    text = exposition(registry)
    assert ("nv_gpu_utilization" in text) is wanted
    assert "nv_pinned_memory_pool_total_bytes" in text
    monkeypatch.setattr(backend, "open_nvml", lambda: None)
    registry = registry_of(backend._collectors(models, MetricsOptions(), MemoryTracker(), Exemplars()))
    assert "nv_gpu_utilization" not in exposition(registry)
