"""The tensors of one execution in the device memory of its lane."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from yais.core.tensor import TensorSpec
from yais.engines.engine import Array
from yais.lane import Lane
from yais.memory.device_array import DeviceArray

__all__ = ["DeviceTensors", "batch_bytes", "contiguous", "queue_copy_in"]

_ALIGNMENT = 256  # bytes; what CUDA aligns its own allocations to, and as much as TensorRT asks for


class DeviceTensors:
    """Cuts the device memory of a lane up in order, and copies between it and the host. Not thread-safe.

    Copies are queued on the lane's stream, which does them in their order; whoever needs them done waits for
    the stream. The memory is the execution's until its lane goes back: another `DeviceTensors` of the lane
    begins at its start again.

    Parameters
    ----------
    lane
        With a stream (`copy_in`, `copy_out`), and with device memory if any tensor has bytes.

    Examples
    --------
    >>> tensors = DeviceTensors(lane)
    >>> x, y = tensors.copy_in(array), tensors.reserve(array.nbytes)
    >>> kernel.launch(lane.stream, x, y)
    >>> result = tensors.copy_out(y, array.dtype, array.shape)
    """

    __slots__ = ("_base", "_lane", "_size", "_used")

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._base = int(lane.device.handle) if lane.device is not None else 0
        self._size = lane.device.size if lane.device is not None else 0
        self._used = 0

    def __repr__(self) -> str:
        return f"<DeviceTensors: {self._used} of {self._size} bytes used on {self._lane}>"

    @staticmethod
    def size(tensors: Iterable[int]) -> int:
        """Return how many bytes of device memory tensors of so many bytes each take."""
        return sum(_padded(size) for size in tensors)

    def copy_in(self, array: Array | DeviceArray) -> int:
        """Take room for an array, queue its copy, and return its device address, which is aligned to 256.

        Parameters
        ----------
        array
            On the host or on the same device, of any shape, C-contiguous; not to be changed or freed until
            the copy is done.

        Raises
        ------
        ValueError
            The array is not C-contiguous.
        MemoryError
            The lane has too little device memory; the message has the numbers.
        """
        if not isinstance(array, DeviceArray) and not array.flags.c_contiguous:
            raise ValueError(f"got an array with strides {array.strides}, expected a C-contiguous one")
        address = self.reserve(array.nbytes)
        if array.nbytes:
            queue_copy_in(self._lane.stream, address, array)
        return address

    def reserve(self, size: int) -> int:
        """Take room for `size` bytes and return its device address, which is aligned to 256.

        What is empty has an address, too: TensorRT takes no null. It is the one of what comes next.

        Raises
        ------
        ValueError
            `size` is negative.
        MemoryError
            The lane has too little device memory; the message has the numbers.
        """
        if size < 0:
            raise ValueError(f"got size={size}, expected 0 or more bytes")
        if self._used + size > self._size:
            left = max(0, self._size - self._used)
            raise MemoryError(
                f"got {size} bytes to take on the device, expected at most {left} left of the {self._size} "
                f"of lane '{self._lane}'"
            )
        address = self._base + self._used
        self._used += _padded(size)
        return address

    def copy_out(
        self, address: int, dtype: npt.DTypeLike, shape: Sequence[int], *, spill: bool = False
    ) -> Array:
        """Queue the copy of a tensor to the lane's staging memory, and return the array it will fill.

        Parameters
        ----------
        spill
            Whether ordinary memory will do where there is too little, as for sizes that were not to be known.
            The copy waits then.

        Raises
        ------
        MemoryError
            The lane has too little staging memory, without `spill`.
        """
        kind = np.dtype(dtype)
        try:
            piece = self._lane.staging.take(math.prod(shape) * kind.itemsize)
        except MemoryError:
            if not spill:
                raise
            array: Array = np.empty(tuple(shape), kind)
        else:
            array = np.frombuffer(piece, kind).reshape(tuple(shape))
        if array.nbytes:
            self._lane.stream.copy_out(array, address)
        return array


def contiguous(array: Array | DeviceArray) -> Array | DeviceArray:
    """Return an input of any strides, or on the device, as one that `DeviceTensors.copy_in` takes."""
    # Not numpy's ascontiguousarray: it would give an array without dimensions one.
    return array if isinstance(array, DeviceArray) else np.asarray(array, order="C")


def queue_copy_in(stream: Any, target: int, array: Array | DeviceArray) -> None:
    """Queue the copy of an array, on the host or on the stream's device, to a device address."""
    if isinstance(array, DeviceArray):
        stream.copy(target, array.address, array.nbytes)
    else:
        stream.copy_in(target, array)


def batch_bytes(spec: TensorSpec, batch: int) -> int:
    """Return the bytes of a tensor in a batch, 0 for none; its other dimensions of any size count as 1."""
    shape = [1 if size < 0 else size for size in spec.shape]
    if batch and spec.shape[:1] == (-1,):
        shape[0] = batch
    return TensorSpec(spec.name, spec.datatype, tuple(shape)).nbytes


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
