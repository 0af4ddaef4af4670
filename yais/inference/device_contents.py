"""Contents of inputs that are on a GPU, in memory of the client's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, final

from yais.core.tensor import DataType
from yais.memory.device_array import DeviceArray

__all__ = ["DeviceContents", "DeviceRegion"]


class DeviceRegion(Protocol):
    """Memory on a GPU that somebody else may give up. Thread-safe. What it raises is a `YaisError`."""

    @property
    def gpu(self) -> int:
        """Whose memory it is."""

    @property
    def address(self) -> int:
        """Of the first byte on the device, as long as it is acquired."""

    def acquire(self) -> None:
        """Keep it until `release`, which must follow. Raises NotFound if it is gone already."""

    def release(self) -> None:
        """Undo one `acquire`."""

    def copy_to(self, target: memoryview, offset: int) -> None:
        """Fill host memory from `offset` on, and wait until that is done."""


@final
class DeviceContents:
    """The contents of one input as a part of a region. Immutable, and so thread-safe.

    Only requests to a model with `Servable.gpus` have such; `len` is their bytes, and `bytes` a copy of them.

    Parameters
    ----------
    region
        Where they are.
    offset, size
        The part, in bytes: it lies within the region.
    """

    __slots__ = ("_offset", "_region", "_size")

    def __init__(self, region: DeviceRegion, offset: int, size: int) -> None:
        self._region = region
        self._offset = offset
        self._size = size

    def __repr__(self) -> str:
        return f"<DeviceContents: {self._size} bytes of {self._region!r}>"

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        copy = bytearray(self._size)
        self.copy_to(memoryview(copy))
        return bytes(copy)

    @property
    def gpu(self) -> int:
        """Where they are."""
        return self._region.gpu

    def acquire(self) -> None:
        """Keep them there until `release`, which must follow; see `DeviceRegion`."""
        self._region.acquire()

    def release(self) -> None:
        """Undo one `acquire`."""
        self._region.release()

    def copy_to(self, target: memoryview) -> None:
        """Fill host memory of their size, and wait until that is done; see `DeviceRegion`."""
        self._region.copy_to(target, self._offset)

    def array(self, datatype: DataType, shape: Sequence[int], stream: Any) -> DeviceArray:
        """Return them as an array for work on a stream. It is valid as long as they are acquired."""
        return DeviceArray(
            self._region.address + self._offset, shape, datatype, gpu=self._region.gpu, stream=stream
        )
