"""What Python code returned, checked against what its model declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from yais.core.tensor import DataType, TensorSpec
from yais.engines.engine import Array
from yais.errors import Internal

__all__ = ["checked_outputs"]


def checked_outputs(
    result: object, declared: Sequence[TensorSpec], inputs: Sequence[Array]
) -> dict[str, Array]:
    """Return the outputs as arrays of their declared types, by name.

    Parameters
    ----------
    result
        A mapping of names to arrays, or to what `numpy.asarray` takes: scalars, lists. Numbers are converted
        as numpy's "same_kind" casting allows, integers to any integers that can hold them, and text to
        BYTES as UTF-8.
    declared
        All outputs of the model.
    inputs
        An output that may share memory with one of these is copied.

    Raises
    ------
    Internal
        The result is no such mapping, lacks an output or has one too many, or an output is not of its
        type, rank or fixed dimensions.
    """
    if not isinstance(result, Mapping):
        raise Internal(f"got a {type(result).__name__} as outputs, expected a mapping of names to arrays")
    if len(result) != len(declared) or any(spec.name not in result for spec in declared):
        expected = [spec.name for spec in declared]
        raise Internal(f"got outputs {list(result)}, expected {expected}")
    return {spec.name: _checked(spec, result[spec.name], inputs) for spec in declared}


def _checked(spec: TensorSpec, value: object, inputs: Sequence[Array]) -> Array:
    try:
        array = _objects(value) if spec.datatype is DataType.BYTES else _numbers(spec, value)
    except (TypeError, ValueError, OverflowError) as error:
        raise Internal(f"got output '{spec.name}' as {error}, expected {_text(spec)}") from None
    fits = array.ndim == len(spec.shape) and all(
        want in {-1, size} for want, size in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        raise Internal(f"got output '{spec.name}' of shape {list(array.shape)}, expected {_text(spec)}")
    if any(np.may_share_memory(array, given) for given in inputs):
        return array.copy()
    return array


def _numbers(spec: TensorSpec, value: object) -> Array:
    array = np.asarray(value)
    expected = spec.datatype.numpy
    if array.dtype == expected:
        return array
    if array.dtype.kind in "iu" and expected.kind in "iu":
        limits = np.iinfo(expected)
        fits = not array.size or (array.min() >= limits.min and array.max() <= limits.max)
    else:
        fits = not array.size or np.can_cast(array.dtype, expected, "same_kind")
    if not fits:
        raise TypeError(f"{array.dtype}{list(array.shape)} that cannot be converted without loss")
    with np.errstate(over="ignore"):  # a float that is too large becomes infinite, as in numpy
        return array.astype(expected)


def _objects(value: Any) -> Array:
    # As objects from the start: numpy's own arrays of bytes lose trailing zeros.
    array = np.asarray(value, np.object_)
    elements = array.ravel()
    if all(type(element) is bytes for element in elements):
        return array
    encoded = np.empty(array.shape, np.object_)
    encoded.ravel()[:] = [_encoded(element) for element in elements]
    return encoded


def _encoded(element: object) -> bytes:
    if isinstance(element, str):
        return element.encode()
    if isinstance(element, bytes):
        return bytes(element)
    raise TypeError(f"elements of type {type(element).__name__}")


def _text(spec: TensorSpec) -> str:
    return f"{spec.datatype.value}{list(spec.shape)}"
