"""Requests and answers as bodies over HTTP: JSON, and binary tensors behind it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from yais.client.http_connection import HttpReply
from yais.client.infer_call import InferAnswer, InferCall, InputTensor, SharedTensor, WantedOutput
from yais.core.arrays import converted, numbers, presented
from yais.core.tensor import DataType, TensorSpec
from yais.errors import Code, InvalidArgument
from yais.protocol.tensor_codec import decode

__all__ = ["HEADER_LENGTH", "answer_of_reply", "body_of", "infer_path", "model_path", "status_of_reply"]

HEADER_LENGTH = "Inference-Header-Content-Length"
"""Header that says how many bytes of a body are JSON; binary tensors follow."""

_KEY = HEADER_LENGTH.lower().encode()

_CODES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    405: Code.UNIMPLEMENTED,
    408: Code.DEADLINE_EXCEEDED,
    409: Code.ALREADY_EXISTS,
    413: Code.RESOURCE_EXHAUSTED,
    429: Code.RESOURCE_EXHAUSTED,
    499: Code.CANCELLED,
    500: Code.INTERNAL,
    501: Code.UNIMPLEMENTED,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}


def model_path(name: str, version: str) -> str:
    """Return where a model, or one version of it, is found."""
    path = f"/v2/models/{quote(name, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path


def infer_path(call: InferCall) -> str:
    """Return where a request goes."""
    return f"{model_path(call.model, call.version)}/infer"


def body_of(call: InferCall) -> tuple[bytes, int]:
    """Return the body of a request, and how much of it is JSON."""
    parameters = dict(call.parameters)
    if not call.outputs:
        parameters["binary_data_output"] = True
    header: dict[str, Any] = {"id": call.id} if call.id else {}
    if parameters:
        header["parameters"] = parameters
    header["inputs"] = [_input(tensor) for tensor in call.inputs]
    if call.outputs:
        header["outputs"] = [_output(output) for output in call.outputs]
    text = json.dumps(header, separators=(",", ":")).encode()
    tail = [tensor.data for tensor in call.inputs if not isinstance(tensor.data, SharedTensor)]
    return b"".join((text, *tail)), len(text)


def status_of_reply(reply: HttpReply) -> tuple[Code, str]:
    """Return the status that a response means, and the text of an error."""
    if reply.status == 200:
        return Code.OK, ""
    text = reply.body.decode(errors="replace").strip()
    try:
        said = json.loads(text)["error"]
    except (ValueError, TypeError, KeyError):
        said = text[:1000] or f"got HTTP status {reply.status}"
    return _CODES.get(reply.status, Code.UNKNOWN), str(said)


def answer_of_reply(reply: HttpReply) -> InferAnswer:
    """Return what a response says.

    Raises
    ------
    InvalidArgument
        It is no inference response.
    """
    try:
        length = int(reply.headers.get(_KEY, len(reply.body)))
        header = json.loads(reply.body[:length])
        outputs, position = {}, length
        for output in header["outputs"]:
            name = output["name"]
            size = output.get("parameters", {}).get("binary_data_size")
            if size is None and "data" not in output:  # it is in shared memory
                continue
            size = size or 0
            tail = memoryview(reply.body)[position : position + size]
            position += size
            outputs[name] = _array(output, tail)
        return InferAnswer(
            header["model_name"],
            header.get("model_version", ""),
            header.get("id", ""),
            outputs,
            header.get("parameters", {}),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidArgument(
            f"got an answer that is no inference response over HTTP: {type(error).__name__}: {error}"
        ) from None


def _input(tensor: InputTensor) -> dict[str, Any]:
    spec = tensor.spec
    if isinstance(tensor.data, SharedTensor):
        parameters = _place(tensor.data)
    else:
        parameters = {"binary_data_size": len(tensor.data)}
    return {
        "name": spec.name,
        "shape": list(spec.shape),
        "datatype": spec.datatype.value,
        "parameters": parameters,
    }


def _output(output: WantedOutput) -> dict[str, Any]:
    parameters: dict[str, Any] = {"classification": output.classes} if output.classes else {}
    if output.shared is not None:
        parameters.update(_place(output.shared))
    else:
        parameters["binary_data"] = True
    return {"name": output.name, "parameters": parameters}


def _place(shared: SharedTensor) -> dict[str, Any]:
    place = {"shared_memory_region": shared.region, "shared_memory_byte_size": shared.byte_size}
    return {**place, "shared_memory_offset": shared.offset} if shared.offset else place


def _array(output: dict[str, Any], tail: memoryview) -> npt.NDArray[Any]:
    datatype, shape = DataType(output["datatype"]), tuple(output["shape"])
    if "data" not in output:
        return presented(decode(datatype, shape, tail), datatype)
    data = output["data"]
    flat = np.array(data, object) if datatype is DataType.BYTES else numbers(data)
    flat = flat.reshape(shape)
    return presented(converted(flat, TensorSpec(output["name"], datatype, shape)), datatype)
