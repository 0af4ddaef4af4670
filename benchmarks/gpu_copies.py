"""Copies to and from a GPU: with pooled pinned memory, against a plain loop of the driver's own call."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yais.memory.pooled import PooledResource

if TYPE_CHECKING:
    from benchmarks.gpu_machine import GpuMachine
    from yais.memory.cuda.stream import CudaStream

SIZES = (1 << 16, 1 << 20, 1 << 24, 1 << 27)
ROUNDS = 5
_ROUND_BYTES = 1 << 28  # copied between two waits, at most
_COPIES = 64  # as above

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Bandwidth:
    """What copies of one size and direction reach, in GB/s (1e9 bytes): the best of some rounds.

    Attributes
    ----------
    yais
        From, or to, pooled pinned memory, by `CudaStream`.
    plain
        With memory of cuMemHostAlloc, by cuMemcpyAsync.
    pageable
        By `CudaStream` with ordinary memory.
    """

    size: int
    direction: str
    yais: float
    plain: float
    pageable: float

    @property
    def ratio(self) -> float:
        """Return how much of the plain copy's bandwidth is reached."""
        return self.yais / self.plain


@contextlib.contextmanager
def driver_memory(machine: GpuMachine, size: int) -> Iterator[int]:
    """Yield the address of pinned memory that yais knows nothing of; a fake has none, and gives its own."""
    device = machine.device
    if machine.simulated:
        with device.staging().allocate(size) as buffer:
            yield buffer.handle
        return
    device.activate()
    address = device.toolkit.call("cuMemHostAlloc", size, 0)
    try:
        yield int(address)
    finally:
        device.activate()
        device.toolkit.call("cuMemFreeHost", address)


def gigabytes(stream: CudaStream, copy: Callable[[], Any], size: int) -> float:
    """Return the bandwidth of one round."""
    count = max(1, min(_COPIES, _ROUND_BYTES // size))
    stream.sync()
    begin = time.perf_counter()
    for _ in range(count):
        copy()
    stream.sync()
    return count * size / (time.perf_counter() - begin) / 1e9


def bandwidth(machine: GpuMachine, size: int, direction: str, rounds: int = ROUNDS) -> Bandwidth:
    """Measure copies of one size; the three follow each other in every round."""
    device = machine.device
    stream, pool = device.stream(), PooledResource(device.staging())
    with (
        pool.allocate(size) as buffer,
        device.memory().allocate(size) as memory,
        driver_memory(machine, size) as plain,
    ):
        pageable = np.zeros(size, np.uint8)
        ways = _ways(stream, memory.handle, direction, buffer.array(np.uint8), plain, pageable)
        best = [0.0] * len(ways)
        for number in range(rounds + 1):  # the first warms up
            for index, way in enumerate(ways):
                reached = gigabytes(stream, way, size)
                best[index] = max(best[index], reached) if number else 0.0
        del ways
    stream.close()
    pool.trim()
    return Bandwidth(size, direction, *best)


def _ways(
    stream: CudaStream, there: int, direction: str, pinned: Bytes, plain: int, pageable: Bytes
) -> list[Callable[[], Any]]:
    call, raw, size = stream.device.toolkit.driver.cuMemcpyAsync, stream.raw, pinned.nbytes
    pinned[:] = 1
    if direction == "to the GPU":
        return [
            lambda: stream.copy_in(there, pinned),
            lambda: call(there, plain, size, raw),
            lambda: stream.copy_in(there, pageable),
        ]
    return [
        lambda: stream.copy_out(pinned, there),
        lambda: call(plain, there, size, raw),
        lambda: stream.copy_out(pageable, there),
    ]


def copies(machine: GpuMachine, sizes: tuple[int, ...] = SIZES, rounds: int = ROUNDS) -> list[Bandwidth]:
    """Measure every size in both directions."""
    return [
        bandwidth(machine, size, direction, rounds)
        for size in sizes
        for direction in ("to the GPU", "from the GPU")
    ]
