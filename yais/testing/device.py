"""A device that is not there: a `SimulatedGpu` with memory, which is the host's."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from yais.core.clock import Deadline
from yais.lane import Placement
from yais.memory.buffer import Buffer
from yais.memory.host import HostMemoryResource
from yais.memory.resource import MemoryResource
from yais.testing.simulated_gpu import SimulatedGpu, SimulatedStream

__all__ = ["FakeDevice"]


class FakeDevice:
    """The device of lanes (`yais.lane.Device`): each stream is a thread that does its work in order.

    Thread-safe. A context manager, whose end closes it.

    Parameters
    ----------
    memory
        Where device memory comes from; host memory by default.
    gpu
        Has the streams; by default one where no work waits for another stream's.

    Attributes
    ----------
    gpu
        Has the streams.

    Examples
    --------
    >>> with FakeDevice() as device, InferenceManager(device=device, scratch=HostMemoryResource()) as manager:
    ...     manager.register("double", FakeDeviceEngine([x], [y], lambda x: [2 * x], scratch_size=4096))
    """

    def __init__(self, memory: MemoryResource | None = None, *, gpu: SimulatedGpu | None = None) -> None:
        self.gpu = gpu or SimulatedGpu()
        self._memory = _DeviceMemory(memory or HostMemoryResource())
        self._streams: list[SimulatedStream] = []

    def __repr__(self) -> str:
        return f"<FakeDevice with {len(self._streams)} streams>"

    def memory(self, placement: Placement) -> MemoryResource:  # noqa: ARG002 - it is the same everywhere
        """Return where device memory comes from."""
        return self._memory

    def staging(self, placement: Placement) -> MemoryResource:
        """Return where staging memory comes from."""
        return HostMemoryResource(node=placement.node)

    def stream(self, placement: Placement) -> SimulatedStream:
        """Return a new stream."""
        stream = self.gpu.stream(f"{placement.name}-stream-{len(self._streams)}")
        self._streams.append(stream)
        return stream

    def close(self, timeout: float = 30.0) -> bool:
        """Let the streams finish; return whether they did within `timeout` seconds. Idempotent."""
        deadline = Deadline.after(timeout)
        return all([stream.close(deadline.remaining() or 0.0) for stream in self._streams])  # noqa: C419 - every one

    def __enter__(self) -> Self:
        """Return the device itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


class _DeviceMemory:
    """Memory that takes a stream, as a device's does."""

    is_host_accessible = True
    is_device_accessible = True

    def __init__(self, upstream: MemoryResource) -> None:
        self._upstream = upstream

    def allocate(self, size: int, *, stream: Any = None) -> Buffer:  # noqa: ARG002 - it is there at once
        return self._upstream.allocate(size)
