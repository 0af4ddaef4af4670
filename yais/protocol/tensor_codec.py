"""Tensors on the wire: row-major little-endian bytes to numpy arrays and back.

Fixed-size types are views in and one copy out. BYTES is a length (4 bytes, little-endian) and that many
bytes per element; its arrays hold `bytes` objects. BF16 is the upper half of a float32; its arrays hold
uint16, which `yais.core.arrays` converts.
"""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from yais.core.tensor import DataType
from yais.errors import InvalidArgument

__all__ = ["decode", "decode_bytes", "encode", "encode_bytes", "objects"]

Array = npt.NDArray[Any]

_LENGTH = struct.Struct("<I")


def decode(datatype: DataType, shape: tuple[int, ...], data: bytes | memoryview) -> Array:
    """Return the tensor that `data` holds: a read-only view of it, but for BYTES.

    Raises
    ------
    InvalidArgument
        `data` has not the size that `datatype` and `shape` ask for.
    """
    if datatype is DataType.BYTES:
        array, got = decode_bytes(data), "elements"
    else:
        array, got = np.frombuffer(data, np.uint8), "bytes"
    # Asked for by itself: reshape would take a -1 as any size.
    if array.size == math.prod(shape) * (datatype.size or 1) and min(shape, default=0) >= 0:
        with contextlib.suppress(ValueError):  # no elements, and dimensions that numpy cannot count
            return array.view(datatype.numpy).reshape(shape)
    raise InvalidArgument(f"got {array.size} {got} for a {datatype.value} tensor of shape {list(shape)}")


def encode(array: Array) -> memoryview:
    """Return the wire form of an array: a view of it where it is contiguous and little-endian.

    Arrays of objects, bytes or text become BYTES; text is encoded as UTF-8. BF16 arrays are uint16.
    """
    if array.dtype.kind in "OSU":
        return memoryview(encode_bytes(array.ravel()))
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    # Through a view as bytes: memoryview cannot cast a buffer with a zero in its shape.
    flat: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return memoryview(flat)


def decode_bytes(data: bytes | memoryview) -> Array:
    """Return the elements of a BYTES tensor, flat.

    Raises
    ------
    InvalidArgument
        A length says more than there is. The text is what Triton says after naming the input.
    """
    elements = []
    position, end = 0, len(data)
    read = _LENGTH.unpack_from
    while position < end:
        if position + 4 > end:
            raise InvalidArgument(
                "incomplete string length indicator, "
                f"expecting 4 bytes but only {end - position} bytes available"
            )
        (length,) = read(data, position)
        position += 4
        if position + length > end:
            raise InvalidArgument(
                f"incomplete string data, expecting string of length {length} "
                f"but only {end - position} bytes available"
            )
        elements.append(bytes(data[position : position + length]))
        position += length
    return objects(elements)


def encode_bytes(elements: Iterable[Any]) -> bytes:
    """Return the wire form of BYTES elements: `bytes`, or text, which is encoded as UTF-8.

    Raises
    ------
    TypeError
        An element is neither.
    """
    parts: list[bytes] = []
    for element in elements:
        text = element.encode() if isinstance(element, str) else element
        parts.append(_LENGTH.pack(len(text)))
        parts.append(text)
    return b"".join(parts)


def objects(elements: list[bytes]) -> Array:
    """Return a flat array of the given objects themselves: numpy's own conversions drop trailing NULs."""
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    return array
