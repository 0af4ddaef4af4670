"""Where pinned memory comes from: each of the ways that drivers have."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from yais.memory.cuda.error import translated
from yais.memory.host import HostMemoryResource

if TYPE_CHECKING:
    from yais.core.topology import NumaNode
    from yais.memory.cuda.device import CudaDevice
    from yais.memory.cuda.stream import CudaStream

__all__ = ["AllocatedSource", "PoolSource", "RegisteredSource", "Source"]


class Source(Protocol):
    """One way. Used by one thread at a time, with the device current."""

    feature: str
    """What a fall-back from it is called."""

    def take(self, size: int) -> tuple[memoryview, Callable[[], object]]:
        """Return `size` bytes, and what gives them back; called with the device current.

        Raises
        ------
        MemoryError, OSError
            There is no such memory.
        CudaError
            The driver refuses for another reason.
        """

    def close(self) -> None:
        """Allocate no more. Idempotent."""


class PoolSource:
    """A pool of the driver on one NUMA node: `cuda.core.PinnedMemoryResource`. It needs no mbind(2)."""

    feature = "pinned_pool"

    def __init__(self, device: CudaDevice, node: NumaNode) -> None:
        self._device = device
        self._node = node
        self._pool: Any = None
        self._stream: CudaStream | None = None

    def __str__(self) -> str:
        return f"the driver's pool of node {self._node.id}"

    def take(self, size: int) -> tuple[memoryview, Callable[[], object]]:
        """Return `size` bytes; see `Source`."""
        device = self._device
        if self._stream is None:
            self._stream = device.stream()
        stream = self._stream
        with translated("allocation from a pool of pinned memory"):
            pool = self._open()
            order = stream.core()
            buffer = pool.allocate(size, stream=order)
        # The pool orders by streams, but a host looks at any time: it is there, and gone, once that is done.
        try:
            stream.sync()
        except BaseException:
            device.quietly("return memory to its pool", lambda: buffer.close(order))
            stream.settle()
            raise
        return _view(int(buffer.handle), size), lambda: _close(buffer, order, stream)

    def _open(self) -> Any:
        if self._pool is None:
            core, toolkit = self._device.toolkit.core, self._device.toolkit
            self._device.core()
            pool = core.PinnedMemoryResource(core.PinnedMemoryResourceOptions(numa_id=self._node.id))
            try:
                # By default only the CPU reaches a pool of the host (cuMemPoolCreate).
                access = toolkit.driver.CUmemAccessDesc()
                access.location.type = toolkit.driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
                access.location.id = self._device.index
                access.flags = toolkit.driver.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
                toolkit.call("cuMemPoolSetAccess", pool.handle, [access], 1)
            except BaseException:
                pool.close()
                raise
            self._pool = pool
        return self._pool

    def close(self) -> None:
        """Let go of the pool, which goes with the last memory of it."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()


class RegisteredSource:
    """Memory of the kernel that is registered with the driver: in huge pages from one of these on."""

    feature = "pinned_registered"

    def __init__(self, device: CudaDevice, node: NumaNode | None) -> None:
        self._device = device
        self._small = HostMemoryResource(node=node)
        self._large = HostMemoryResource(node=node, huge_pages=True)

    def __str__(self) -> str:
        return f"registered memory in pages of {self._large.page_size} bytes"

    def take(self, size: int) -> tuple[memoryview, Callable[[], object]]:
        """Return `size` bytes; see `Source`."""
        toolkit = self._device.toolkit
        memory = (self._large if size >= self._large.page_size else self._small).allocate(size)
        address = memory.handle
        flag = int(toolkit.driver.CU_MEMHOSTREGISTER_PORTABLE)
        toolkit.call("cuMemHostRegister", address, size, flag)

        def free() -> None:
            toolkit.call("cuMemHostUnregister", address)
            memory.close()  # and only then unmapped: this is the last that holds it

        return memory.view, free

    def close(self) -> None:
        """There is nothing to end."""


class AllocatedSource:
    """The driver's own pinned memory: cuMemAllocHost."""

    feature = "pinned_allocated"

    def __init__(self, device: CudaDevice) -> None:
        self._device = device

    def __str__(self) -> str:
        return "the driver's own memory"

    def take(self, size: int) -> tuple[memoryview, Callable[[], object]]:
        """Return `size` bytes; see `Source`."""
        toolkit = self._device.toolkit
        address = int(toolkit.call("cuMemAllocHost", size))
        return _view(address, size), lambda: toolkit.call("cuMemFreeHost", address)

    def close(self) -> None:
        """There is nothing to end."""


def _view(address: int, size: int) -> memoryview:
    return memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B")


def _close(buffer: Any, order: Any, stream: CudaStream) -> None:
    with translated("return of memory to its pool"):
        buffer.close(order)
    stream.sync()
