"""A client's memory on a GPU as it is mapped here."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from yais.errors import Internal, NotFound, ResourceExhausted
from yais.inference.device_contents import DeviceContents
from yais.memory.device_buffer import DeviceBuffer
from yais.serving.cuda_copies import CudaCopies
from yais.serving.mapped_region import check_place

__all__ = ["CudaRegion", "MappedCudaRegion"]


@dataclass(frozen=True, slots=True)
class CudaRegion:
    """A region as its client described it; `byte_size` is in bytes."""

    name: str
    device_id: int
    byte_size: int


class MappedCudaRegion:
    """A region in the GPU memory of this process, acquired once to begin with, until all is released.

    Thread-safe.

    Parameters
    ----------
    region
        What its client said of it.
    memory
        The mapping, which this object closes: of `region.byte_size` bytes at least.
    copies
        Of the GPU.
    """

    def __init__(self, region: CudaRegion, memory: DeviceBuffer, copies: CudaCopies) -> None:
        self.region = region
        self._memory = memory
        self._copies = copies
        self._lock = threading.Lock()  # guards users
        self._users = 1

    def __repr__(self) -> str:
        region = self.region
        return f"<MappedCudaRegion {region.name}: {region.byte_size} bytes on GPU {region.device_id}>"

    @property
    def gpu(self) -> int:
        """Whose memory it is."""
        return self.region.device_id

    @property
    def address(self) -> int:
        """Of the first byte on the GPU, as long as it is acquired."""
        return self._memory.handle

    def acquire(self) -> None:
        """Keep the mapping until `release`, which must follow. Raises NotFound if it is gone already."""
        with self._lock:
            if not self._users:
                raise NotFound(f"Unable to find shared memory region: '{self.region.name}'")
            self._users += 1

    def release(self) -> None:
        """Undo one `acquire`, or the first one, which nobody called; the last unmaps it."""
        with self._lock:
            self._users -= 1
            unused = not self._users
        if unused:
            self._memory.close()

    def check(self, offset: int, byte_size: int) -> None:
        """Raise InvalidArgument if a part does not lie within the region."""
        check_place(self.region.name, self.region.byte_size, offset, byte_size)

    def read(self, offset: int, byte_size: int) -> memoryview:
        """Return a copy of a part; it is read-only.

        Raises
        ------
        InvalidArgument
            See `check`.
        NotFound
            The region is gone.
        Internal
            CUDA cannot read it.
        ResourceExhausted
            There is no memory for the copy.
        """
        self.check(offset, byte_size)
        if not byte_size:
            return memoryview(b"")
        with self._used("read"):
            return self._copies.read(self._memory.handle + offset, byte_size)

    def copy_to(self, target: memoryview, offset: int) -> None:
        """Fill host memory from `offset` on. Raises as `read`."""
        self.check(offset, target.nbytes)
        with self._used("read"):
            self._copies.read_into(target, self._memory.handle + offset)

    def contents(self, offset: int, byte_size: int) -> DeviceContents:
        """Return a part as it is, for a model on the same GPU. Raises InvalidArgument: see `check`."""
        self.check(offset, byte_size)
        return DeviceContents(self, offset, byte_size)

    def write(self, offset: int, contents: memoryview) -> None:
        """Write bytes to a part. Raises as `read`."""
        self.check(offset, contents.nbytes)
        if contents.nbytes:
            with self._used("write"):
                self._copies.write(self._memory.handle + offset, contents)

    @contextlib.contextmanager
    def _used(self, verb: str) -> Iterator[None]:
        self.acquire()
        try:
            yield
        except Internal as error:
            raise Internal(f"cannot {verb} CUDA shared memory region '{self.region.name}': {error}") from None
        except MemoryError as error:
            raise ResourceExhausted(
                f"no memory to {verb} CUDA shared memory region '{self.region.name}': {error}"
            ) from None
        finally:
            self.release()
