"""CUDA that is not there: its two packages on simulated GPUs, in the memory of the host."""

from __future__ import annotations

import collections
import ctypes
import gc
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from yais.core.clock import Clock, monotonic
from yais.core.future import Future
from yais.memory.cuda.device import CudaDevice
from yais.memory.cuda.toolkit import CudaToolkit
from yais.testing.cuda_calls import FakeState, FakeStream
from yais.testing.cuda_core import FakeCore
from yais.testing.cuda_driver import FakeDriver
from yais.testing.cuda_map import MemoryMap
from yais.testing.simulated_gpu import Kind, SimulatedGpu

__all__ = ["FakeCuda"]

T = TypeVar("T")

_SECONDS = 30.0  # after which a device that does not close counts as stuck

_PROPERTIES: Mapping[str, Any] = {
    "concurrent_managed_access": True,
    "host_numa_memory_pools_supported": True,
    "host_register_supported": True,
    "managed_memory": True,
}


class FakeCuda:
    """Fakes of cuda.core and cuda.bindings.driver for `yais.memory.cuda`: one process's CUDA. Thread-safe.

    They do what the real ones do, as far as that package uses them. Streams do their work in order, at their
    time, and read memory then. What is pageable is copied at once. Without a current context nothing works,
    nor do handles of another GPU. What is freed or out of bounds is found out when it is touched, and an
    illegal address stays the error of every later call. Graphs are captured; a wait meanwhile spoils them.
    Memory of another `FakeCuda` is opened by its handles. They are stricter in two things: a GPU does not
    reach the memory of another, and freeing waits for nothing, so that what is freed too early is noticed.

    A context manager, whose end closes the devices it gave and raises AssertionError if memory is left.

    Parameters
    ----------
    gpus
        How many there are.
    memory
        Bytes of each.
    clock, engines
        Of each `SimulatedGpu`. With a `ManualClock`, copies that take time wait for it.
    copy_seconds
        How long a copy of so many bytes takes.
    properties
        What is different in `CudaDevice.properties`, such as `host_register_supported=False`.

    Attributes
    ----------
    toolkit
        The fakes, for `CudaDevice(toolkit=...)`.
    gpus
        The simulated GPUs, with their timelines.

    Examples
    --------
    >>> with FakeCuda(copy_seconds=lambda size: size / 25e9) as cuda:
    ...     device = cuda.device()
    ...     stream = device.stream()
    ...     with device.memory().allocate(1024) as memory:
    ...         cuda.fail("cuMemcpyAsync", "CUDA_ERROR_INVALID_VALUE", after=1)
    ...         stream.copy_in(memory.handle, np.ones(256, np.float32))
    ...         cuda.submit(stream.handle, "compute", lambda: 0, duration=1000, label="kernel")
    ...         stream.sync()
    """

    def __init__(
        self,
        gpus: int = 1,
        *,
        memory: int = 1 << 30,
        clock: Clock = monotonic,
        copy_seconds: Callable[[int], float] = lambda size: 0,  # noqa: ARG005
        engines: Mapping[Kind, int] | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> None:
        self.gpus = [SimulatedGpu(clock=clock, engines=engines) for _ in range(gpus)]
        self._state = FakeState(self.gpus, MemoryMap(memory))
        core = FakeCore(self._state, {**_PROPERTIES, **(properties or {})})
        self.toolkit = CudaToolkit(core, FakeDriver(self._state, copy_seconds))
        self._devices: dict[int, CudaDevice] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<FakeCuda with {len(self.gpus)} GPUs, holding {self.held}>"

    @property
    def held(self) -> dict[str, int]:
        """Live bytes of each kind that has any: "device", "managed", "pinned", "ipc"; {} in the end."""
        return self._state.memory.held()

    @property
    def objects(self) -> dict[str, int]:
        """How many streams, events, graphs and pools there are, by class: "FakeStream" and so on."""
        return dict(collections.Counter(type(made).__name__ for made in list(self._state.objects.values())))

    @property
    def calls(self) -> list[str]:
        """The names of the functions that were called, in order; the last 100,000."""
        return list(self._state.calls)

    def device(self, index: int = 0) -> CudaDevice:
        """Return the device of a GPU, always the same; its end is that of the fake."""
        with self._lock:
            if index not in self._devices:
                self._devices[index] = CudaDevice(index, toolkit=self.toolkit)
            return self._devices[index]

    def view(self, address: int, size: int) -> memoryview:
        """Return live memory of CUDA. It is to be looked at while no work that touches it is queued.

        Raises
        ------
        ValueError
            That is not live, or does not lie within one allocation.
        """
        piece = self._state.memory.find(address)
        if piece is None or not (piece.usable and piece.has(address, size)):
            raise ValueError(f"got {size} bytes at {address:#x}, expected some within one live allocation")
        return memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B")

    def submit(
        self, stream_handle: int, kind: Kind, function: Callable[[], T], *, duration: int = 0, label: str = ""
    ) -> Future[T]:
        """Queue work on a stream, as a kernel would be launched.

        Parameters
        ----------
        stream_handle
            `CudaStream.handle`. During a capture the work becomes part of the graph, and the future is done.
        kind, function, duration, label
            As of `SimulatedStream.submit`. What the function raises is an error of the GPU from then on,
            CUDA_ERROR_LAUNCH_FAILED, as well as that of the future.

        Raises
        ------
        ValueError
            There is no such stream.
        """
        stream = self._state.objects.get(int(stream_handle))
        if not isinstance(stream, FakeStream):
            raise ValueError(f"got stream {stream_handle:#x}, expected one that is open")
        with self._state.lock:
            return stream.enqueue(kind, function, duration, label)

    def fail(self, call: str, error: str = "CUDA_ERROR_UNKNOWN", *, times: int = 1, after: int = 0) -> None:
        """Have a function fail.

        Parameters
        ----------
        call
            Its name in the driver; or "PinnedMemoryResource", "PinnedMemoryResource.allocate",
            "ManagedBuffer.read_mostly", "ManagedBuffer.prefetch" of cuda.core.
        error
            A name of `CUresult`. An error that stays makes all later calls on the GPU fail.
        times, after
            So many of its calls, after so many that pass.
        """
        self._state.fail(call, error, times, after)

    def close(self, timeout: float = _SECONDS) -> bool:
        """Close the devices and the GPUs, within `timeout` seconds for each; whether all did. Idempotent."""
        # As real ones do when their process ends, devices that have failed take their memory with them.
        failed = any(context.error is not None for context in self._state.contexts)
        ended = [device.close(timeout) for device in self._devices.values()]
        ended += [gpu.close(timeout) for gpu in self.gpus]
        self._state.memory.forget()
        return failed or (all(ended) and not self.held)

    def __enter__(self) -> Self:
        """Return the fake itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close.

        Raises
        ------
        AssertionError
            Memory is left, and no other error is on its way.
        """
        if self.held:
            gc.collect()
        if not self.close() and error is None:
            raise AssertionError(f"{self!r} is left with memory or with work")
