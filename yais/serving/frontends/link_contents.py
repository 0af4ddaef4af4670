"""The contents of several tensors as they go into a message, and back."""

from __future__ import annotations

import collections
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from yais.errors import InvalidArgument
from yais.protocol.tensor_codec import decode_bytes, encode_bytes
from yais.serving.frontends.payload_memory import INLINE, Contents, PayloadReader, PayloadWriter

__all__ = ["get_all", "put_all", "put_together"]


def put_all(
    writer: PayloadWriter, tensors: Iterable[Any], descriptors: list[int]
) -> tuple[Contents | None, ...]:
    """Return the contents of tensors as they go into a message.

    Parameters
    ----------
    tensors
        Bytes, arrays, or for BYTES arrays of elements; None stays None.
    descriptors
        Of the message.

    Raises
    ------
    InvalidArgument, TypeError
        One is nothing of the kind. Nothing is put then.
    """
    wire = [None if each is None else each if type(each) is bytes else _wire(each) for each in tensors]
    return tuple(
        [
            each
            if each is None or (type(each) is bytes and len(each) <= INLINE)
            else writer.put([each], len(each), descriptors)
            for each in wire
        ]
    )


def put_together(
    writer: PayloadWriter, requests: Sequence[Sequence[bytes | memoryview]], descriptors: list[int]
) -> tuple[Contents, ...]:
    """Return the tensors of requests of one form, each input's one after the other; see `put_all`."""
    inputs = zip(*requests, strict=True)
    return tuple([writer.put(list(parts), sum(map(len, parts)), descriptors) for parts in inputs])


def get_all(
    reader: PayloadReader,
    contents: Sequence[Contents | None],
    descriptors: collections.deque[int],
    of_bytes: Collection[int],
) -> list[Any]:
    """Return the tensors whose contents came with a message.

    Parameters
    ----------
    of_bytes
        Which of them are BYTES, and so arrays of elements; the others are bytes or views of memory.

    Raises
    ------
    InvalidArgument
        There are no such contents.
    """
    tensors: list[Any] = [
        each if each is None or type(each) is bytes else reader.get(each, descriptors) for each in contents
    ]
    for index in of_bytes:
        if tensors[index] is not None:
            tensors[index] = decode_bytes(tensors[index])
    return tensors


def _wire(tensor: Any) -> bytes | memoryview:
    if not isinstance(tensor, np.ndarray):
        if not isinstance(tensor, bytes | memoryview):
            raise InvalidArgument(f"got a {type(tensor).__name__}, expected the contents of a tensor")
        return tensor
    if tensor.dtype.hasobject:
        return encode_bytes(tensor.flat)
    flat: Any = np.ascontiguousarray(tensor).reshape(-1).view(np.uint8)
    return memoryview(flat)
