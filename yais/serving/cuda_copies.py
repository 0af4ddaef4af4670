"""Copies between the host and a GPU that wait until they are done."""

from __future__ import annotations

import collections
import contextlib
import threading
from collections.abc import Iterator

import numpy as np

from yais.lane import Placement
from yais.memory.cuda.device import CudaDevice
from yais.memory.cuda.settled import settled
from yais.memory.cuda.stream import CudaStream
from yais.memory.pooled import PooledResource

__all__ = ["CudaCopies"]

_MAX_KEPT = 64 << 20  # bytes of pinned memory for the next copies

_BYTE = np.dtype(np.uint8)


class CudaCopies:
    """Copies of one GPU, each on a stream that it has alone. Thread-safe.

    The thread that copies sleeps meanwhile, without the interpreter's lock. There are as many streams as were
    ever needed at once.

    Parameters
    ----------
    device
        The GPU.

    Raises
    ------
    CudaError, MemoryError
        From every method: CUDA refuses, or there is no pinned memory. Nothing is under way then.
    """

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        self._place = Placement("shared-memory")
        self._staging = self._pool(_MAX_KEPT)
        self._lock = threading.Lock()
        self._spare: collections.deque[CudaStream] = collections.deque()
        self._closed = False

    def __repr__(self) -> str:
        return f"<CudaCopies of {self._device!r}: {len(self._spare)} streams spare>"

    def read(self, address: int, size: int) -> memoryview:
        """Return a copy of `size` bytes at an address of the GPU, in pinned memory; it is read-only."""
        buffer = self._staging.allocate(size)
        self.read_into(buffer.view, address)
        return buffer.view.toreadonly()

    def read_into(self, target: memoryview, address: int) -> None:
        """Fill memory of the host from an address of the GPU."""
        with self._stream() as stream, settled(stream):
            stream.copy_out(np.frombuffer(target, _BYTE), address)
            stream.sync()

    def write(self, address: int, contents: memoryview) -> None:
        """Copy bytes of the host to an address of the GPU."""
        with self._stream() as stream, settled(stream):
            stream.copy_in(address, np.frombuffer(contents, _BYTE))
            stream.sync()

    def close(self) -> None:
        """Give streams and memory back, those in use as soon as they are not. Idempotent."""
        with self._lock:
            self._closed = True
            spare = list(self._spare)
            self._spare.clear()
        for stream in spare:
            stream.close()
        self._staging = self._pool(0)  # the one before goes with the last of its buffers

    def _pool(self, max_kept: int) -> PooledResource:
        return PooledResource(self._device.staging(self._place), max_kept=max_kept)

    @contextlib.contextmanager
    def _stream(self) -> Iterator[CudaStream]:
        with self._lock:
            stream = self._spare.pop() if self._spare else None
        if stream is None:
            stream = self._device.stream(self._place)
        try:
            yield stream
        finally:
            with self._lock:
                closed = self._closed
                if not closed:
                    self._spare.append(stream)
            if closed:
                stream.close()
