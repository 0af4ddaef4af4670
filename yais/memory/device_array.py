"""Arrays in the memory of a GPU, as other libraries take them: without a copy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

from yais.core.tensor import DataType
from yais.memory.dlpack_capsule import CUDA, dlpack_capsule

__all__ = ["DeviceArray"]

_NO_SYNC = -1  # DLPack: the consumer takes care of the order


class Stream(Protocol):
    """What an array needs of the stream that fills it, such as a `CudaStream`."""

    @property
    def handle(self) -> int:
        """As a CUstream."""

    def sync(self) -> None:
        """Wait until everything is done that is queued."""


class DeviceArray:
    """A row-major array in the memory of a GPU, which it describes and does not own.

    The memory is its owner's, a lane say, which keeps it until the work is done for which the array was made:
    neither the array nor what a library makes of it keeps it any longer. PyTorch (`torch.from_dlpack`), CuPy
    (`cupy.asarray`), Numba and cuda.core (`StridedMemoryView`) take it as it is. Kernels take its `address`.
    Immutable, and so thread-safe.

    Parameters
    ----------
    address
        Of the first byte, on the device.
    shape
        Elements in each dimension.
    datatype
        Of the elements.
    gpu
        Whose memory it is.
    stream
        On which the contents are written, and on which work with them is to be queued. Work that a library
        queues on another stream waits for this one's: DLPack blocks the calling thread for it, and
        `__cuda_array_interface__` names the stream.

    Attributes
    ----------
    dtype
        Of the elements as numpy has them; uint16 for BF16, whose bits they are. DLPack says bfloat16.
    """

    __slots__ = ("address", "datatype", "dtype", "gpu", "shape", "stream")

    def __init__(
        self, address: int, shape: Sequence[int], datatype: DataType, *, gpu: int, stream: Stream
    ) -> None:
        if not datatype.size:
            raise ValueError(f"got elements of {datatype.value}, expected a type of fixed size")
        self.address = address
        self.shape = tuple(shape)
        self.datatype = datatype
        self.dtype = datatype.numpy
        self.gpu = gpu
        self.stream = stream

    def __repr__(self) -> str:
        return f"<DeviceArray {self.datatype.value}{list(self.shape)} at {self.address:#x} of GPU {self.gpu}>"

    @property
    def size(self) -> int:
        """Elements in all."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in all."""
        return self.size * self.datatype.size

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        # A null pointer stands for no elements, and the default stream has no handle of its own: 1 names it.
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address if self.size else 0, False),
            "strides": None,
            "stream": self.stream.handle or 1,
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self.gpu

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,  # what has no version always does
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """Return a capsule of the array. Raises BufferError if another device, or a copy, is asked for."""
        device = self.__dlpack_device__()
        if dl_device not in {None, device}:
            raise BufferError(f"got dl_device={dl_device}, expected {device}: nothing is copied")
        if copy:
            raise BufferError("got copy=True, expected False or None: nothing is copied")
        if stream not in {_NO_SYNC, self.stream.handle or 1}:
            self.stream.sync()
        return dlpack_capsule(self.address if self.size else 0, self.shape, self.datatype, device)
