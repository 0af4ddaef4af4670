"""Tensors by description: data types and specifications."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["DataType", "TensorSpec"]


class DataType(enum.Enum):
    """Element types, by their names in the KServe v2 protocol."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BF16 = "BF16"
    BYTES = "BYTES"

    # Both are read for every tensor of every request: plain attributes, set below.
    numpy: np.dtype[Any]
    """Element type of arrays that hold such a tensor: uint16 for BF16, which numpy lacks (the upper half
    of a float32), and objects, each a `bytes`, for BYTES."""
    size: int
    """Bytes an element takes in row-major little-endian memory; 0 for BYTES, whose elements vary."""

    @classmethod
    def of(cls, dtype: np.dtype[Any]) -> DataType:
        """Return the data type of arrays of a numpy dtype.

        Raises
        ------
        ValueError
            No data type has such elements (complex numbers, dates, ...).
        """
        if dtype.kind in "OSU":
            return cls.BYTES
        try:
            return _BY_NUMPY[dtype.newbyteorder("=")]
        except KeyError:
            expected = ", ".join(str(known) for known in _BY_NUMPY)
            raise ValueError(f"got arrays of {dtype}, expected one of {expected}, bytes or str") from None


_NUMPY = {
    DataType.BOOL: np.bool_,
    DataType.UINT8: np.uint8,
    DataType.UINT16: np.uint16,
    DataType.UINT32: np.uint32,
    DataType.UINT64: np.uint64,
    DataType.INT8: np.int8,
    DataType.INT16: np.int16,
    DataType.INT32: np.int32,
    DataType.INT64: np.int64,
    DataType.FP16: np.float16,
    DataType.FP32: np.float32,
    DataType.FP64: np.float64,
    DataType.BF16: np.uint16,
    DataType.BYTES: np.object_,
}
for _datatype, _type in _NUMPY.items():
    _datatype.numpy = np.dtype(_type)
    _datatype.size = 0 if _datatype is DataType.BYTES else _datatype.numpy.itemsize

_BY_NUMPY = {
    datatype.numpy: datatype for datatype in DataType if datatype not in {DataType.BF16, DataType.BYTES}
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a tensor looks like.

    Attributes
    ----------
    name
        Its name in the model.
    datatype
        Type of its elements.
    shape
        Elements in each dimension; -1 where the size is not fixed.
    """

    name: str
    datatype: DataType
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of elements; meaningless while a dimension is -1."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of memory; 0 for BYTES."""
        return self.elements * self.datatype.size

    def __str__(self) -> str:
        return f"{self.name}: {self.datatype.value}{list(self.shape)}"
