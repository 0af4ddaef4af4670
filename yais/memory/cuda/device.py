"""GPUs: what lanes have their device half from."""

from __future__ import annotations

import collections
import contextlib
import logging
import threading
import weakref
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from yais.core.clock import Deadline
from yais.errors import FailedPrecondition
from yais.memory.account import MemoryUsage
from yais.memory.cuda.context import CudaContext
from yais.memory.cuda.event import EventPool
from yais.memory.cuda.ipc import IpcMappings
from yais.memory.cuda.managed import ManagedMemoryResource
from yais.memory.cuda.memory import CudaMemory, DeviceMemoryResource
from yais.memory.cuda.pinned import PinnedResource
from yais.memory.cuda.place import Place
from yais.memory.cuda.retired import Retired
from yais.memory.cuda.statistics import DeviceStatistics
from yais.memory.cuda.stream import CudaStream
from yais.memory.cuda.toolkit import CudaToolkit, cuda_toolkit
from yais.memory.device_buffer import DeviceBuffer
from yais.memory.tracked import MemoryTracker

__all__ = ["CudaDevice", "cuda_device", "cuda_usage"]

T = TypeVar("T")

_log = logging.getLogger("yais.memory")

# Seconds that freeing waits for what is queued; ours. What takes longer, or never ends, puts it off until the
# next call, and keeps nobody waiting.
_PATIENCE = 5.0


class CudaDevice:
    """One GPU (`yais.lane.Device`), in its primary context, which other libraries in the process use as well.

    Thread-safe. As a context manager it is a guard: the GPU is current on the thread within the block, and
    afterwards what was before.

    Parameters
    ----------
    index
        Of the GPU, among those that CUDA shows the process (CUDA_VISIBLE_DEVICES).
    toolkit
        Fakes, for tests; by default the packages.

    Raises
    ------
    FailedPrecondition
        CUDA cannot be used, as `why_no_cuda` says, or there is no such GPU.
    CudaError, MemoryError
        The GPU gives no context.

    Attributes
    ----------
    index, toolkit
        As given.
    name
        Of the model.
    properties
        What it can do: `cuda.core.Device.properties`.
    events
        Where streams have their events from.
    tracker
        Bytes by owner and kind, for `yais.telemetry.memory.MemoryCollector`.

    Examples
    --------
    >>> device = cuda_device(0)
    >>> stream = device.stream()
    >>> staging = device.staging().allocate(4096)
    >>> with device.memory().allocate(4096) as memory:
    ...     stream.copy_in(memory.handle, staging.array("f4"))
    ...     stream.completed().result(timeout=10)
    """

    def __init__(self, index: int = 0, *, toolkit: CudaToolkit | None = None) -> None:
        self.index = index
        self.toolkit = cuda_toolkit() if toolkit is None else toolkit
        count = self.toolkit.call("cuDeviceGetCount")
        if not 0 <= index < count:
            raise FailedPrecondition(f"got GPU {index}, expected one of the {count} there are, from 0 on")
        core = self.toolkit.core.Device(index)
        self.name = str(core.name)
        self.properties: Any = core.properties
        self.tracker = MemoryTracker()
        self.events = EventPool(self)
        self._streams: weakref.WeakSet[CudaStream] = weakref.WeakSet()
        self._orphans: collections.deque[CudaStream] = collections.deque()
        self._pinned: dict[int | None, PinnedResource] = {}
        self._retired = Retired(self._settle, partial(self.quietly, "free memory"))
        self._lock = threading.Lock()  # guards streams and pinned
        self._ipc = IpcMappings(self)
        self._context = CudaContext(self.toolkit, index)

    def __repr__(self) -> str:
        return f"<CudaDevice {self.index}: {self.name}{', closed' if self.closed else ''}>"

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._context.closed

    def activate(self) -> None:
        """Make the GPU current on the calling thread; cheap when it is.

        Raises
        ------
        FailedPrecondition
            The device is closed.
        CudaError
            CUDA refuses.
        """
        self._context.activate()

    def __enter__(self) -> Self:
        """Make the GPU current on the calling thread, and remember what was."""
        self._context.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Make current what was."""
        self._context.leave()

    def core(self) -> Any:
        """Return the `cuda.core.Device` of the calling thread, current there, as for kernels.

        Raises what `activate` raises.
        """
        self.activate()
        device = self.toolkit.core.Device(self.index)
        device.set_current()
        return device

    def stream(self, placement: Place | None = None) -> CudaStream:  # noqa: ARG002 - a GPU is one place
        """Return a new stream. It stays until it is closed, or nobody has it.

        Raises
        ------
        FailedPrecondition
            The device is closed.
        CudaError, MemoryError
            CUDA refuses.
        """
        stream = CudaStream(self)
        with self._lock:
            self._streams.add(stream)
        return stream

    def memory(self, placement: Place | None = None, *, owner: str | None = None) -> DeviceMemoryResource:
        """Return where device memory comes from. It counts for the owner, by default the place."""
        return DeviceMemoryResource(self, owner or (placement.name if placement else f"gpu{self.index}"))

    def managed(self, *, owner: str | None = None) -> ManagedMemoryResource:
        """Return where managed memory comes from. It counts for the owner, by default the GPU."""
        return ManagedMemoryResource(self, owner or f"gpu{self.index}")

    def staging(self, placement: Place | None = None) -> PinnedResource:
        """Return where pinned memory of the host comes from, on the node of the place; one for each node."""
        node = placement.node if placement else None
        with self._lock:
            key = None if node is None else node.id
            if key not in self._pinned:
                self._pinned[key] = PinnedResource(self, node)
            return self._pinned[key]

    def export(self, buffer: DeviceBuffer) -> bytes:
        """Return the 64 bytes by which another process can open memory of `memory`; it must stay meanwhile.

        Raises
        ------
        CudaError
            The memory is of another kind, or the machine has no such handles.
        """
        self.activate()
        return self._ipc.export(buffer)

    def open_ipc(self, handle: bytes, size: int) -> CudaMemory:
        """Return the memory of another process; what it is opened by again shares the mapping.

        Parameters
        ----------
        handle
            The 64 bytes that the other process exported.
        size
            Bytes that are wanted of it, from its start.

        Raises
        ------
        InvalidArgument
            That is no handle, or its memory is smaller.
        CudaError, MemoryError
            CUDA refuses for another reason.
        """
        self.activate()
        return self._ipc.open(handle, size)

    def statistics(self) -> DeviceStatistics:
        """Return the numbers of now, once what nobody has is given back. Raises what `activate` does."""
        self.free_retired()
        self.activate()
        available, total = self.toolkit.call("cuMemGetInfo")
        held: collections.Counter[str] = collections.Counter()
        for (_, kind), usage in self.tracker.statistics().items():
            held[kind] += usage.bytes
        return DeviceStatistics(int(available), int(total), dict(held))

    def allocate(self, size: int, function: Callable[[], T]) -> T:
        """Return what a function allocates; what nobody has any more makes room for it.

        Parameters
        ----------
        size
            Bytes that it allocates.
        function
            Called with the device current. What it raises passes, but MemoryError gets the numbers.

        Raises
        ------
        ValueError
            `size` is negative.
        """
        if size < 0:
            raise ValueError(f"got size={size}, expected 0 or more bytes")
        self.activate()
        self.free_retired()
        try:
            return function()
        except MemoryError as error:
            room = ""
            with contextlib.suppress(Exception):  # the numbers are an extra
                available, total = self.toolkit.call("cuMemGetInfo")
                room = f", which has {available} of {total} bytes free"
            raise MemoryError(f"{error}; got {size} bytes to allocate for GPU {self.index}{room}") from error

    def retire(self, free: Callable[[], object]) -> None:
        """Have something freed once the streams are past what they have queued. Waits for no lock.

        Parameters
        ----------
        free
            Called with the device current by `free_retired`, which comes with the next call that allocates,
            counts or frees. What it raises is logged.
        """
        self._retired.add(free)

    def adopt(self, stream: CudaStream) -> None:
        """Have a stream closed that nobody has any more, once its work is done; see `retire`."""
        self._orphans.append(stream)
        self._retired.add(partial(self._bury, stream))

    def _bury(self, stream: CudaStream) -> None:
        stream.destroy()
        self._orphans.remove(stream)

    def free_retired(self) -> None:
        """Free what is retired, after what the streams have queued by now. Nothing is raised.

        If they have not done that within 5 seconds, it is kept for the next call.
        """
        if not self.closed:
            self._retired.free()

    def _settle(self) -> bool:
        """Wait for what is queued on the streams. As it frees, the driver waits for all others."""
        return self._settled(Deadline.after(_PATIENCE))

    def _settled(self, deadline: Deadline) -> bool:
        with self._lock:
            streams = {*self._streams, *self._orphans.copy()}
        return all([stream.settle(deadline.remaining() or 0.0) for stream in streams])  # noqa: C419 - every one

    def quietly(self, what: str, function: Callable[[], object]) -> None:
        """Call a function with the device current, and log what it raises: for ends, which none can help."""
        try:
            self.activate()
            function()
        except Exception:
            _log.exception("GPU %d: could not %s", self.index, what)

    def close(self, timeout: float = 5.0) -> bool:
        """Let the streams finish, destroy them, and give the context back.

        Returns
        -------
        bool
            Whether the streams ended within `timeout` seconds and nobody holds memory of the device; if not,
            nothing is closed.
        """
        if self.closed:
            return True
        if not self._settled(Deadline.after(timeout)):
            return False
        self.free_retired()
        if any(usage.bytes for usage in self.tracker.statistics().values()):
            return False
        for pinned in self._pinned.values():
            pinned.close()
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            stream.close()
        self.events.close()
        self.quietly("give the context back", self._context.close)
        return True


_devices: dict[int, CudaDevice] = {}
_devices_lock = threading.Lock()


def cuda_device(index: int = 0) -> CudaDevice:
    """Return the process's one object for a GPU, made at the first call. Thread-safe.

    Raises what `CudaDevice` raises.
    """
    with _devices_lock:
        device = _devices.get(index)
        if device is None or device.closed:
            device = _devices[index] = CudaDevice(index)
        return device


def cuda_usage() -> dict[tuple[str, str], MemoryUsage]:
    """Return who has how much of the process's devices, by (owner, kind). Thread-safe.

    The kinds are "device", "managed" and "ipc". Pinned memory is counted by whoever has it: lanes do. What an
    owner has on several GPUs is added up.
    """
    with _devices_lock:
        devices = list(_devices.values())
    usages: dict[tuple[str, str], MemoryUsage] = {}
    for device in devices:
        for key, usage in device.tracker.statistics().items():
            if key[1] != "pinned":
                usages[key] = usages[key] + usage if key in usages else usage
    return usages
