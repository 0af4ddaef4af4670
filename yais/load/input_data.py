"""Inputs from files, in the forms that perf_analyzer's `--input-data` takes."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yais.client.infer_call import InputTensor
from yais.core.arrays import presented
from yais.core.tensor import DataType, TensorSpec
from yais.errors import InvalidArgument
from yais.load.input_sizes import Shapes, check_batch, item_shapes
from yais.load.inputs import ModelInputs, from_arrays
from yais.protocol.tensor_codec import decode, objects

__all__ = ["read_input_data"]

Array = npt.NDArray[Any]


def read_input_data(
    path: Path, inputs: ModelInputs, batch: int = 1, shapes: Shapes | None = None
) -> list[tuple[InputTensor, ...]]:
    """Return the requests that a file or a directory describes.

    Parameters
    ----------
    path
        A JSON file, {"data": [{"INPUT0": [1, 2, 3], ...}, ...]}: an object for each item, with the elements
        of each input in row-major order, or {"content": [...], "shape": [...]}, or {"b64": "..."} for those
        of its memory. Or a directory with a file for each input, of its name: its memory, or a line of text
        for each element of BYTES.
    batch
        Items of each request: the n-th starts with the n-th item, and the last are followed by the first.
    shapes
        Of one item, for inputs with dimensions of any size, where the file says none.

    Raises
    ------
    InvalidArgument
        There is no such file, it is not of this form, or the model does not take what it holds.
    """
    check_batch(inputs.model, batch, inputs.max_batch_size)
    chosen = item_shapes(inputs.specs, shapes or {})
    try:
        items = _directory(path, inputs, chosen) if path.is_dir() else _file(path, inputs, chosen)
    except OSError as error:
        raise InvalidArgument(f"{error.filename}: {error.strerror}") from None
    return [
        _request(path, inputs, [items[(first + offset) % len(items)] for offset in range(batch)])
        for first in range(len(items))
    ]


def _request(
    path: Path, inputs: ModelInputs, items: Sequence[Mapping[str, Array]]
) -> tuple[InputTensor, ...]:
    if not inputs.max_batch_size:
        return from_arrays(inputs, items[0])
    try:
        return from_arrays(inputs, {name: np.stack([item[name] for item in items]) for name in items[0]})
    except (KeyError, ValueError):
        raise InvalidArgument(f"got items of different shapes in {path}, expected one for a batch") from None


def _directory(path: Path, inputs: ModelInputs, shapes: Shapes) -> list[dict[str, Array]]:
    known = {spec.name: spec for spec in inputs.specs}
    names = sorted(file.name for file in path.iterdir())
    for name in names:
        if name not in known:
            raise InvalidArgument(f"got {path / name}, expected only files named {', '.join(known)}")
    item = {}
    for name in names:
        spec, data = TensorSpec(name, known[name].datatype, shapes[name]), (path / name).read_bytes()
        if spec.datatype is DataType.BYTES:
            item[name] = _shaped(objects(data.splitlines()), spec)
        else:
            item[name] = _memory(data, spec)
    return [item]


def _file(path: Path, inputs: ModelInputs, shapes: Shapes) -> list[dict[str, Array]]:
    try:
        described = json.loads(path.read_bytes())
    except ValueError as error:
        raise InvalidArgument(f"{path}: {error}") from None
    data = described.get("data") if isinstance(described, dict) else None
    if not isinstance(data, list) or not data:
        raise InvalidArgument(f'got {path} without items, expected {{"data": [{{...}}, ...]}}')
    if "validation_data" in described:
        raise InvalidArgument(f"got 'validation_data' in {path}, expected none: outputs are not validated")
    items = []
    for number, item in enumerate(data):
        if isinstance(item, list):
            raise InvalidArgument(
                f"got a stream of a sequence as item {number} of {path}, expected an object"
            )
        try:
            items.append(_item(item, inputs, shapes))
        except InvalidArgument as error:
            raise InvalidArgument(f"item {number} of {path}: {error}") from None
    return items


def _item(item: Any, inputs: ModelInputs, shapes: Shapes) -> dict[str, Array]:
    known = {spec.name: spec for spec in inputs.specs}
    if not isinstance(item, dict):
        raise InvalidArgument(f"got {json.dumps(item)}, expected an object with the inputs")
    arrays = {}
    for name, value in item.items():
        if name not in known:
            raise InvalidArgument(f"got an input '{name}', expected {', '.join(known)}")
        arrays[name] = _tensor(value, known[name], shapes[name])
    from_arrays(inputs, arrays)
    return arrays


def _tensor(value: Any, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    content = value
    if isinstance(value, dict):
        shape = _shape(value.get("shape", list(shape)), spec)
        content = value if "b64" in value else value.get("content")
    spec = TensorSpec(spec.name, spec.datatype, shape)
    match content:
        case list():
            return _shaped(_values(content, spec), spec)
        case {"b64": str(text)}:
            try:
                return _memory(base64.b64decode(text, validate=True), spec)
            except ValueError as error:
                raise InvalidArgument(f"input '{spec.name}': {error}") from None
    raise InvalidArgument(f"input '{spec.name}': expected an array, 'content' or 'b64'")


def _shape(value: Any, spec: TensorSpec) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(isinstance(size, int) and size >= 0 for size in value):
        raise InvalidArgument(f"input '{spec.name}': got shape {json.dumps(value)}, expected a list of sizes")
    return tuple(value)


def _values(content: Sequence[Any], spec: TensorSpec) -> Array:
    try:
        return np.asarray(content, np.object_ if spec.datatype is DataType.BYTES else None).ravel()
    except ValueError as error:  # lists of different lengths
        raise InvalidArgument(f"input '{spec.name}': {error}") from None


def _memory(data: bytes, spec: TensorSpec) -> Array:
    try:
        return presented(decode(spec.datatype, spec.shape, data), spec.datatype)
    except InvalidArgument as error:
        raise InvalidArgument(f"input '{spec.name}': {error}") from None


def _shaped(elements: Array, spec: TensorSpec) -> Array:
    if elements.size != math.prod(spec.shape):
        raise InvalidArgument(
            f"got {elements.size} elements for input '{spec.name}' of shape {list(spec.shape)}, "
            f"expected {math.prod(spec.shape)}"
        )
    return elements.reshape(spec.shape)
