"""Tensors of PyTorch and arrays, and which types are which."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from yais.core.tensor import DataType, TensorSpec
from yais.engines.engine import Array
from yais.errors import FailedPrecondition, Internal, InvalidArgument

__all__ = ["array_of", "checked_tensor", "datatype_of", "dtype_of", "tensor_of", "torch_module"]

_NAMES = {
    DataType.BOOL: "bool",
    DataType.UINT8: "uint8",
    DataType.UINT16: "uint16",
    DataType.UINT32: "uint32",
    DataType.UINT64: "uint64",
    DataType.INT8: "int8",
    DataType.INT16: "int16",
    DataType.INT32: "int32",
    DataType.INT64: "int64",
    DataType.FP16: "float16",
    DataType.FP32: "float32",
    DataType.FP64: "float64",
    DataType.BF16: "bfloat16",
}

_NAMED = ", ".join(datatype.value for datatype in _NAMES)


def torch_module() -> Any:
    """Return the module `torch`. Raises FailedPrecondition where there is none."""
    try:
        import torch
    except ImportError as error:
        raise FailedPrecondition(
            f"a PyTorch model needs PyTorch (pip install 'yais[torch]'), and importing it failed: {error}"
        ) from None
    return torch


def dtype_of(datatype: DataType) -> Any:
    """Return PyTorch's type of a tensor. Raises InvalidArgument for BYTES, and for what it does not have."""
    dtype = getattr(torch_module(), _NAMES.get(datatype, ""), None)
    if dtype is None:
        raise InvalidArgument(f"PyTorch has no tensors of {datatype.value}, expected {_NAMED}")
    return dtype


def datatype_of(dtype: Any, name: str) -> DataType:
    """Return the type of the tensor `name`. Raises InvalidArgument for what the protocol does not have."""
    for datatype, known in _NAMES.items():
        if str(dtype) == f"torch.{known}":
            return datatype
    raise InvalidArgument(f"tensor '{name}' is of {dtype}, expected one of {', '.join(_NAMES.values())}")


def tensor_of(array: Array, datatype: DataType) -> Any:
    """Return a tensor on the memory of a contiguous array, which must outlive it and is not to be written."""
    torch = torch_module()
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    elif not array.flags.writeable:  # there are no tensors to be read only; PyTorch warns of each
        if not array.nbytes:
            return tensor_of(np.empty(array.shape, array.dtype), datatype)
        memory = (ctypes.c_char * array.nbytes).from_address(array.ctypes.data)
        array = np.frombuffer(memoryview(memory), array.dtype).reshape(array.shape)
    if datatype is DataType.BF16:  # numpy has no such type: its bits
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def array_of(tensor: Any, datatype: DataType) -> Array:
    """Return an array on the memory of a contiguous tensor of the CPU."""
    if datatype is DataType.BF16:
        bits: Array = tensor.view(torch_module().int16).numpy().view(np.uint16)
        return bits
    array: Array = tensor.numpy()
    return array


def checked_tensor(tensor: Any, spec: TensorSpec) -> Any:
    """Return an output, checked to be a plain tensor of the type and shape that were declared; contiguous.

    Raises
    ------
    Internal
        The model gave something else.
    """
    torch = torch_module()
    if not isinstance(tensor, torch.Tensor) or tensor.layout is not torch.strided:
        kind = getattr(tensor, "layout", type(tensor).__name__)
        raise Internal(f"the model gave a {kind} for output '{spec.name}', expected a tensor")
    if tensor.dtype is not dtype_of(spec.datatype):
        raise Internal(
            f"the model gave {tensor.dtype} for output '{spec.name}', expected {dtype_of(spec.datatype)}"
        )
    sizes = tuple(tensor.shape)
    if len(sizes) != len(spec.shape) or any(
        want not in {-1, size} for want, size in zip(spec.shape, sizes, strict=True)
    ):
        raise Internal(f"the model gave {list(sizes)} for output '{spec.name}', expected {list(spec.shape)}")
    return tensor.detach().contiguous()
