"""A lane of a fake GPU, and a run of an engine on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from yais.engines.engine import Array
from yais.engines.single_lane import single_lane
from yais.lane import Lane
from yais.memory.device_buffer import DeviceBuffer
from yais.testing.cuda import FakeCuda


@contextmanager
def a_lane(cuda: FakeCuda, device: int = 4096, staging: int = 4096) -> Iterator[Lane]:
    with single_lane(cuda.device(), device=device, staging=staging) as (lane, _):
        yield lane


def run(engine: Any, inputs: Sequence[Any], lane: Lane, scratch: DeviceBuffer | None = None) -> list[Array]:
    """Execute as a runner does, and return the outputs in memory of their own."""
    lane.staging.reset()
    execution = engine.begin(inputs, lane)
    execution.launch(scratch)
    execution.wait()
    return [array.copy() for array in execution.outputs()]
