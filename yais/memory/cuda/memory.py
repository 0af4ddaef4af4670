"""Memory of a GPU: where lanes and tokens have theirs from."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from yais.memory.account import Account

if TYPE_CHECKING:
    from yais.memory.cuda.device import CudaDevice

__all__ = ["CudaMemory", "DeviceMemoryResource"]


class CudaMemory:
    """A piece of device memory (`yais.memory.device_buffer.DeviceBuffer`). Whoever holds it has it alone.

    It goes back at once when it is closed; when it is collected, with the next call that allocates, counts
    or frees. In both cases that is after what the device's streams had queued by then.

    Parameters
    ----------
    device
        The GPU.
    address, size
        Of the memory; the address may be 0 without bytes.
    free
        Called once to give the memory back, with the device current.
    account
        Counts the bytes.

    Attributes
    ----------
    handle
        Address of the first byte on the device, 0 without bytes and once closed.
    size
        Size in bytes; 0 once closed.
    """

    __slots__ = ("__weakref__", "_account", "_free", "device", "handle", "size")

    is_device_accessible = True

    def __init__(
        self, device: CudaDevice, address: int, size: int, free: Callable[[], object], account: Account
    ) -> None:
        self.device = device
        self.handle = address
        self.size = size
        self._free: Callable[[], object] | None = free
        self._account = account
        account.debit(size)

    def __repr__(self) -> str:
        if self._free is None:
            return f"<{type(self).__name__}: closed>"
        return f"<{type(self).__name__} of {self.size} bytes at {self.handle:#x} on GPU {self.device.index}>"

    def close(self) -> None:
        """Wait for what is queued on the device's streams, and give the memory back. Idempotent."""
        if self._retire():
            self.device.free_retired()

    def _retire(self) -> bool:
        free, self._free = self._free, None
        if free is None:
            return False
        self._account.credit(self.size)
        self.handle = self.size = 0
        self.device.retire(free)
        return True

    def __del__(self) -> None:
        self._retire()

    def __enter__(self) -> Self:
        """Return the memory itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


class DeviceMemoryResource:
    """Allocates memory of one GPU by cuMemAlloc: it goes back at once and can be exported. Thread-safe.

    A call takes long (it may wait for the whole device), so it is for what is allocated once and used again:
    the memory of lanes and tokens, and weights. Addresses are aligned to 256 bytes at least. What is in the
    memory is what was there before.

    Parameters
    ----------
    device
        The GPU.
    owner
        Whose the memory is, in `CudaDevice.tracker`.
    """

    is_host_accessible = False
    is_device_accessible = True

    def __init__(self, device: CudaDevice, owner: str) -> None:
        self.device = device
        self.owner = owner
        self._account = device.tracker.account(owner, "device")

    def __repr__(self) -> str:
        return f"<DeviceMemoryResource of GPU {self.device.index} for {self.owner!r}>"

    def allocate(self, size: int, *, stream: Any = None) -> CudaMemory:  # noqa: ARG002 - it is there at once
        """Return `size` bytes; `stream` is taken for the sake of other resources, and not used.

        Raises
        ------
        ValueError
            `size` is negative.
        MemoryError
            The GPU has too little.
        CudaError
            CUDA refuses for another reason.
        """
        device = self.device
        address = device.allocate(size, lambda: int(device.toolkit.call("cuMemAlloc", size)) if size else 0)
        return CudaMemory(device, address, size, lambda: free(device, address), self._account)


def free(device: CudaDevice, address: int) -> None:
    """Give what cuMemAlloc or cuMemAllocManaged returned back; 0 is nothing."""
    if address:
        device.toolkit.call("cuMemFree", address)
