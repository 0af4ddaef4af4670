"""The classification extension: outputs as their top classes (kserve-v2.md, row 31)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from yais.core.tensor import DataType, TensorSpec
from yais.engines.engine import Array
from yais.errors import InvalidArgument
from yais.inference.request import InferResponse, ResponseForm
from yais.protocol.tensor_codec import objects
from yais.repository.repository import LoadedModel

__all__ = ["classify"]

_FLOATS = {DataType.FP32, DataType.FP64}
_TYPES = _FLOATS | {datatype for datatype in DataType if datatype.name.startswith(("INT", "UINT"))}
_MAX_ELEMENTS = 1_000_000  # Triton's number

# From so many elements on, finding the top before sorting it pays (measured on 1,000 floats: 10 us against
# 14; on a million, which block the thread: 6 ms against 120).
_PARTITION_FROM = 1000


def classify(response: InferResponse, classes: Mapping[str, int], loaded: LoadedModel) -> InferResponse:
    """Return a response in which some outputs are replaced by their top classes.

    Each becomes a BYTES tensor of shape [batch, k], or [k] for a model without a batch dimension, with
    elements "value:index" or "value:index:label", highest first, equal values by index.

    Parameters
    ----------
    classes
        For each output to replace, k; no more than there are elements are returned.

    Raises
    ------
    InvalidArgument
        An output is not numeric, or larger than a million elements.
    """
    specs: list[TensorSpec] = []
    contents: list[memoryview | Array] = []
    for spec, data in zip(response.form.outputs, response.data, strict=True):
        if spec.name not in classes:
            specs.append(spec)
            contents.append(data)
            continue
        if spec.datatype not in _TYPES:
            raise InvalidArgument(
                f"class result not available for output due to unsupported type '{spec.datatype.value}'"
            )
        if spec.elements > _MAX_ELEMENTS:
            raise InvalidArgument(f"classification output tensor too large: {spec.elements} elements")
        batch = spec.shape[:1] if loaded.model.signature.max_batch else ()
        rows = np.frombuffer(data, spec.datatype.numpy).reshape(*(batch or (1,)), -1)
        count = min(classes[spec.name], rows.shape[1])
        labels = loaded.labels.get(spec.name, ())
        elements = [text for row in rows for text in _top(row, count, labels, spec.datatype)]
        specs.append(TensorSpec(spec.name, DataType.BYTES, (*batch, count)))
        contents.append(objects(elements))
    form = ResponseForm(response.form.model_name, response.form.model_version, tuple(specs))
    return InferResponse(form, response.id, contents)


def _top(row: Array, count: int, labels: Sequence[str], datatype: DataType) -> list[bytes]:
    texts = []
    for index in _highest(row, count):
        value = f"{row[index]:f}" if datatype in _FLOATS else str(row[index])
        label = f":{labels[index]}" if index < len(labels) and labels[index] else ""
        texts.append(f"{value}:{index}{label}".encode())
    return texts


def _highest(row: Array, count: int) -> Array:
    """Return the indices of the highest values, highest first, equal ones by index; NaN counts as highest."""
    candidates = np.arange(len(row))
    if count < len(row) >= _PARTITION_FROM:
        least = np.partition(row, -count)[-count]
        candidates = np.flatnonzero(~(row < least))
    # Reversed, sorted and read backwards, equal values come by ascending index.
    order = np.argsort(row[candidates][::-1], kind="stable")[::-1][:count]
    highest: Array = candidates[::-1][order]
    return highest
