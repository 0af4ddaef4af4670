"""A lane for one call, outside of the pools."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from yais.errors import YaisError
from yais.lane import Lane, Placement
from yais.memory.arena import Arena
from yais.memory.cuda.device import CudaDevice
from yais.memory.device_buffer import DeviceBuffer

__all__ = ["single_lane"]


@contextlib.contextmanager
def single_lane(
    gpu: CudaDevice, *, device: int, staging: int, scratch: int = 0
) -> Iterator[tuple[Lane, DeviceBuffer | None]]:
    """Make a lane and activation memory on a GPU, and give all back in the end, when its stream is done.

    Parameters
    ----------
    device, staging, scratch
        Bytes of device memory, of staging memory, and of activation memory.

    Raises
    ------
    MemoryError
        There is not that much.
    """
    place = Placement("alone")
    lane = Lane("alone", place, {}, Arena(gpu.staging(place)), gpu.stream(place))
    activations: DeviceBuffer | None = None
    try:
        lane.staging.reset(staging)
        memory = gpu.memory(place)
        if device:
            lane.device = memory.allocate(device, stream=lane.stream)
        if scratch:
            activations = memory.allocate(scratch, stream=lane.stream)
        yield lane, activations
    finally:
        with contextlib.suppress(YaisError):  # who has called has seen it
            lane.settle()
        if activations is not None:
            activations.close()
        lane.close()
