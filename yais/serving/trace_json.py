"""Traces as Triton writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from yais.core.tensor import DataType
from yais.inference.request_trace import BatchMoments
from yais.serving.call_trace import CallTrace, RequestRecord, TracedTensor

__all__ = ["batch_events", "rendered"]


def rendered(call: CallTrace) -> str:
    """Return the elements of a trace file's array for a call: its requests, and their moments in order."""
    parts = []
    for index, record in enumerate(call.records):
        parts.append(_head(record))
        moments = list(record.moments)
        if not index:
            moments += call.moments
        for batch in record.batches:
            moments += batch_events(batch)
        moments.sort(key=lambda moment: moment[1])
        parts += [_dumped({"id": record.id, "timestamps": [{"name": n, "ns": at}]}) for n, at in moments]
        parts += [_tensor(record.id, tensor) for tensor in record.tensors]
    return ",".join(parts)


def batch_events(batch: BatchMoments) -> Iterator[tuple[str, int]]:
    """Return the moments of a batch by Triton's names, without those that it did not reach."""
    named = (
        ("COMPUTE_START", batch.start),
        ("COMPUTE_INPUT_END", batch.input_end),
        ("COMPUTE_OUTPUT_START", batch.output_start),
        ("COMPUTE_END", batch.end),
    )
    return ((name, at) for name, at in named if at)


def _head(record: RequestRecord) -> str:
    head: dict[str, Any] = {
        "id": record.id,
        "model_name": record.model,
        "model_version": int(record.version) if record.version.isdecimal() else record.version,
    }
    if record.request_id:
        head["request_id"] = record.request_id
    if record.parent:
        head["parent_id"] = record.parent
    return _dumped(head)


def _tensor(of: int, tensor: TracedTensor) -> str:
    spec = tensor.spec
    said = {
        "name": spec.name,
        "data": ",".join(_elements(tensor)),
        "shape": ",".join(map(str, spec.shape)),
        "dtype": spec.datatype.value,
    }
    return _dumped({"id": of, "activity": tensor.activity, "tensor": said})


def _elements(tensor: TracedTensor) -> Iterator[str]:
    spec, contents = tensor.spec, tensor.contents
    if isinstance(contents, np.ndarray):
        flat = contents.reshape(-1)
    else:  # of any size, where the request was refused for it
        size = spec.datatype.size
        flat = np.frombuffer(contents[: len(contents) // size * size], spec.datatype.numpy)
    if spec.datatype is DataType.BYTES:
        return (f'"{bytes(element).decode(errors="backslashreplace")}"' for element in flat)
    if spec.datatype is DataType.BOOL:
        flat = flat.astype(np.uint8)
    elif spec.datatype is DataType.BF16:
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return map(str, flat)


def _dumped(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
