"""Plans of a fake TensorRT, and lanes to run them on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from yais.engines.engine import Array
from yais.engines.tensorrt import TensorRTEngine, TensorRTOptions
from yais.lane import Lane, Lanes
from yais.memory.device_buffer import DeviceBuffer
from yais.testing.cuda import FakeCuda
from yais.testing.tensorrt import FakeNetwork, FakeProfile, FakeTensor, FakeTensorRT

SOON = 20.0
SCRATCH = 1000
BATCHES = FakeProfile({"x": ((1, 4), (4, 4), (8, 4))})


def doubling(**options: Any) -> FakeNetwork:
    """y = 2 x of 1 to 8 rows of four."""
    chosen: dict[str, Any] = {
        "inputs": [FakeTensor("x")],
        "outputs": [FakeTensor("y")],
        "function": lambda x: [2 * x],
        "profiles": [BATCHES],
        "scratch": SCRATCH,
    }
    return FakeNetwork(**{**chosen, **options})


def rows(count: int = 3, value: float = 1.0) -> Array:
    return np.full((count, 4), value, np.float32)


def loaded(fake: FakeTensorRT, network: FakeNetwork, gpu: int = 0, **options: Any) -> TensorRTEngine:
    plan = fake.plan(network)
    return TensorRTEngine(plan, fake.cuda.device(gpu), TensorRTOptions(**options), runtime=fake.runtime)


@contextlib.contextmanager
def lanes_of(
    cuda: FakeCuda, engine: Any, count: int = 1, *, tokens: int = 1
) -> Iterator[tuple[list[Lane], list[DeviceBuffer]]]:
    """Lanes and activation memories on the engine's GPU, as large as it needs."""
    device = cuda.device(engine.gpu)
    lanes = Lanes("gpu", threads={"execute": 1}, count=count, device=device)
    scratch: list[DeviceBuffer] = [
        device.memory(owner="tokens").allocate(max(engine.scratch_size, 256)) for _ in range(tokens)
    ]
    leases = []
    try:
        lanes.reserve(1 << 16, SOON, device=engine.device_size)
        leases = [lanes.pool.acquire(SOON) for _ in range(count)]
        yield [lease.item for lease in leases], scratch
    finally:
        for lease in leases:
            lease.release()
        for buffer in scratch:
            buffer.close()
        assert lanes.close(SOON)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.001)
