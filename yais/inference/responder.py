"""The outputs of a batch as the responses to its requests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from yais.core.tensor import TensorSpec
from yais.engines.engine import Array
from yais.errors import Internal
from yais.inference.job import Job
from yais.inference.layout import Layout, Signature
from yais.inference.request import InferResponse, ResponseForm

__all__ = ["Responder"]

_MAX_FORMS = 1024  # response forms kept per model; a request may ask for any of them

Shapes = tuple[tuple[int, ...], ...]


class Responder:
    """Cuts the outputs of one version of a model into responses. Thread-safe.

    Parameters
    ----------
    signature
        What the model gives.
    version
        As it stands in responses.
    """

    def __init__(self, signature: Signature, version: str) -> None:
        self._signature = signature
        self._version = version
        self._nothing = ResponseForm(signature.name, version, ())
        self._forms: dict[tuple[Layout, Shapes], ResponseForm] = {}

    def checked(self, outputs: Sequence[Array], size: int) -> list[Array]:
        """Return outputs as they can be cut: of their types, contiguous, with one row per item.

        Raises
        ------
        Internal
            They are not what the model said of itself.
        """
        expected = self._signature.outputs
        if len(outputs) != len(expected):
            name = self._signature.name
            raise Internal(f"model '{name}' returned {len(outputs)} outputs, expected {len(expected)}")
        return [self._checked(spec, array, size) for spec, array in zip(expected, outputs, strict=True)]

    def _checked(self, spec: TensorSpec, array: Array, size: int) -> Array:
        signature = self._signature
        if signature.max_batch and (not array.ndim or array.shape[0] != size):
            raise Internal(
                f"model '{signature.name}' returned output '{spec.name}' of shape {list(array.shape)} "
                f"for a batch of {size}"
            )
        if array.dtype != spec.datatype.numpy:
            raise Internal(
                f"model '{signature.name}' returned output '{spec.name}' of type {array.dtype}, "
                f"expected {spec.datatype.numpy}"
            )
        return array if array.flags.c_contiguous else np.ascontiguousarray(array)

    def responses(self, jobs: Sequence[Job], outputs: Sequence[Array]) -> list[InferResponse]:
        """Return the response to each request of a batch: views of its checked outputs."""
        batching = bool(self._signature.max_batch)
        shapes = tuple([array.shape[1:] if batching else array.shape for array in outputs])
        contents: list[memoryview | Array] | None = None  # as bytes, if anybody wants them
        responses = []
        offset = 0
        for job in jobs:
            end = offset + job.size
            data: list[memoryview | Array]
            if job.request.arrays:
                data = [
                    outputs[index][offset:end] if batching else outputs[index] for index in job.layout.outputs
                ]
            else:
                contents = contents or [_contents(array) for array in outputs]
                data = [
                    _slice(contents[index], outputs[index], offset, end) if batching else contents[index]
                    for index in job.layout.outputs
                ]
            responses.append(InferResponse(self._form(job, shapes), job.request.id, data))
            offset = end
        return responses

    def nothing(self, job: Job) -> InferResponse:
        """Return a response without outputs: the end of several."""
        return InferResponse(self._nothing, job.request.id, ())

    def _form(self, job: Job, shapes: Shapes) -> ResponseForm:
        key = (job.layout, shapes)
        form = self._forms.get(key)
        if form is None:
            if len(self._forms) >= _MAX_FORMS:
                self._forms.clear()
            batch = (job.size,) if self._signature.max_batch else ()
            outputs = [(self._signature.outputs[index], shapes[index]) for index in job.layout.outputs]
            specs = tuple(TensorSpec(spec.name, spec.datatype, (*batch, *shape)) for spec, shape in outputs)
            form = self._forms[key] = ResponseForm(self._signature.name, self._version, specs)
        return form


def _slice(contents: memoryview | Array, array: Array, offset: int, end: int) -> memoryview | Array:
    row = len(contents) // array.shape[0]
    return contents[offset * row : end * row]


def _contents(array: Array) -> memoryview | Array:
    """Return an output's bytes, or its elements if it is one of BYTES."""
    if array.dtype.hasobject:
        return array.reshape(-1)
    # memoryview refuses to cast what has no elements.
    return memoryview(array).cast("B") if array.size else memoryview(b"")  # type: ignore[arg-type]
