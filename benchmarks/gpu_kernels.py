"""Kernels for tests and benchmarks, compiled by cuda-core's own compiler: they need no TensorRT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yais.errors import FailedPrecondition

if TYPE_CHECKING:
    from yais.memory.cuda.device import CudaDevice
    from yais.memory.cuda.stream import CudaStream

SOURCE = r"""
// y = 2x, after so many rounds of arithmetic for each that the result does not depend on.
extern "C" __global__ void twice(const float *x, float *y, long long count, long long rounds) {
    long long step = gridDim.x * (long long)blockDim.x;
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < count; i += step) {
        float value = x[i], work = value;
        for (long long round = 0; round < rounds; ++round) work = work * 0.999f + 0.5f;
        y[i] = work == -1.0e30f ? work : 2.0f * value;
    }
}

extern "C" __global__ void reversed(const unsigned char *x, unsigned char *y, long long count) {
    long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i < count) y[i] = x[count - 1 - i];
}
"""

# Threads: so many keep a multiprocessor busy by themselves, so that a part of those is a part of the GPU.
_BLOCK = 1024


def compiled(architecture: str) -> Any:
    """Return the kernels as a `cuda.core.ObjectCode`; needs no GPU.

    Parameters
    ----------
    architecture
        As in "sm_90".

    Raises
    ------
    FailedPrecondition
        There is no compiler.
    """
    from cuda.core import Program, ProgramOptions
    from cuda.pathfinder import DynamicLibNotFoundError

    options = ProgramOptions(arch=architecture, std="c++17")
    try:
        return Program(SOURCE, "c++", options).compile("cubin")
    except DynamicLibNotFoundError as error:
        raise FailedPrecondition(
            f"kernels cannot be compiled ({error}): pip install nvidia-cuda-nvrtc"
        ) from error


class Kernels:
    """The kernels on one GPU. Thread-safe; what is launched is queued."""

    def __init__(self, device: CudaDevice) -> None:
        code = compiled(f"sm_{device.core().arch}")
        self._twice, self._reversed = code.get_kernel("twice"), code.get_kernel("reversed")
        self._processors = int(device.properties.multiprocessor_count)

    def twice(
        self, stream: CudaStream, x: int, y: int, count: int, rounds: int = 0, *, part: float = 1.0
    ) -> None:
        """Queue y = 2x for `count` floats at two device addresses.

        Parameters
        ----------
        rounds
            More take longer.
        part
            Of the GPU's multiprocessors that it uses at most; 1 sets no limit.
        """
        blocks = _blocks(count)
        if part < 1:
            blocks = min(blocks, max(1, int(part * self._processors)))
        self._launch(stream, self._twice, blocks, x, y, count, rounds)

    def reversed(self, stream: CudaStream, x: int, y: int, count: int) -> None:
        """Queue the reversal of `count` bytes."""
        self._launch(stream, self._reversed, _blocks(count), x, y, count)

    @staticmethod
    def _launch(stream: CudaStream, kernel: Any, blocks: int, *arguments: int) -> None:
        from cuda.core import LaunchConfig, launch

        if blocks:
            # Python's integers are passed as 8 bytes, which all parameters are.
            config = LaunchConfig(grid=blocks, block=_BLOCK)
            launch(stream.core(), config, kernel, *arguments)


def _blocks(count: int) -> int:
    return -(-count // _BLOCK)
