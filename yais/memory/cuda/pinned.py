"""Pinned memory of the host, which a GPU copies from and to by itself."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

from yais.memory.buffer import Buffer
from yais.memory.cuda.error import CudaError
from yais.memory.cuda.pinned_sources import AllocatedSource, PoolSource, RegisteredSource, Source
from yais.memory.fallbacks import fall_back

if TYPE_CHECKING:
    from yais.core.topology import NumaNode
    from yais.memory.cuda.device import CudaDevice

__all__ = ["PinnedResource"]


class PinnedResource:
    """Allocates pinned memory of the host near one GPU, as plain buffers. Thread-safe.

    It comes from the first of these that the machine has: a pool of the driver on the node, where a node is
    given; ordinary memory on the node, in huge pages where the kernel has them, which is registered with the
    driver; the driver's own (cuMemAllocHost), which nobody places. What is refused counts as a fall-back,
    "pinned_pool" and "pinned_registered" in `yais.memory.fallbacks`, and is not asked again.

    A call takes long, so it is for what is allocated once and used again; put a `PooledResource` over it for
    anything else. The memory goes back, after the last view of it is gone, with the next call that allocates,
    counts or frees on the GPU, and after what its streams had queued by then.

    Parameters
    ----------
    device
        The GPU. Others can copy from and to the memory as well, but for that of a pool.
    node
        Where the memory is to be; None leaves it to the kernel.
    """

    is_host_accessible = True
    is_device_accessible = True

    def __init__(self, device: CudaDevice, node: NumaNode | None = None) -> None:
        self.device = device
        self.node = node
        self._account = device.tracker.account(f"gpu{device.index}", "pinned")
        self._lock = threading.Lock()  # guards the sources
        self._sources: list[Source] = []
        if node is not None and device.properties.host_numa_memory_pools_supported:
            self._sources.append(PoolSource(device, node))
        elif node is not None:
            fall_back("pinned_pool", "the driver has none on a node; ordinary memory is registered")
        if device.properties.host_register_supported:
            self._sources.append(RegisteredSource(device, node))
        else:
            fall_back("pinned_registered", "the driver does not register memory; it gives its own")
        self._sources.append(AllocatedSource(device))

    def __repr__(self) -> str:
        place = "" if self.node is None else f" near node {self.node.id}"
        return f"<PinnedResource of GPU {self.device.index}{place}: {self.source}>"

    @property
    def source(self) -> str:
        """Where memory comes from now, such as "registered memory"."""
        return str(self._sources[0])

    def allocate(self, size: int, *, stream: Any = None) -> Buffer:
        """Return a buffer of `size` bytes; what is in it is what was there before.

        Raises
        ------
        ValueError
            `size` is negative, or a stream is given. Or the process may not run on the CPUs of the node.
        MemoryError, OSError
            There is no such memory.
        CudaError
            CUDA refuses for another reason.
        """
        if stream is not None:
            raise ValueError(f"got stream={stream!r}, expected None: host memory is not ordered by streams")
        if size == 0:
            return Buffer(memoryview(bytearray()), resource=self)
        view, free = self.device.allocate(size, lambda: self._take(size))
        self._account.debit(size)
        return Buffer(view, functools.partial(self._give_back, size, free), resource=self)

    def close(self) -> None:
        """Let go of the driver's pool; what was allocated stays. No buffer may be asked for any more."""
        with self._lock:
            for source in self._sources:
                source.close()

    def _take(self, size: int) -> tuple[memoryview, Any]:
        with self._lock:
            last = self._sources[-1]
            for source in tuple(self._sources):
                try:
                    return source.take(size)
                except (MemoryError, OSError):  # the next may have some
                    if source is last:
                        raise
                except CudaError as error:
                    if source is last or error.sticky:
                        raise
                    fall_back(source.feature, f"{error}; the next best is taken")
                    self._sources.remove(source)
                    source.close()
        raise AssertionError("the last source returns or raises")

    def _give_back(self, size: int, free: Any) -> None:
        self._account.credit(size)
        self.device.retire(free)
