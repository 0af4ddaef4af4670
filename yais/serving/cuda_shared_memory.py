"""CUDA shared memory: the regions of clients on GPUs, by the names that clients gave them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from yais.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unimplemented,
    YaisError,
)
from yais.memory.cuda.device import CudaDevice, cuda_device
from yais.memory.cuda.ipc import HANDLE_SIZE
from yais.serving.cuda_copies import CudaCopies
from yais.serving.cuda_region import CudaRegion, MappedCudaRegion
from yais.serving.shared_memory import NOT_ALLOWED, expect_place

__all__ = ["CudaRegion", "CudaSharedMemory"]

_MAX_REGIONS = 16384  # what system shared memory has at most, too


class CudaSharedMemory:
    """The regions that clients have registered. Thread-safe.

    Parameters
    ----------
    allowed
        Whether clients may have regions at all.
    device
        Returns a GPU by its number, and raises FailedPrecondition where there is none; by default the
        process's own.
    limit
        Regions at most.
    """

    def __init__(
        self,
        *,
        allowed: bool,
        device: Callable[[int], CudaDevice] | None = None,
        limit: int = _MAX_REGIONS,
    ) -> None:
        self.allowed = allowed
        self._device = device or cuda_device
        self._limit = limit
        self._lock = threading.Lock()  # of those who change what follows; one look needs none
        self._regions: dict[str, MappedCudaRegion] = {}
        self._copies: dict[int, CudaCopies] = {}

    def __repr__(self) -> str:
        return f"<CudaSharedMemory: {f'{len(self)} regions' if self.allowed else 'not allowed'}>"

    def __len__(self) -> int:
        """Return how many regions there are."""
        return len(self._regions)

    def __contains__(self, name: str) -> bool:
        """Return whether there is a region of that name."""
        return name in self._regions

    def register(self, region: CudaRegion, raw_handle: bytes) -> None:
        """Attach to a region.

        Raises
        ------
        Unimplemented
            Clients may not have regions.
        AlreadyExists
            There is a region of that name.
        InvalidArgument
            There is no CUDA or no such GPU, the region is empty or larger than the memory, or the handle is
            none: of another machine, of this very process, or of memory that is freed.
        ResourceExhausted
            There are too many regions, or no memory for another.
        """
        name = region.name
        if not self.allowed:
            raise Unimplemented(NOT_ALLOWED)
        if len(raw_handle) != HANDLE_SIZE:
            raise InvalidArgument("failed to register shared memory region: invalid args")
        with self._lock:
            expect_place(name, self._regions, self._limit)
            self._regions[name] = self._mapped(region, raw_handle)

    def unregister(self, name: str) -> None:
        """Let go of a region, or of all for ""; one in use goes when its last use ends.

        A name that is none is no error.
        """
        with self._lock:
            if name:
                gone = [self._regions.pop(name)] if name in self._regions else []
            else:
                gone = list(self._regions.values())
                self._regions.clear()
        for mapped in gone:
            mapped.release()

    def status(self, name: str) -> list[CudaRegion]:
        """Return a region, or all for "". Raises NotFound."""
        with self._lock:
            if not name:
                return [mapped.region for mapped in self._regions.values()]
            mapped = self._regions.get(name)
        if mapped is None:
            raise NotFound(f"Unable to find cuda shared memory region: '{name}'")
        return [mapped.region]

    def find(self, name: str) -> MappedCudaRegion:
        """Return a region. Raises NotFound."""
        mapped = self._regions.get(name)
        if mapped is None:
            raise NotFound(f"Unable to find shared memory region: '{name}'")
        return mapped

    def close(self) -> None:
        """Let go of all regions, and of what it takes to copy. Idempotent."""
        self.unregister("")
        with self._lock:
            copies = list(self._copies.values())
            self._copies.clear()
        for each in copies:
            each.close()

    def _mapped(self, region: CudaRegion, raw_handle: bytes) -> MappedCudaRegion:
        name = region.name
        device = self._gpu(region)
        if region.byte_size < 1:
            raise InvalidArgument(f"failed to register shared memory region '{name}': invalid args")
        try:
            memory = device.open_ipc(raw_handle, region.byte_size)
        except MemoryError as error:
            raise ResourceExhausted(
                f"failed to register CUDA shared memory region '{name}': {error}"
            ) from None
        except YaisError as error:
            raise InvalidArgument(
                f"failed to register CUDA shared memory region '{name}': failed to open CUDA IPC handle: "
                f"{error}"
            ) from None
        if region.device_id not in self._copies:
            self._copies[region.device_id] = CudaCopies(device)
        return MappedCudaRegion(region, memory, self._copies[region.device_id])

    def _gpu(self, region: CudaRegion) -> CudaDevice:
        name = region.name
        try:
            return self._device(region.device_id)
        except FailedPrecondition as error:
            missing = error
        except YaisError as error:
            raise InvalidArgument(f"failed to register CUDA shared memory region '{name}': {error}") from None
        try:
            self._device(0)
        except YaisError:
            raise InvalidArgument(
                f"failed to register CUDA shared memory region: '{name}', GPUs not supported"
            ) from None
        raise InvalidArgument(f"failed to register CUDA shared memory region '{name}': {missing}")
