"""Memory that other processes of the machine have."""

from __future__ import annotations

import ctypes
import threading
from typing import TYPE_CHECKING

from yais.errors import InvalidArgument
from yais.memory.cuda.error import CudaError
from yais.memory.cuda.memory import CudaMemory
from yais.memory.device_buffer import DeviceBuffer

if TYPE_CHECKING:
    from yais.memory.cuda.device import CudaDevice

__all__ = ["HANDLE_SIZE", "IpcMappings"]

HANDLE_SIZE = 64
"""Bytes of a handle: CU_IPC_HANDLE_SIZE."""


class IpcMappings:
    """What one device has open of other processes, each once. Thread-safe, with the device current.

    The driver counts who opened a handle, too; it is not told of the second, so that it does not matter how.
    """

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        self._lock = threading.Lock()
        self._open: dict[bytes, tuple[int, int, int]] = {}  # by handle: address, size, how often

    def __repr__(self) -> str:
        return f"<IpcMappings: {len(self._open)} open>"

    def export(self, buffer: DeviceBuffer) -> bytes:
        """Return the handle of memory from cuMemAlloc; see `CudaDevice.export`."""
        handle = self._device.toolkit.call("cuIpcGetMemHandle", buffer.handle)
        return ctypes.string_at(handle.getPtr(), HANDLE_SIZE)

    def open(self, handle: bytes, size: int) -> CudaMemory:
        """Return memory of another process; see `CudaDevice.open_ipc`."""
        if len(handle) != HANDLE_SIZE:
            raise InvalidArgument(f"got a CUDA handle of {len(handle)} bytes, expected {HANDLE_SIZE}")
        if size < 1:
            raise InvalidArgument(f"got {size} bytes of CUDA memory to open, expected at least 1")
        with self._lock:
            address, whole, count = self._open.get(handle) or self._map(handle)
            self._open[handle] = address, whole, count + 1
        account = self._device.tracker.account(f"gpu{self._device.index}", "ipc")
        memory = CudaMemory(self._device, address, size, lambda: self._close(handle), account)
        if size > whole:
            memory.close()
            raise InvalidArgument(f"got {size} bytes of CUDA memory to open, expected at most its {whole}")
        return memory

    def _map(self, handle: bytes) -> tuple[int, int, int]:
        toolkit = self._device.toolkit
        wanted = toolkit.driver.CUipcMemHandle()
        ctypes.memmove(wanted.getPtr(), handle, HANDLE_SIZE)
        flag = int(toolkit.driver.CUipcMem_flags.CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS)
        try:
            address = int(toolkit.call("cuIpcOpenMemHandle", wanted, flag))
        except CudaError as error:
            if error.sticky:
                raise
            raise InvalidArgument(
                f"got a CUDA handle that does not open on GPU {self._device.index} ({error}), expected one "
                "that another process of this machine exported of memory it still has"
            ) from error
        try:
            # Maybe of the larger piece that cuMemAlloc has cut it from.
            start, size = toolkit.call("cuMemGetAddressRange", address)
        except BaseException:
            toolkit.call("cuIpcCloseMemHandle", address)
            raise
        return address, int(start) + int(size) - address, 0

    def _close(self, handle: bytes) -> None:
        with self._lock:
            address, whole, count = self._open.pop(handle)
            if count > 1:
                self._open[handle] = address, whole, count - 1
                return
            self._device.toolkit.call("cuIpcCloseMemHandle", address)
