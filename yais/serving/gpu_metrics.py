"""What the GPUs have and do, under Triton's names."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from yais.core.clock import NANOSECONDS, monotonic
from yais.core.gpus import nvml_devices
from yais.memory.account import MemoryUsage

__all__ = ["GpuCollector", "PinnedMemoryCollector"]

_MILLI = 1000
_ENERGY = "nv_energy_consumption"

# Triton's names and texts, and how NVML tells the value of a device.
_FAMILIES: dict[str, tuple[str, Callable[[Any, Any], float]]] = {
    "nv_gpu_utilization": (
        "GPU utilization rate [0.0 - 1.0)",
        lambda nvml, device: nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100,
    ),
    "nv_gpu_memory_total_bytes": (
        "GPU total memory, in bytes",
        lambda nvml, device: nvml.nvmlDeviceGetMemoryInfo(device).total,
    ),
    "nv_gpu_memory_used_bytes": (
        "GPU used memory, in bytes",
        lambda nvml, device: nvml.nvmlDeviceGetMemoryInfo(device).used,
    ),
    "nv_gpu_power_usage": (
        "GPU power usage in watts",
        lambda nvml, device: nvml.nvmlDeviceGetPowerUsage(device) / _MILLI,
    ),
    "nv_gpu_power_limit": (
        "GPU power management limit in watts",
        lambda nvml, device: nvml.nvmlDeviceGetPowerManagementLimit(device) / _MILLI,
    ),
    _ENERGY: (
        "GPU energy consumption in joules since the Triton Server started",
        lambda nvml, device: nvml.nvmlDeviceGetTotalEnergyConsumption(device) / _MILLI,
    ),
}


class GpuCollector(Collector):
    """Collects use, memory and power of the GPUs that this process may use. Thread-safe.

    A value that a GPU does not tell, or no longer, is left out by itself.

    Parameters
    ----------
    nvml
        The module `pynvml`, started (`yais.core.gpus.open_nvml`); it is left so.
    interval
        Seconds that values are kept for: the driver is asked at most so often, however many scrape.
    clock
        Tells the time, ns.
    visible
        See `yais.core.gpus.nvml_devices`; by default what CUDA_VISIBLE_DEVICES says.
    """

    def __init__(
        self,
        nvml: Any,
        interval: float,
        *,
        clock: Callable[[], int] = monotonic,
        visible: str | None = None,
    ) -> None:
        self._nvml = nvml
        self._interval = int(interval * NANOSECONDS)
        self._clock = clock
        self._devices: dict[str, Any] = {}
        if visible is None:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        for device in nvml_devices(nvml, visible).values():
            with contextlib.suppress(nvml.NVMLError):
                uuid = nvml.nvmlDeviceGetUUID(device)
                self._devices[uuid.decode() if isinstance(uuid, bytes) else uuid] = device
        self._lock = threading.Lock()
        self._at = clock()
        self._values = self._read()
        self._energy = dict(self._values[_ENERGY])

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family that has a sample."""
        values = self._recent()
        for name, (text, _) in _FAMILIES.items():
            family = Metric(name, text, "counter" if name == _ENERGY else "gauge")
            for uuid, value in values[name].items():
                family.add_sample(name, {"gpu_uuid": uuid}, value)
            if family.samples:
                yield family

    def _recent(self) -> Mapping[str, Mapping[str, float]]:
        with self._lock:
            now = self._clock()
            if now - self._at >= self._interval:
                self._at = now
                self._values = self._read()
            energy = {
                # What was lost at the start counts from its first value.
                uuid: max(value - self._energy.setdefault(uuid, value), 0.0)
                for uuid, value in self._values[_ENERGY].items()
            }
            return {**self._values, _ENERGY: energy}

    def _read(self) -> dict[str, dict[str, float]]:
        """Return the values of all devices that tell them, by name and UUID."""
        values: dict[str, dict[str, float]] = {name: {} for name in _FAMILIES}
        for uuid, device in self._devices.items():
            for name, (_, of) in _FAMILIES.items():
                with contextlib.suppress(self._nvml.NVMLError):
                    values[name][uuid] = of(self._nvml, device)
        return values


class PinnedMemoryCollector(Collector):
    """Collects how much pinned memory the server holds. Thread-safe.

    Triton has one pool of a fixed size; here every lane of a GPU has memory of its own, which grows with the
    models and stays. What is told as the size of the pool is the most there was at a time.

    Parameters
    ----------
    usages
        Returns the numbers by (owner, kind), as `MemoryTracker.statistics` does.
    """

    def __init__(self, usages: Callable[[], Mapping[tuple[str, str], MemoryUsage]]) -> None:
        self._usages = usages

    def collect(self) -> Iterator[Metric]:
        """Yield both families."""
        pinned = [usage for (_, kind), usage in self._usages().items() if kind == "pinned"]
        total = sum(usage.high_water_bytes for usage in pinned)
        used = sum(usage.bytes for usage in pinned)
        yield GaugeMetricFamily(
            "nv_pinned_memory_pool_total_bytes", "Pinned memory pool total memory size, in bytes", value=total
        )
        yield GaugeMetricFamily(
            "nv_pinned_memory_pool_used_bytes", "Pinned memory pool used memory size, in bytes", value=used
        )
