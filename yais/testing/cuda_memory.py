"""Fake functions of the driver for memory, and for copies of it."""

# ruff: noqa: N802, N803 - the names are those of CUDA

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

from yais.core.clock import NANOSECONDS
from yais.testing.cuda_calls import WAIT, FakeState, fake
from yais.testing.cuda_map import Allocation
from yais.testing.cuda_types import CUdeviceptr, CUipcMemHandle, CUresult, Refusal
from yais.testing.simulated_gpu import Kind

__all__ = ["MemoryFunctions"]


class MemoryFunctions:
    """The functions."""

    state: FakeState
    copy_seconds: Callable[[int], float]

    @fake(1)
    def cuMemAlloc(self, bytesize: int) -> tuple[CUdeviceptr]:
        """Return memory of the current device."""
        return (CUdeviceptr(self._allocate("device", bytesize)),)

    @fake(1)
    def cuMemAllocManaged(self, bytesize: int, flags: int) -> tuple[CUdeviceptr]:  # noqa: ARG002 - for all
        """Return memory that all reach."""
        return (CUdeviceptr(self._allocate("managed", bytesize)),)

    @fake(1)
    def cuMemAllocHost(self, bytesize: int) -> tuple[int]:
        """Return pinned memory."""
        return (self._allocate("pinned", bytesize),)

    @fake()
    def cuMemFree(self, dptr: Any) -> None:
        """Free memory of a device, or managed memory."""
        self.state.context()
        self.state.memory.free(int(dptr), "device", "managed")

    @fake()
    def cuMemFreeHost(self, p: Any) -> None:
        """Free pinned memory."""
        self.state.context()
        self.state.memory.free(int(p), "pinned")

    @fake()
    def cuMemHostRegister(self, p: Any, bytesize: int, Flags: int) -> None:  # noqa: ARG002 - for all contexts
        """Pin memory of the host."""
        self.state.context()
        self.state.memory.register(int(p), bytesize)

    @fake()
    def cuMemHostUnregister(self, p: Any) -> None:
        """Undo that."""
        self.state.context()
        self.state.memory.unregister(int(p))

    @fake(2)
    def cuMemGetInfo(self) -> tuple[int, int]:
        """Return free and total bytes of the current device."""
        context = self.state.context()
        return self.state.memory.free_bytes(context.index), self.state.memory.capacity

    @fake(2)
    def cuMemGetAddressRange(self, dptr: Any) -> tuple[CUdeviceptr, int]:
        """Return where the memory that an address is in begins, and its size."""
        self.state.context()
        piece = self.state.memory.find(int(dptr))
        if piece is None or not piece.live:
            raise Refusal(CUresult.CUDA_ERROR_INVALID_VALUE)
        return CUdeviceptr(piece.address), piece.size

    @fake()
    def cuMemPoolSetAccess(self, pool: Any, map: Any, count: int) -> None:  # noqa: A002 - its name
        """Let devices reach a pool of the host."""
        if count != len(map):
            raise Refusal(CUresult.CUDA_ERROR_INVALID_VALUE)
        pool.reached_by.update(entry.location.id for entry in map)

    @fake(1)
    def cuIpcGetMemHandle(self, dptr: Any) -> tuple[CUipcMemHandle]:
        """Return the handle of memory for another process."""
        self.state.context()
        handle = CUipcMemHandle()
        ctypes.memmove(handle.getPtr(), self.state.memory.export(int(dptr)), 64)
        return (handle,)

    @fake(1)
    def cuIpcOpenMemHandle(self, handle: CUipcMemHandle, Flags: int) -> tuple[CUdeviceptr]:  # noqa: ARG002
        """Return memory of another process."""
        context = self.state.context()
        piece = self.state.memory.open(ctypes.string_at(handle.getPtr(), 64), context.index)
        return (CUdeviceptr(piece.address),)

    @fake()
    def cuIpcCloseMemHandle(self, dptr: Any) -> None:
        """Undo that."""
        self.state.context()
        self.state.memory.close(int(dptr))

    @fake()
    def cuMemcpyAsync(self, dst: Any, src: Any, ByteCount: int, hStream: Any) -> None:
        """Queue a copy. It reads when it runs; only ordinary memory is read at once, and waited for."""
        state, target, source, size = self.state, int(dst), int(src), int(ByteCount)
        with state.lock:
            stream = state.stream(hStream)
            ends = [
                state.memory.check(at, size, CUresult.CUDA_ERROR_INVALID_VALUE) for at in (target, source)
            ]
            if any(end is not None and not _reached(end, stream.context.index) for end in ends):
                raise Refusal(CUresult.CUDA_ERROR_INVALID_VALUE)
            capturing = stream.captured is not None
            read = None
            if ends[1] is None and not capturing:
                read = ctypes.string_at(source, size)
            copied = stream.enqueue(
                _kind(*ends),
                functools.partial(self._copy, target, source, size, read, [end is not None for end in ends]),
                round(self.copy_seconds(size) * NANOSECONDS),
                f"{size} bytes",
            )
        if ends[0] is None and not capturing and not copied.wait(WAIT):
            raise TimeoutError(f"a copy of {size} bytes did not end within {WAIT} s")

    def _copy(self, target: int, source: int, size: int, read: bytes | None, mapped: list[bool]) -> None:
        for address, was in zip((target, source), mapped, strict=True):
            # What was memory of CUDA when the copy was queued is to be so still.
            if was and self.state.memory.check(address, size, CUresult.CUDA_ERROR_ILLEGAL_ADDRESS) is None:
                raise Refusal(CUresult.CUDA_ERROR_ILLEGAL_ADDRESS)
        ctypes.memmove(target, source if read is None else read, size)

    def _allocate(self, kind: Any, size: int) -> int:
        with self.state.lock:
            context = self.state.context()
            return self.state.memory.allocate(kind, size, context.index if kind == "device" else None).address


def _reached(piece: Allocation, gpu: int) -> bool:
    return piece.gpu is None or piece.gpu == gpu


def _kind(target: Allocation | None, source: Allocation | None) -> Kind:
    on_device = [end is not None and end.kind != "pinned" for end in (target, source)]
    if all(on_device):
        return "compute"
    return "copy_out" if on_device[1] else "copy_in"
