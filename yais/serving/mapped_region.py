"""A client's shared memory as it is mapped here: checked on every use, before a byte is touched."""

from __future__ import annotations

from dataclasses import dataclass

from yais.errors import InvalidArgument, ResourceExhausted
from yais.memory.shared_region import SharedRegion

__all__ = ["MappedRegion", "Region", "check_place"]

_MAX_RESERVED = 1024  # parts of a region that are remembered


@dataclass(frozen=True, slots=True)
class Region:
    """A region as its client described it; `offset` and `byte_size` are in bytes."""

    name: str
    key: str
    offset: int
    byte_size: int


class MappedRegion:
    """A region in the memory of this process, where it stays while this object or a view lives. Thread-safe.

    Parameters
    ----------
    region
        What its client said of it; it lies within the file.
    memory
        The file. Never closed, but for when the last reference goes: another thread may be at it.
    """

    __slots__ = ("_bytes", "_memory", "_reserved", "region")

    def __init__(self, region: Region, memory: SharedRegion) -> None:
        self.region = region
        self._memory = memory
        self._bytes = memory.view(region.offset, region.byte_size)
        self._reserved: set[tuple[int, int]] = set()

    def __repr__(self) -> str:
        region = self.region
        return (
            f"<MappedRegion {region.name}: {region.byte_size} bytes of {region.key} from {region.offset} on>"
        )

    def view(self, offset: int, byte_size: int) -> memoryview:
        """Return a writable view of a part, counted from where the region begins.

        Raises
        ------
        InvalidArgument
            See `check`.
        ResourceExhausted
            There is no shared memory for what the client only said was there.
        """
        self.check(offset, byte_size)
        if (offset, byte_size) not in self._reserved and byte_size:
            self._reserve(offset, byte_size)
        return self._bytes[offset : offset + byte_size]

    def acquire(self) -> None:
        """Do nothing: who has this object has the memory."""

    def release(self) -> None:
        """Do nothing; see `acquire`."""

    def read(self, offset: int, byte_size: int) -> memoryview:
        """Return a read-only view of a part; see `view`."""
        return self.view(offset, byte_size).toreadonly()

    def write(self, offset: int, contents: memoryview) -> None:
        """Write bytes to a part; see `view`."""
        self.view(offset, contents.nbytes)[:] = contents

    def check(self, offset: int, byte_size: int) -> None:
        """Refuse a part that is none, without setting memory aside for it, which takes long if it is large.

        Raises
        ------
        InvalidArgument
            It does not lie within the region, or its client has made the file smaller since.
        """
        name, end = self.region.name, offset + byte_size
        check_place(name, self.region.byte_size, offset, byte_size)
        has = self._memory.file_size - self.region.offset
        if end > has:
            self._reserved.clear()  # what grows back is only promised again
            raise InvalidArgument(
                f"Invalid offset + byte size for shared memory region: '{name}': got {offset} + {byte_size}, "
                f"but its file was made smaller and has {max(has, 0)} bytes of it left"
            )

    def _reserve(self, offset: int, byte_size: int) -> None:
        try:
            self._memory.reserve(self.region.offset + offset, byte_size)
        except ResourceExhausted:
            raise ResourceExhausted(
                f"there is no shared memory for {byte_size} bytes of region '{self.region.name}'"
            ) from None
        if len(self._reserved) >= _MAX_RESERVED:
            self._reserved.clear()
        self._reserved.add((offset, byte_size))


def check_place(name: str, size: int, offset: int, byte_size: int) -> None:
    """Raise InvalidArgument, in Triton's words, if a part does not lie within a region of `size` bytes."""
    if not 0 <= offset < size:
        raise InvalidArgument(f"Invalid offset for shared memory region: '{name}'")
    if byte_size < 0 or offset + byte_size > size:
        raise InvalidArgument(f"Invalid offset + byte size for shared memory region: '{name}'")
