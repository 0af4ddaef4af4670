"""Inputs that only have to be there: small numbers, or zeros."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from yais.core.tensor import DataType, TensorSpec
from yais.errors import InvalidArgument
from yais.load.input_sizes import Shapes, item_shapes
from yais.protocol.tensor_codec import objects

__all__ = ["Kind", "made_up"]

Array = npt.NDArray[Any]

Kind = Literal["random", "zero"]
"""What made-up tensors hold: small numbers, or zeros."""

_TOO_LARGE = 2 << 30  # bytes; a message of gRPC is smaller

_LETTERS = np.frombuffer(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", np.uint8)


def made_up(
    specs: Sequence[TensorSpec],
    leading: tuple[int, ...] = (),
    shapes: Shapes | None = None,
    kind: Kind = "random",
    *,
    string_length: int | None = None,
    string_data: str | None = None,
    seed: int | None = None,
) -> dict[str, Array]:
    """Make up the inputs of one request.

    Parameters
    ----------
    specs
        The inputs: of one item.
    leading
        Dimensions before those of an item: the batch, or nothing.
    shapes
        Of one item, for inputs with dimensions of any size; such dimensions are 1 by default.
    kind
        Small numbers, or zeros.
    string_length
        Bytes of each element of BYTES; by default small numbers as text.
    string_data
        Each element of BYTES, instead.
    seed
        For the same values each time.

    Returns
    -------
    dict
        Arrays by the name of the input; BF16 as float32.

    Raises
    ------
    InvalidArgument
        The model does not take these shapes, or they are too large.
    """
    random = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}
    wanted = item_shapes(specs, shapes or {})
    for spec in specs:
        shape = (*leading, *wanted[spec.name])
        _check_size(spec, shape, string_length or 1)
        if spec.datatype is not DataType.BYTES:
            arrays[spec.name] = _numbers(random, spec.datatype, shape, kind)
        elif string_data is not None:
            arrays[spec.name] = np.full(shape, string_data.encode(), np.object_)
        else:
            arrays[spec.name] = _texts(random, shape, kind, string_length)
    return arrays


def _check_size(spec: TensorSpec, shape: tuple[int, ...], string_length: int) -> None:
    element = string_length if spec.datatype is DataType.BYTES else spec.datatype.size
    if math.prod(shape) * element >= _TOO_LARGE:
        raise InvalidArgument(
            f"got shape {list(shape)} for {spec.name}: {spec.datatype.value}, expected less than 2 GiB"
        )


def _numbers(random: np.random.Generator, datatype: DataType, shape: tuple[int, ...], kind: Kind) -> Array:
    # Small numbers: valid as indices and tokens of most models, and as elements of every type.
    numeric = np.dtype(np.float32) if datatype is DataType.BF16 else datatype.numpy
    if kind == "zero":
        return np.zeros(shape, numeric)
    if numeric.kind == "f":
        return random.random(shape, np.float32).astype(numeric, copy=False)
    return random.integers(0, 2 if numeric.kind == "b" else 100, shape).astype(numeric)


def _texts(random: np.random.Generator, shape: tuple[int, ...], kind: Kind, length: int | None) -> Array:
    if kind == "zero":
        return np.full(shape, b"0" * (1 if length is None else length), np.object_)
    elements = math.prod(shape)
    if length is None:
        texts = [b"%d" % number for number in random.integers(0, 100, elements)]
    else:
        texts = [row.tobytes() for row in random.choice(_LETTERS, (elements, length))]
    return objects(texts).reshape(shape)
