"""Two GPUs that are not there, for the tests of sites."""

from __future__ import annotations

import gc
from typing import Any

from managing import X, Y, eventually
from modelling import SOON

from yais.engines.placed_engine import PlacedEngine
from yais.inference.manager import InferenceManager
from yais.memory.host import HostMemoryResource
from yais.memory.resource import MemoryResource
from yais.memory.tracked import MemoryTracker, TrackedResource
from yais.testing import FakeDevice, FakeDeviceEngine

SCRATCH = 4096


class Gpus:
    """The devices of GPUs 0 and 1, made when they are asked for; what they have of memory is counted.

    Called with a number it returns the device, as `Sites` wants it.
    """

    def __init__(self, limits: dict[int, Any] | None = None) -> None:
        self.devices: dict[int, FakeDevice] = {}
        self.memory = MemoryTracker()
        self._limits = limits or {}

    def __call__(self, gpu: int) -> FakeDevice:
        assert gpu not in self.devices, "a device is made once"
        upstream: MemoryResource = HostMemoryResource()
        if gpu in self._limits:
            upstream = self._limits[gpu](upstream)
        self.devices[gpu] = FakeDevice(TrackedResource(upstream, owner=str(gpu), tracker=self.memory))
        return self.devices[gpu]

    def held(self, gpu: int) -> int:
        """Return the bytes of device memory in use on a GPU."""
        usage = self.memory.statistics().get((str(gpu), "host"))
        return usage.bytes if usage is not None else 0

    def close(self) -> None:
        if any(self.held(gpu) for gpu in self.devices):
            gc.collect()  # host memory is in use as long as a view of it is
        for gpu, device in self.devices.items():
            assert device.close(SOON) and self.held(gpu) == 0


def on_gpu(gpu: int | None, **sizes: Any) -> FakeDeviceEngine:
    """Return an engine of y = 2 x on a GPU."""
    engine = FakeDeviceEngine([X], [Y], lambda x: [2 * x], **{"scratch_size": SCRATCH, **sizes})
    engine.gpu = gpu
    return engine


def placed(*engines: Any, instances: int = 1) -> PlacedEngine:
    """Return a model with so many instances on each engine."""
    return PlacedEngine(engines, [place for place in range(len(engines)) for _ in range(instances)])


def check_sites_idle(manager: InferenceManager) -> None:
    """Check that every lane and token of every site comes back, and nobody waits for one."""
    sites = manager._sites
    for site in (sites.of(None), *sites.gpus.values()):
        for pool in (site.lanes.pool, site.tokens.pool):
            eventually(lambda pool=pool: pool.statistics().available == pool.statistics().size)  # type: ignore[misc]
            assert not pool.statistics().waiting
