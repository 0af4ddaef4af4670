"""Managed memory: pages that move between the host and the GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yais.errors import FailedPrecondition
from yais.memory.cuda.error import translated
from yais.memory.cuda.memory import CudaMemory, free

if TYPE_CHECKING:
    from yais.memory.cuda.device import CudaDevice
    from yais.memory.cuda.stream import CudaStream

__all__ = ["ManagedMemory", "ManagedMemoryResource"]


class ManagedMemory(CudaMemory):
    """A piece of managed memory: the host and every GPU reach it at the same address."""

    __slots__ = ()

    is_host_accessible = True

    def prefetch(self, stream: CudaStream) -> None:
        """Queue the move of its pages to the GPU of a stream. Nothing happens where pages move in any case.

        Raises
        ------
        FailedPrecondition
            The stream is closed.
        CudaError
            CUDA refuses.
        """
        device, order = stream.device, stream.core()
        if self.size and device.properties.concurrent_managed_access:
            with translated("prefetch of managed memory"):
                self._core().prefetch(device.core(), stream=order)

    def advise_read_mostly(self) -> None:
        """Let every processor that reads the pages have its own copy; see `prefetch`."""
        if self.size and self.device.properties.concurrent_managed_access:
            self.device.activate()
            with translated("advice on managed memory"):
                self._core().read_mostly = True

    def _core(self) -> Any:
        # cuda.core knows which of the two forms of these calls the driver has. This buffer owns nothing.
        return self.device.toolkit.core.ManagedBuffer.from_handle(self.handle, self.size, owner=self)


class ManagedMemoryResource:
    """Allocates managed memory, as for weights that do not all fit in a GPU. Thread-safe.

    Parameters
    ----------
    device
        The GPU it is for; others reach it as well.
    owner
        Whose the memory is, in `CudaDevice.tracker`.
    """

    is_host_accessible = True
    is_device_accessible = True

    def __init__(self, device: CudaDevice, owner: str) -> None:
        self.device = device
        self.owner = owner
        self._account = device.tracker.account(owner, "managed")

    def __repr__(self) -> str:
        return f"<ManagedMemoryResource of GPU {self.device.index} for {self.owner!r}>"

    def allocate(self, size: int, *, stream: Any = None) -> ManagedMemory:  # noqa: ARG002 - it is there at once
        """Return `size` bytes, advised to be read mostly; `stream` is not used.

        Raises
        ------
        ValueError
            `size` is negative.
        FailedPrecondition
            The GPU has no managed memory.
        MemoryError
            There is too little memory.
        CudaError
            CUDA refuses for another reason.
        """
        device = self.device
        if not device.properties.managed_memory:
            raise FailedPrecondition(f"{device!r} has no managed memory on this machine")
        flag = int(device.toolkit.driver.CUmemAttach_flags.CU_MEM_ATTACH_GLOBAL)
        address = device.allocate(
            size, lambda: int(device.toolkit.call("cuMemAllocManaged", size, flag)) if size else 0
        )
        memory = ManagedMemory(device, address, size, lambda: free(device, address), self._account)
        try:
            memory.advise_read_mostly()
        except BaseException:
            memory.close()
            raise
        return memory
