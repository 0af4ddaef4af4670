"""The memory of fake GPUs: what is live, whose it is, and what may be touched."""

from __future__ import annotations

import bisect
import collections
import ctypes
import mmap
import secrets
import sys
import threading
from dataclasses import dataclass
from typing import Literal

from yais.testing.cuda_types import CUresult, Refusal

__all__ = ["Allocation", "MemoryKind", "MemoryMap"]

MemoryKind = Literal["device", "managed", "pinned", "ipc"]
"""Kinds of memory. What is registered counts as pinned; "ipc" is memory of another process."""


@dataclass(slots=True, eq=False)
class Allocation:
    """A piece of memory. `gpu` is None for that of the host; `origin` is what another process has.

    `margin` is the room on both sides that belongs to nobody, in bytes.
    """

    kind: MemoryKind
    address: int
    size: int
    gpu: int | None = None
    pages: mmap.mmap | None = None
    origin: Allocation | None = None
    registered: bool = False
    live: bool = True
    opened: int = 0
    margin: int = 0

    @property
    def usable(self) -> bool:
        """Whether it may be touched: it is live, and so is what it maps."""
        return self.live and (self.origin is None or self.origin.live)

    def has(self, address: int, size: int) -> bool:
        """Whether bytes lie within it."""
        return self.address <= address and address + size <= self.address + self.size


_exports: dict[bytes, tuple[MemoryMap, Allocation]] = {}  # of all fakes, each a process of its own
_exports_lock = threading.Lock()


class MemoryMap:
    """Allocations by address. Thread-safe. Addresses are used once, so that what is freed stays recognisable.

    Parameters
    ----------
    capacity
        Bytes of device memory of each GPU.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._lock = threading.RLock()
        self._starts: list[tuple[int, int]] = []  # ascending, with margin, and the address: all that ever was
        self._at: dict[int, Allocation] = {}

    def __repr__(self) -> str:
        return f"<MemoryMap: {self.held()}>"

    def held(self) -> dict[str, int]:
        """Return the live bytes of each kind that has any."""
        sizes: collections.Counter[str] = collections.Counter()
        with self._lock:
            for piece in self._at.values():
                if piece.live:
                    sizes[piece.kind] += piece.size
        return dict(sizes)

    def free_bytes(self, gpu: int) -> int:
        """Return what device memory a GPU has left."""
        with self._lock:
            used = [p.size for p in self._at.values() if p.live and p.kind == "device" and p.gpu == gpu]
        return self.capacity - sum(used)

    def allocate(self, kind: MemoryKind, size: int, gpu: int | None = None) -> Allocation:
        """Return new memory, with anything in it."""
        if size < 1:
            raise Refusal(CUresult.CUDA_ERROR_INVALID_VALUE)
        with self._lock:
            if kind == "device" and gpu is not None and size > self.free_bytes(gpu):
                raise Refusal(CUresult.CUDA_ERROR_OUT_OF_MEMORY)
            margin = mmap.PAGESIZE
            pages = mmap.mmap(-1, size + 2 * margin)
            address = ctypes.addressof(ctypes.c_char.from_buffer(pages)) + margin
            return self._put(Allocation(kind, address, size, gpu, pages, margin=margin))

    def free(self, address: int, *kinds: MemoryKind) -> None:
        """Free what was allocated at an address: it is of one of these kinds, live, and not registered."""
        with self._lock:
            piece = self._at.get(address)
            if piece is None or not piece.live or piece.registered or piece.kind not in kinds:
                raise Refusal(CUresult.CUDA_ERROR_INVALID_VALUE)
            piece.live = False
            if piece.pages is not None:
                piece.pages.madvise(mmap.MADV_DONTNEED)  # the address stays taken

    def register(self, address: int, size: int) -> None:
        """Pin memory of the host."""
        with self._lock:
            if size < 1 or address == 0:
                raise Refusal(CUresult.CUDA_ERROR_INVALID_VALUE)
            if self.find(address) is not None or self.find(address + size - 1) is not None:
                raise Refusal(CUresult.CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED)
            self._put(Allocation("pinned", address, size, registered=True))

    def unregister(self, address: int) -> None:
        """Let go of memory that was registered at this address."""
        with self._lock:
            piece = self._at.get(address)
            if piece is None or not piece.live or not piece.registered:
                raise Refusal(CUresult.CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED)
            piece.live = False
            del self._at[address]  # the host uses its addresses again
            self._starts.remove((address, address))

    def find(self, address: int) -> Allocation | None:
        """Return what an address is or was in or next to; None for ordinary memory of the host."""
        with self._lock:
            index = bisect.bisect_right(self._starts, (address, sys.maxsize)) - 1
            piece = self._at[self._starts[index][1]] if index >= 0 else None
            if piece is None or address >= piece.address + piece.size + piece.margin:
                return None
            return piece

    def check(self, address: int, size: int, status: CUresult) -> Allocation | None:
        """Return what bytes are in, if they lie within one live piece or in ordinary memory; else refuse."""
        piece = self.find(address)
        if piece is None:
            if self.find(address + size - 1) is not None:
                raise Refusal(status)
        elif not (piece.usable and piece.has(address, size)):
            raise Refusal(status)
        return piece

    def export(self, address: int) -> bytes:
        """Return the handle of device memory for other processes."""
        with self._lock:
            piece = self._at.get(address)
            if piece is None or not piece.live or piece.kind != "device":
                raise Refusal(CUresult.CUDA_ERROR_INVALID_VALUE)
            with _exports_lock:
                for handle, (_, exported) in _exports.items():
                    if exported is piece:
                        return handle
                handle = secrets.token_bytes(64)
                _exports[handle] = self, piece
                return handle

    def open(self, handle: bytes, gpu: int) -> Allocation:
        """Return the memory of another process; opened again it is the same."""
        with _exports_lock:
            owner, origin = _exports.get(handle, (self, None))
        if origin is None or not origin.live:
            raise Refusal(CUresult.CUDA_ERROR_INVALID_VALUE)
        if owner is self:  # a process has no handle of its own memory
            raise Refusal(CUresult.CUDA_ERROR_INVALID_CONTEXT)
        with self._lock:
            piece = self._at.get(origin.address)
            if piece is None or not piece.live:
                piece = self._put(Allocation("ipc", origin.address, origin.size, gpu, origin=origin))
            piece.opened += 1
            return piece

    def close(self, address: int) -> None:
        """Undo one `open`."""
        with self._lock:
            piece = self._at.get(address)
            if piece is None or not piece.live or piece.kind != "ipc":
                raise Refusal(CUresult.CUDA_ERROR_INVALID_VALUE)
            piece.opened -= 1
            piece.live = piece.opened > 0

    def forget(self) -> None:
        """Take back every handle that other processes have."""
        with _exports_lock:
            for handle in [handle for handle, (owner, _) in _exports.items() if owner is self]:
                del _exports[handle]

    def _put(self, piece: Allocation) -> Allocation:
        if piece.address not in self._at:
            bisect.insort(self._starts, (piece.address - piece.margin, piece.address))
        self._at[piece.address] = piece
        return piece
