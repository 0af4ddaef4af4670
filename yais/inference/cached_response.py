"""Responses as they are kept: in memory of their own that nobody can change."""

from __future__ import annotations

import numpy as np

from yais.core.tensor import TensorSpec
from yais.engines.engine import Array
from yais.inference.request import InferRequest, InferResponse

__all__ = ["CachedResponse", "cached_size"]

# What is kept beside contents, in bytes: for a response with its key, for an output, and for an element of
# BYTES. Measured with tracemalloc, for responses of forms of their own, and rounded up.
_RESPONSE, _OUTPUT, _ELEMENT = 512, 224, 48

_Elements = tuple[bytes, ...]


class CachedResponse:
    """A copy of a response, without its id. Thread-safe.

    Parameters
    ----------
    response
        Only read now.
    """

    __slots__ = ("_contents", "_form", "size")

    def __init__(self, response: InferResponse) -> None:
        self._form = response.form
        self._contents = tuple(map(_copied, response.data))
        self.size = cached_size(response)
        """Bytes it takes, all that is kept with it included."""

    def response(self, request: InferRequest) -> InferResponse:
        """Return the answer to a request: read-only views of what is kept, for BYTES arrays of its own."""
        form = _shaped if request.arrays else _plain
        kept = zip(self._form.outputs, self._contents, strict=True)
        return InferResponse(self._form, request.id, [form(spec, contents) for spec, contents in kept])


def cached_size(response: InferResponse) -> int:
    """Return the `CachedResponse.size` of a response."""
    return _RESPONSE + sum(_OUTPUT + _size(data) for data in response.data)


def _size(data: memoryview | Array) -> int:
    if isinstance(data, np.ndarray) and data.dtype.hasobject:
        return sum(_ELEMENT + len(element) for element in data.flat)
    return data.nbytes


def _copied(data: memoryview | Array) -> bytes | _Elements:
    if isinstance(data, np.ndarray) and data.dtype.hasobject:
        return tuple(data.flat)
    return data.tobytes()


def _shaped(spec: TensorSpec, contents: bytes | _Elements) -> Array:
    if isinstance(contents, tuple):
        return _elements(contents).reshape(spec.shape)
    return np.ndarray(spec.shape, spec.datatype.numpy, contents)


def _plain(spec: TensorSpec, contents: bytes | _Elements) -> memoryview | Array:  # noqa: ARG001 - as above
    return _elements(contents) if isinstance(contents, tuple) else memoryview(contents)


def _elements(contents: _Elements) -> Array:
    array = np.empty(len(contents), np.object_)
    array[:] = contents
    return array
