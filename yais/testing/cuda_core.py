"""The fake of cuda.core, as far as `yais.memory.cuda` uses it."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Self

from yais.testing.cuda_calls import FakeState, FakeStream
from yais.testing.cuda_map import Allocation
from yais.testing.cuda_types import CUresult, Refusal

__all__ = ["FakeCore"]


class CUDAError(Exception):
    """What cuda.core raises for a status of the driver."""


def _refused(refusal: Refusal) -> CUDAError:
    return CUDAError(f"{refusal.status.name}: the fake refuses.")


class FakeCore:
    """The module. Its classes belong to one process.

    Parameters
    ----------
    state
        Of that process.
    properties
        What every GPU says of itself.
    """

    __name__ = "fake cuda.core"

    def __init__(self, state: FakeState, properties: dict[str, Any]) -> None:
        self.Device = type("Device", (Device,), {"state": state, "properties": SimpleNamespace(**properties)})
        self.Stream = type("Stream", (Stream,), {"state": state})
        self.PinnedMemoryResource = type("PinnedMemoryResource", (PinnedMemoryResource,), {"state": state})
        self.PinnedMemoryResourceOptions = PinnedMemoryResourceOptions
        self.ManagedBuffer = type("ManagedBuffer", (ManagedBuffer,), {"state": state})


class Device:
    """A GPU: one object for each thread, as in cuda.core."""

    state: FakeState
    properties: SimpleNamespace
    _of_thread = threading.local()

    def __new__(cls, device_id: int = 0) -> Self:
        """Return the object of this thread."""
        if not 0 <= device_id < len(cls.state.contexts):
            raise ValueError(f"device_id must be >= 0 and < {len(cls.state.contexts)}, got {device_id}")
        made: dict[Any, Any] = vars(cls._of_thread)
        key = (cls, device_id)
        if key not in made:
            device = made[key] = super().__new__(cls)
            device.device_id = device_id
        return made[key]  # type: ignore[no-any-return]

    device_id: int

    @property
    def name(self) -> str:
        """Of the model."""
        return "Fake GPU"

    def set_current(self) -> None:
        """Make the GPU current on the thread, in its primary context."""
        context = self.state.contexts[self.device_id]
        if not context.retained:  # cuda.core retains it itself; here that would hide who forgot to
            raise _refused(Refusal(CUresult.CUDA_ERROR_INVALID_CONTEXT))
        self.state.current = context.handle


class Stream:
    """A stream that others made."""

    state: FakeState
    handle: int

    @classmethod
    def from_handle(cls, handle: int) -> Self:
        """Return the object for a handle."""
        stream = cls()
        stream.handle = handle
        return stream

    def queue(self) -> FakeStream:
        """Return what is behind it."""
        return self.state.stream(self.handle)


@dataclass
class PinnedMemoryResourceOptions:
    """What a pool is to be."""

    ipc_enabled: bool = False
    max_size: int = 0
    numa_id: int | None = None


class PinnedMemoryResource:
    """A pool of pinned memory. `reached_by` are the GPUs that may touch it."""

    state: FakeState

    def __init__(self, options: PinnedMemoryResourceOptions | None = None) -> None:
        try:
            self.state.count("PinnedMemoryResource")
            self.state.context()
        except Refusal as refusal:
            raise _refused(refusal) from None
        self.numa_id = -1 if options is None or options.numa_id is None else options.numa_id
        self.reached_by: set[int] = set()
        self.is_closed = False
        self._number = self.state.handle()
        self.state.objects[self._number] = self

    @property
    def handle(self) -> Any:
        """What the driver knows it by."""
        return self

    def allocate(self, size: int, *, stream: Stream) -> _PoolBuffer:
        """Return memory; the host may look at it once the stream has got here."""
        try:
            self.state.count("PinnedMemoryResource.allocate")
            queue = stream.queue()
            if self.is_closed or queue.context.index not in self.reached_by:
                raise Refusal(CUresult.CUDA_ERROR_INVALID_VALUE)
            memory = self.state.memory.allocate("pinned", size)
        except Refusal as refusal:
            raise _refused(refusal) from None
        return _PoolBuffer(self, memory)

    def close(self) -> None:
        """Allocate no more."""
        self.is_closed = True
        self.state.objects.pop(self._number, None)


class _PoolBuffer:
    """Memory of a pool."""

    def __init__(self, pool: PinnedMemoryResource, memory: Allocation) -> None:
        self._pool = pool
        self.handle = memory.address
        self.size = memory.size

    def close(self, stream: Stream) -> None:
        """Free it when the stream gets there."""
        state, address = self._pool.state, self.handle
        try:
            stream.queue().enqueue("host", functools.partial(state.memory.free, address, "pinned"))
        except Refusal as refusal:
            raise _refused(refusal) from None


class ManagedBuffer:
    """Managed memory that others allocated, and advice on it."""

    state: FakeState
    handle: int
    size: int

    @classmethod
    def from_handle(cls, ptr: int, size: int, mr: Any = None, owner: Any = None) -> Self:  # noqa: ARG003
        """Return the object for memory."""
        buffer = cls()
        buffer.handle, buffer.size = ptr, size
        return buffer

    @property
    def read_mostly(self) -> bool:
        """Whether it was advised."""
        return self._piece().address in self.state.read_mostly

    @read_mostly.setter
    def read_mostly(self, value: bool) -> None:
        try:
            self.state.count("ManagedBuffer.read_mostly")
            self.state.context()
            advised = self.state.read_mostly
            (advised.add if value else advised.discard)(self._piece().address)
        except Refusal as refusal:
            raise _refused(refusal) from None

    def prefetch(self, location: Device, *, stream: Stream) -> None:
        """Queue the move of its pages."""
        try:
            self.state.count("ManagedBuffer.prefetch")
            self._piece()
            stream.queue().enqueue("copy_in", lambda: None, label=f"prefetch to {location.device_id}")
        except Refusal as refusal:
            raise _refused(refusal) from None

    def _piece(self) -> Allocation:
        piece = self.state.memory.check(self.handle, self.size, CUresult.CUDA_ERROR_INVALID_VALUE)
        if piece is None or piece.kind != "managed":
            raise Refusal(CUresult.CUDA_ERROR_INVALID_VALUE)
        return piece
