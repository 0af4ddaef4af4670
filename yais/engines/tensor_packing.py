"""Arrays in a piece of memory that two processes share.

Each array begins at a multiple of 64 bytes. Elements of BYTES are their lengths, 8 bytes each, and then all
their bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from yais.engines.engine import Array

__all__ = ["PackedTensor", "pack", "packed_size", "unpack"]

_ALIGNMENT = 64  # bytes; a cache line, and what vector instructions want at most


class PackedTensor(NamedTuple):
    """Where an array lies, in plain types. `dtype` is as `numpy.dtype.str` has it, "|O" for BYTES."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


def packed_size(arrays: Mapping[str, Array]) -> int:
    """Return the bytes that `pack` takes, at least 1."""
    return max(1, sum(_padded(_size(array)) for array in arrays.values()))


def pack(arrays: Mapping[str, Array], memory: memoryview) -> list[PackedTensor]:
    """Copy arrays into memory of `packed_size` bytes or more; return where they are."""
    packed = []
    offset = 0
    for name, array in arrays.items():
        size = _size(array)
        if array.dtype.hasobject:
            lengths = np.ndarray(array.size, np.int64, memory, offset)
            lengths[:] = [len(element) for element in array.flat]
            memory[offset + lengths.nbytes : offset + size] = b"".join(array.flat)
        else:
            np.ndarray(array.shape, array.dtype, memory, offset)[...] = array
        packed.append(PackedTensor(name, array.dtype.str, array.shape, offset))
        offset += _padded(size)
    return packed


def unpack(packed: Sequence[PackedTensor], memory: memoryview) -> dict[str, Array]:
    """Return the arrays that lie in memory: views of it, but for BYTES."""
    return {tensor.name: _unpacked(tensor, memory) for tensor in packed}


def _unpacked(tensor: PackedTensor, memory: memoryview) -> Array:
    dtype: np.dtype[Any] = np.dtype(tensor.dtype)
    if not dtype.hasobject:
        return np.ndarray(tensor.shape, dtype, memory, tensor.offset)
    elements = np.empty(tensor.shape, np.object_)
    lengths = np.ndarray(elements.size, np.int64, memory, tensor.offset)
    ends = tensor.offset + lengths.nbytes + np.cumsum(lengths)
    elements.ravel()[:] = [
        bytes(memory[end - length : end]) for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)
    ]
    return elements


def _size(array: Array) -> int:
    return array.size * 8 + sum(map(len, array.flat)) if array.dtype.hasobject else array.nbytes


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
