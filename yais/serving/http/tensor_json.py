"""Tensors in JSON: nested or flat lists to their contents, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from yais.core.tensor import DataType, TensorSpec
from yais.engines.engine import Array
from yais.errors import Internal, InvalidArgument
from yais.protocol.infer_request import TensorData
from yais.protocol.tensor_codec import encode as encode_array
from yais.protocol.tensor_codec import objects
from yais.serving.http.json_text import PIECE, dump_json

__all__ = ["decode", "encode", "encode_text"]

_NO_JSON = {DataType.FP16, DataType.BF16}


def decode(spec: TensorSpec, data: Any) -> TensorData:
    """Return the contents of an input.

    Parameters
    ----------
    spec
        With a concrete shape.
    data
        Its elements in row-major order, in lists nested in any way: numbers, true and false for BOOL, strings
        for BYTES, which are encoded as UTF-8. A number that FP32 cannot hold becomes infinite.

    Raises
    ------
    InvalidArgument
        There are more or fewer elements than the shape says, one is of another type or does not fit, or the
        type does not travel as JSON. How many BYTES there are is not checked.
    """
    datatype = spec.datatype
    if datatype in _NO_JSON:
        raise InvalidArgument(
            f"receiving {datatype.value} data via JSON is not supported. Please use the binary data format "
            f"for input {spec.name}"
        )
    if not isinstance(data, list):
        raise _unreadable("attempt to access JSON non-array as array")
    elements = _flat(data)
    if datatype is DataType.BYTES:
        return _texts(elements)
    if len(elements) != spec.elements:
        raise _unreadable("Shape does not match true shape of 'data' field")
    return _numbers(datatype, elements)


def _flat(data: list[Any]) -> list[Any]:
    while list in (kinds := _kinds(data)):
        if len(kinds) == 1:
            data = list(chain.from_iterable(data))
        else:
            data = list(chain.from_iterable(each if isinstance(each, list) else (each,) for each in data))
    return data


def _kinds(elements: list[Any]) -> set[type]:
    return set().union(*(map(type, piece) for piece in _pieces(elements)))


def _pieces(elements: Sequence[Any] | Array) -> Iterator[Any]:
    return (elements[start : start + PIECE] for start in range(0, len(elements), PIECE))


def _texts(elements: list[Any]) -> Array:
    if not _kinds(elements) <= {str}:
        raise InvalidArgument("Unable to parse JSON bytes array: attempt to access JSON non-string as string")
    try:
        return objects([text.encode() for text in elements])
    except UnicodeEncodeError:
        raise _unreadable("got text with half of a surrogate pair, expected Unicode") from None


# What elements may be, and what Triton calls that.
_EXPECTED: Mapping[str, tuple[frozenset[type], str]] = {
    "b": (frozenset({bool}), "boolean"),
    "i": (frozenset({int}), "signed-integer"),
    "u": (frozenset({int}), "unsigned-integer"),
    "f": (frozenset({int, float}), "number"),
}


def _numbers(datatype: DataType, elements: list[Any]) -> TensorData:
    dtype = datatype.numpy
    kinds, name = _EXPECTED[dtype.kind]
    if not _kinds(elements) <= kinds or (dtype.kind == "u" and min(elements, default=0) < 0):
        raise _unreadable(f"attempt to access JSON non-{name} as {name}")
    try:
        with np.errstate(over="ignore"):
            parts: list[Array] = [np.array(piece, dtype) for piece in _pieces(elements)]
    except OverflowError as error:
        raise _unreadable(str(error)) from None
    return encode_array(parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, dtype), *parts]))


def _unreadable(reason: str) -> InvalidArgument:
    return InvalidArgument(f"Unable to parse 'data': {reason}")


def encode(spec: TensorSpec, contents: memoryview | Array) -> list[Any]:
    """Return the elements of an output, flat, as `json.dumps` takes them.

    Parameters
    ----------
    contents
        Row-major little-endian bytes, or for BYTES an array of `bytes`.

    Raises
    ------
    InvalidArgument
        The type does not travel as JSON, or BYTES are no UTF-8.
    """
    return _plain(spec, _elements(spec, contents))


def encode_text(spec: TensorSpec, contents: memoryview | Array) -> bytes:
    """Return the same as JSON. However large, other threads are not kept from running for long."""
    pieces = _pieces(_elements(spec, contents))
    return b"[" + b",".join([dump_json(_plain(spec, piece))[1:-1] for piece in pieces]) + b"]"


def _elements(spec: TensorSpec, contents: memoryview | Array) -> Array:
    datatype = spec.datatype
    if datatype in _NO_JSON:
        raise InvalidArgument(
            f"sending {datatype.value} data via JSON is not supported. Please use the binary data format "
            f"for output {spec.name}"
        )
    if datatype is not DataType.BYTES:
        numbers: Array = np.frombuffer(contents, datatype.numpy)
        return numbers
    if isinstance(contents, memoryview):
        raise Internal(f"output '{spec.name}' is BYTES, and its contents are no elements")
    texts: Array = contents.ravel()
    return texts


def _plain(spec: TensorSpec, elements: Array) -> list[Any]:
    values: list[Any] = elements.tolist()
    if spec.datatype is not DataType.BYTES:
        return values
    try:
        return [text if isinstance(text, str) else text.decode() for text in values]
    except UnicodeDecodeError:
        raise InvalidArgument(
            f"output '{spec.name}' holds bytes that are no UTF-8 text, which JSON cannot carry. Please use "
            "the binary data format"
        ) from None
