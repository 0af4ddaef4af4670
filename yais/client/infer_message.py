"""Requests and answers as the protocol's messages."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from yais.client.datatypes import datatype_of
from yais.client.infer_call import InferAnswer, InferCall, InputTensor, SharedTensor, Value, WantedOutput
from yais.core.arrays import converted, numbers, presented
from yais.core.tensor import DataType, TensorSpec
from yais.errors import InvalidArgument
from yais.protocol import kserve_pb2 as pb
from yais.protocol.tensor_codec import decode, objects

__all__ = ["answer_of", "request_of"]

_REGION = "shared_memory_region"


def request_of(call: InferCall) -> pb.ModelInferRequest:
    """Return the message of a request."""
    message = pb.ModelInferRequest(model_name=call.model, model_version=call.version, id=call.id)
    for key, value in call.parameters.items():
        _set(message.parameters[key], value)
    for tensor in call.inputs:
        _add_input(message, tensor)
    for output in call.outputs:
        _add_output(message, output)
    return message


def answer_of(message: pb.ModelInferResponse) -> InferAnswer:
    """Return what a response says.

    Raises
    ------
    InvalidArgument
        Its contents do not fit its description.
    """
    parameters = {key: _value(value) for key, value in message.parameters.items()}
    final = bool(parameters.pop("triton_final_response", True))
    outputs = {}
    for output, data in _contents(message):
        datatype = datatype_of(output.datatype, output.name)
        array = _typed(output, datatype) if data is None else decode(datatype, tuple(output.shape), data)
        outputs[output.name] = presented(array, datatype)
    return InferAnswer(message.model_name, message.model_version, message.id, outputs, parameters, final)


def _contents(message: pb.ModelInferResponse) -> Iterator[tuple[Any, bytes | None]]:
    """Yield the outputs that are not in shared memory, each with its contents; None: they are typed ones."""
    inline = [_REGION not in output.parameters for output in message.outputs]
    contents = message.raw_output_contents
    # Triton says nothing of those in shared memory, or that they are empty.
    if len(contents) == len(inline):
        outputs = zip(message.outputs, contents, strict=True)
        yield from (pair for pair, here in zip(outputs, inline, strict=True) if here)
    elif not contents and all(output.HasField("contents") for output in message.outputs):
        yield from ((output, None) for output in message.outputs)
    elif len(contents) == sum(inline):
        here = (output for output, here in zip(message.outputs, inline, strict=True) if here)
        yield from zip(here, contents, strict=True)
    else:
        raise InvalidArgument(
            f"got {len(contents)} raw contents in the answer of model '{message.model_name}', "
            f"expected one for each of {sum(inline)} outputs"
        )


def _typed(output: Any, datatype: DataType) -> npt.NDArray[Any]:
    """Return the contents of an output that has them as numbers or texts, as the protocol allows."""
    shape, fields = tuple(output.shape), output.contents.ListFields()
    values = list(fields[0][1]) if fields else []
    if len(fields) > 1 or len(values) != math.prod(shape) or min(shape, default=0) < 0:
        got = f"{len(values)} typed contents for output '{output.name}'"
        raise InvalidArgument(f"got {got}, expected those of shape {list(shape)}")
    if datatype is DataType.BYTES:
        flat = objects(values)
    else:
        flat = numbers(values) if values else np.empty(0, datatype.numpy)
    return converted(flat, TensorSpec(output.name, datatype, shape)).reshape(shape)


def _add_input(message: pb.ModelInferRequest, tensor: InputTensor) -> None:
    spec = tensor.spec
    described = message.inputs.add(name=spec.name, datatype=spec.datatype.value, shape=spec.shape)
    if isinstance(tensor.data, SharedTensor):
        _place(described.parameters, tensor.data)
    else:
        message.raw_input_contents.append(bytes(tensor.data))


def _add_output(message: pb.ModelInferRequest, output: WantedOutput) -> None:
    described = message.outputs.add(name=output.name)
    if output.classes:
        described.parameters["classification"].int64_param = output.classes
    if output.shared is not None:
        _place(described.parameters, output.shared)


def _place(parameters: Any, shared: SharedTensor) -> None:
    parameters[_REGION].string_param = shared.region
    parameters["shared_memory_byte_size"].int64_param = shared.byte_size
    if shared.offset:
        parameters["shared_memory_offset"].int64_param = shared.offset


def _set(parameter: Any, value: Value) -> None:
    match value:
        case bool():
            parameter.bool_param = value
        case int():
            parameter.int64_param = value
        case float():
            parameter.double_param = value
        case str():
            parameter.string_param = value


def _value(parameter: Any) -> Any:
    choice = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, choice) if choice else None
