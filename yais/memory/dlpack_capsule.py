"""DLPack capsules of memory that is only described: without a version (dlpack.h 0.x), which all take."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from yais.core.tensor import DataType

__all__ = ["CPU", "CUDA", "dlpack_capsule"]

CPU, CUDA = 1, 2
"""Kinds of devices: kDLCPU and kDLCUDA."""

_KINDS = {"i": 0, "u": 1, "f": 2, "b": 6}  # of a numpy dtype: kDLInt, kDLUInt, kDLFloat, kDLBool
_BFLOAT = 4  # kDLBfloat

_NAME = b"dltensor"  # of a capsule that nobody has taken yet


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("index", ctypes.c_int32))


class _Type(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _Type),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.c_void_p),
        ("byte_offset", ctypes.c_uint64),
    )


class _ManagedTensor(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


_libc = ctypes.CDLL(None)
_malloc = _libc.malloc
_malloc.restype, _malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
# The deleter is C's own: one in Python would run while an error of the consumer's is on its way, and lose it.
_deleter = ctypes.cast(_libc.free, ctypes.c_void_p)

_new = ctypes.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)


def dlpack_capsule(address: int, shape: Sequence[int], datatype: DataType, device: tuple[int, int]) -> Any:
    """Return a capsule of a row-major tensor, whose memory is not owned by it. Thread-safe.

    Parameters
    ----------
    address
        Of the first byte.
    device
        Kind and number.
    """
    code = _BFLOAT if datatype is DataType.BF16 else _KINDS[datatype.numpy.kind]
    place = _malloc(ctypes.sizeof(_ManagedTensor) + max(1, len(shape)) * ctypes.sizeof(ctypes.c_int64))
    if not place:
        raise MemoryError("no memory for a DLPack capsule")
    sizes = (ctypes.c_int64 * len(shape)).from_address(place + ctypes.sizeof(_ManagedTensor))
    sizes[:] = list(shape)
    managed = _ManagedTensor.from_address(place)
    managed.tensor = _Tensor(
        address,
        _Device(*device),
        len(shape),
        _Type(code, 8 * datatype.size, 1),
        ctypes.cast(sizes, ctypes.POINTER(ctypes.c_int64)),
        None,
        0,
    )
    managed.context, managed.deleter = None, _deleter
    return _new(place, _NAME, None)  # a capsule that nobody takes leaves these few bytes behind
