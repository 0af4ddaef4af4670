"""The GPU to test and measure with, or a simulated one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from benchmarks.gpu_kernels import Kernels
from yais.testing.simulated_gpu import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yais.engines.device_function import DeviceFunction
    from yais.memory.cuda.device import CudaDevice
    from yais.memory.cuda.stream import CudaStream
    from yais.memory.device_array import DeviceArray
    from yais.memory.device_buffer import DeviceBuffer
    from yais.testing.cuda import FakeCuda

BYTES_PER_SECOND = 25e9
"""Of a simulated copy: about what PCI Express 4 gives with 16 lanes."""

ENGINES: Mapping[Kind, int] = {"copy_in": 1, "compute": 3, "copy_out": 1}
"""What a simulated GPU has: three kernels side by side fill it."""


class AnyKernels(Protocol):
    """What a machine computes with; see `benchmarks.gpu_kernels.Kernels`."""

    def twice(
        self, stream: CudaStream, x: int, y: int, count: int, rounds: int = 0, *, part: float = 1.0
    ) -> None:
        """Queue y = 2x for floats."""

    def reversed(self, stream: CudaStream, x: int, y: int, count: int) -> None:
        """Queue the reversal of bytes."""


@dataclass(frozen=True)
class GpuMachine:
    """A GPU, and what computes on it.

    Attributes
    ----------
    device
        The GPU.
    kernels
        Work for it.
    simulated
        Whether there is none.
    """

    device: CudaDevice
    kernels: AnyKernels
    simulated: bool


class SimulatedKernels:
    """The kernels on a fake GPU: each round takes a nanosecond."""

    def __init__(self, fake: FakeCuda) -> None:
        self._fake = fake

    def twice(
        self,
        stream: CudaStream,
        x: int,
        y: int,
        count: int,
        rounds: int = 0,
        *,
        part: float = 1.0,  # noqa: ARG002
    ) -> None:
        """See `Kernels`; a third of a GPU is what each takes, whatever `part` says."""

        def work() -> None:
            source, target = (self._floats(address, count) for address in (x, y))
            target[:] = 2 * source

        self._fake.submit(stream.handle, "compute", work, duration=rounds, label="twice")

    def reversed(self, stream: CudaStream, x: int, y: int, count: int) -> None:
        """See `Kernels`."""

        def work() -> None:
            self._fake.view(y, count)[:] = bytes(self._fake.view(x, count))[::-1]

        self._fake.submit(stream.handle, "compute", work, label="reversed")

    def _floats(self, address: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        return np.frombuffer(self._fake.view(address, 4 * count), np.float32)


def twice_function(kernels: AnyKernels, rounds: int = 0, part: float = 1.0) -> DeviceFunction:
    """Return `twice` as a function of one input and one output, for `DeviceFunctionEngine`."""

    def twice(
        inputs: Sequence[DeviceArray],
        outputs: Sequence[DeviceArray],
        stream: CudaStream,
        scratch: DeviceBuffer | None,  # noqa: ARG001 - none was asked for
    ) -> None:
        x, y = inputs[0], outputs[0]
        kernels.twice(stream, x.address, y.address, x.size, rounds, part=part)

    return twice


@contextmanager
def gpu_machine(index: int = 0, *, simulated: bool = False) -> Iterator[GpuMachine]:
    """Return a GPU of this machine, or a simulated one, which ends with the block.

    Raises
    ------
    FailedPrecondition
        There is no CUDA; the message says why.
    """
    if simulated:
        from yais.testing.cuda import FakeCuda

        with FakeCuda(copy_seconds=lambda size: size / BYTES_PER_SECOND, engines=ENGINES) as fake:
            device = fake.device()
            yield GpuMachine(device, SimulatedKernels(fake), simulated=True)
            device.close()
    else:
        from yais.memory.cuda.device import cuda_device

        device = cuda_device(index)
        yield GpuMachine(device, Kernels(device), simulated=False)
