"""Arrays of a tensor's type, made of what callers pass.

BF16 has no type in numpy: callers pass and get float32, and `DataType.BF16.numpy` arrays hold its bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from yais.core.tensor import DataType, TensorSpec
from yais.errors import InvalidArgument

__all__ = ["bf16_to_float32", "converted", "float32_to_bf16", "numbers", "prepared", "presented"]

Array = npt.NDArray[Any]


def prepared(inputs: Mapping[str, Any], specs: Mapping[str, TensorSpec], model: str) -> dict[str, Array]:
    """Return an array of the right type for each input of a model, in the model's order.

    Nothing is copied that has the right type and is contiguous. Shapes are left to the model.

    Raises
    ------
    InvalidArgument
        An input is missing or unknown, or its values are none of its type.
    """
    if inputs.keys() != specs.keys():
        raise InvalidArgument(f"got inputs {sorted(inputs)} for model '{model}', expected {sorted(specs)}")
    return {name: converted(inputs[name], spec) for name, spec in specs.items()}


def converted(value: Any, spec: TensorSpec) -> Array:
    """Return a C-contiguous array of a tensor's type.

    Parameters
    ----------
    value
        An array, what numpy makes one of, or anything that exports its memory by DLPack. Of the tensor's
        type, or of one that converts to it without loss of kind; of whole numbers any type that they fit.

    Raises
    ------
    InvalidArgument
        The values are none of the tensor's type.
    """
    if type(value) is np.ndarray and value.dtype == spec.datatype.numpy and _as_it_is(value, spec.datatype):
        return value
    if spec.datatype is DataType.BYTES:
        return _texts(value, spec)
    wanted = np.dtype(np.float32) if spec.datatype is DataType.BF16 else spec.datatype.numpy
    try:
        array = _array(value)
        # Whether whole numbers fit is a matter of their values, not of their type.
        whole = array.dtype.kind in "iu" and wanted.kind in "iu"
        with np.errstate(over="ignore"):  # what is too large becomes infinite
            result = array.astype(wanted, "C", casting="unsafe" if whole else "same_kind", copy=False)
    except ValueError as error:
        raise InvalidArgument(f"input '{spec.name}': {error}") from None
    except TypeError:
        raise InvalidArgument(
            f"got an array of {array.dtype} for input '{spec.name}', expected {spec.datatype.value}"
        ) from None
    if whole and not np.array_equal(result, array):
        raise InvalidArgument(
            f"got values from {array.min()} to {array.max()} for input '{spec.name}', which "
            f"{spec.datatype.value} cannot hold"
        )
    return float32_to_bf16(result) if spec.datatype is DataType.BF16 else result


def numbers(values: Sequence[Any]) -> Array:
    """Return what numpy makes of a list, but whole numbers above and below 2**63 together stay whole."""
    array = np.asarray(values)
    if (
        array.dtype == np.float64
        and all(type(value) is int for value in values)
        and min(values, default=-1) >= 0
    ):
        return np.asarray(values, np.uint64)
    return array


def presented(array: Array, datatype: DataType) -> Array:
    """Return an output as callers see it: BF16 as float32, anything else as it is."""
    return bf16_to_float32(array) if datatype is DataType.BF16 else array


def bf16_to_float32(array: Array) -> Array:
    """Return the float32 values of BF16 elements held as uint16."""
    return (array.ravel().astype(np.uint32) << 16).view(np.float32).reshape(array.shape)


def float32_to_bf16(array: Array) -> Array:
    """Return float32 values cut to BF16, held as uint16: truncated, not rounded (kserve-v2.md, row 47).

    What is no number stays so, though cutting alone would make some of them infinite.
    """
    values = np.asarray(array, np.float32).ravel()
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    bits[np.isnan(values) & (bits & 0x7F == 0)] |= 0x40
    return bits.reshape(array.shape)


def _as_it_is(array: Array, datatype: DataType) -> bool:
    return bool(datatype.size) and datatype is not DataType.BF16 and array.flags.c_contiguous


def _array(value: Any) -> Array:
    if isinstance(value, np.ndarray) or not hasattr(value, "__dlpack__"):
        return np.asarray(value)
    try:
        return np.from_dlpack(value)
    except (BufferError, RuntimeError) as error:  # on a device, or of a type that numpy does not know
        raise ValueError(f"got a {type(value).__name__} that numpy cannot take by DLPack: {error}") from None


def _texts(value: Any, spec: TensorSpec) -> Array:
    array = np.asarray(value, np.object_)  # numpy's own types of text drop trailing NULs
    encoded = np.empty(array.shape, np.object_)
    for position, element in np.ndenumerate(array):
        if isinstance(element, str):
            encoded[position] = element.encode()
        elif isinstance(element, bytes):
            encoded[position] = element
        else:
            raise InvalidArgument(f"got {element!r} for input '{spec.name}', expected bytes or text")
    return encoded
