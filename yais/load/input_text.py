"""Inputs as people write them on a command line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yais.core.arrays import numbers
from yais.core.tensor import DataType, TensorSpec
from yais.errors import InvalidArgument
from yais.load.input_file import read_array
from yais.load.inputs import ModelInputs
from yais.protocol.tensor_codec import objects

__all__ = ["parse_input"]

Array = npt.NDArray[Any]

_FORMS = "NAME=1,2,3, NAME=[[1,2],[3,4]], NAME=@FILE.npy or NAME=@FILE"
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}


def parse_input(text: str, inputs: ModelInputs) -> tuple[str, Array]:
    """Return the name and the values of an input, as `from_arrays` takes them.

    Parameters
    ----------
    text
        "NAME=1,2,3": the elements in row-major order; "NAME=[[1,2],[3,4]]": JSON, with the shape;
        "NAME=@FILE.npy": an array of numpy; "NAME=@FILE": the elements of any other file, as they lie in
        memory, or all of it as the one element of an input of BYTES.

    Raises
    ------
    InvalidArgument
        This is none of those, the model has no such input, or it has another number of elements.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidArgument(f"got input {text!r}, expected {_FORMS}")
    known = {spec.name: spec for spec in inputs.specs}
    spec = known.get(name)
    if spec is None:
        raise InvalidArgument(
            f"got an input '{name}' for model '{inputs.model}', expected {', '.join(known) or 'none'}"
        )
    if value.startswith("@"):
        return name, _read(Path(value[1:]), spec, inputs.max_batch_size)
    if value.startswith("["):
        return name, _nested(value, spec)
    return name, _shaped(_elements(value, spec), spec, inputs.max_batch_size)


def _read(path: Path, spec: TensorSpec, limit: int) -> Array:
    array = read_array(path, spec)
    return array if path.suffix == ".npy" else _shaped(array, spec, limit)


def _nested(text: str, spec: TensorSpec) -> Array:
    try:
        values = json.loads(text)
        return np.asarray(values, np.object_) if spec.datatype is DataType.BYTES else numbers(values)
    except (ValueError, RecursionError) as error:  # no JSON, or lists of different lengths, or too deep
        raise InvalidArgument(f"input '{spec.name}': {error}") from None


def _elements(text: str, spec: TensorSpec) -> Array:
    parts = text.split(",")
    if spec.datatype is DataType.BYTES:
        return objects([part.encode() for part in parts])
    try:
        if spec.datatype is DataType.BOOL:
            return np.asarray([_TRUTHS[part.strip().lower()] for part in parts])
        whole = spec.datatype.numpy.kind in "iu" and spec.datatype is not DataType.BF16
        array = numbers([int(part) if whole else float(part) for part in parts])
        if array.dtype != np.object_:  # numpy's type for whole numbers beyond 64 bits
            return array
    except (KeyError, ValueError):
        pass
    raise InvalidArgument(
        f"got '{text}' for input '{spec.name}', expected {spec.datatype.value} values and commas"
    )


def _shaped(elements: Array, spec: TensorSpec, limit: int) -> Array:
    """Return elements in the shape of a tensor, with a batch where they are enough for several items."""
    free = spec.shape.count(-1)
    number, unit = elements.size, math.prod(size for size in spec.shape if size >= 0)
    if free > 1 and number != unit:
        raise InvalidArgument(
            f"got {number} elements for input '{spec.name}' of shape {list(spec.shape)}, "
            "expected nested lists or a .npy file"
        )
    if number == unit:
        return elements.reshape([1 if size < 0 else size for size in spec.shape])
    if unit and number % unit == 0 and (free or limit):
        return elements.reshape(spec.shape if free else (-1, *spec.shape))
    several = ", or that for each item of a batch" if limit else ""
    raise InvalidArgument(
        f"got {number} elements for input '{spec.name}', expected {'a multiple of ' * bool(free)}{unit}"
        f"{'' if free else several}"
    )
