"""Inference responses as HTTP bodies: JSON, and binary tensors behind it.

What responses of one form have in common is JSON once: where every output is binary and of fixed size, only
the id and the contents are added.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from yais.core.tensor import TensorSpec
from yais.engines.engine import Array
from yais.inference.request import InferResponse, ResponseForm
from yais.protocol.tensor_codec import encode_bytes
from yais.serving.http.infer_header import BinaryOutputs
from yais.serving.http.json_text import dump_json
from yais.serving.http.tensor_json import encode_text

__all__ = ["encode_reply"]

_MAX_HEADS = 4096  # kept

# For each form and the outputs in binary: what follows the id, where that is always the same.
_heads: dict[tuple[ResponseForm, BinaryOutputs], bytes] = {}

Contents = memoryview | Array


def encode_reply(response: InferResponse, binary: BinaryOutputs) -> tuple[bytes, int | None]:
    """Return the body of a response, and how many bytes of it are JSON if binary outputs follow.

    Parameters
    ----------
    binary
        The outputs to return in binary.

    Raises
    ------
    InvalidArgument
        An output cannot be returned in JSON.
    """
    form = response.form
    head = _heads.get((form, binary))
    if head is not None:
        tail: list[bytes | memoryview] = [_wire(contents) for contents in response.data]
    else:
        head, tail = _described(response, binary)
    start = b'{"id":' + json.dumps(response.id).encode() + b"," if response.id else b"{"
    if not tail:
        return start + head, None
    return b"".join((start, head, *tail)), len(start) + len(head)


def _wire(contents: Contents) -> bytes | memoryview:
    return contents if isinstance(contents, memoryview) else encode_bytes(contents.ravel())


def _described(response: InferResponse, binary: BinaryOutputs) -> tuple[bytes, list[bytes | memoryview]]:
    """Return the JSON without its first fields, and the contents that follow it."""
    form = response.form
    outputs: list[bytes] = []
    tail: list[bytes | memoryview] = []
    for spec, contents in zip(form.outputs, response.data, strict=True):
        output: dict[str, Any] = {
            "name": spec.name,
            "datatype": spec.datatype.value,
            "shape": spec.shape,
        }
        data = b""
        if spec.name in form.parameters:
            pass  # it is in shared memory; Triton's C++ client takes any parameters here for binary data
        elif binary is None or spec.name in binary:
            wire = _wire(contents)
            output["parameters"] = {"binary_data_size": len(wire)}
            tail.append(wire)
        else:
            data = b',"data":' + encode_text(spec, contents)
        outputs.append(dump_json(output)[:-1] + data + b"}")
    model = dump_json({"model_name": form.model_name, "model_version": form.model_version})
    head = model[1:-1] + b',"outputs":[' + b",".join(outputs) + b"]}"
    if len(tail) == len(outputs) and _fixed(form.outputs, form.parameters):
        if len(_heads) >= _MAX_HEADS:
            _heads.clear()
        _heads[form, binary] = head
    return head, tail


def _fixed(outputs: Sequence[TensorSpec], parameters: Mapping[str, object]) -> bool:
    return not parameters and all(spec.datatype.size for spec in outputs)
