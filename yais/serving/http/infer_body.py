"""Inference requests from their bodies: JSON, JSON with binary tensors behind it, or one bare tensor."""

from __future__ import annotations

from yais.core.tensor import DataType, TensorSpec
from yais.errors import InvalidArgument
from yais.inference.layout import Signature
from yais.protocol.infer_request import InferMessage, InputHeader, TensorData, bytes_elements
from yais.protocol.tensor_codec import objects
from yais.serving.http.infer_header import ALL_BINARY, BinaryOutputs, infer_header

__all__ = ["decode_infer", "decode_raw", "header_length"]

_COPY_BELOW = 4096  # bytes; a small slice is cheaper to copy than to view


def header_length(value: bytes, size: int) -> int:
    """Return what an Inference-Header-Content-Length says.

    Parameters
    ----------
    size
        Bytes of the body, decompressed.

    Raises
    ------
    InvalidArgument
        It is no number, or more than the body has.
    """
    text = value.strip()
    # More digits than any length has are not worth reading.
    length = int(text) if text.isdigit() and len(text) < 20 else -1
    if not 0 <= length <= size:
        raise InvalidArgument(
            f"inference header size should be in range (0, {size}), got: {value.decode('latin-1')}"
        )
    return length


def decode_infer(body: bytes, length: int, model: str, version: str) -> tuple[InferMessage, BinaryOutputs]:
    """Return a request, and which of its outputs are returned in binary.

    Binary inputs are views of the body.

    Parameters
    ----------
    length
        Bytes of the body that are JSON; the rest are binary tensors.

    Raises
    ------
    InvalidArgument
        It is no inference request.
    """
    header, request_id = infer_header(body if length == len(body) else body[:length])
    data: list[TensorData | None] = []
    position, end = length, len(body)
    for described, contents in zip(header.inputs, header.contents, strict=True):
        if not isinstance(contents, int):
            data.append(contents)
            continue
        spec, start = described.spec, position
        position += contents
        if position > end:
            raise InvalidArgument(
                f"unexpected size for input '{spec.name}', expecting {position - end} additional bytes "
                f"for model '{model}'"
            )
        whole: bytes | memoryview = body if contents < _COPY_BELOW else memoryview(body)
        part = whole[start:position]
        data.append(part if spec.datatype.size else bytes_elements(spec, part, model))
    if position != end:
        raise InvalidArgument(f"unexpected additional input data for model '{model}'")
    message = InferMessage(
        model_name=model,
        model_version=version,
        id=request_id,
        parameters=header.parameters,
        inputs=header.inputs,
        outputs=header.outputs,
        data=data,
        repeats=header.repeats,
    )
    return message, header.binary


def decode_raw(
    body: bytes, signature: Signature, model: str, version: str
) -> tuple[InferMessage, BinaryOutputs]:
    """Return a request whose body is the contents of the only input, and nothing else.

    Its shape follows from the model and the number of bytes; a batch has one element, and so has BYTES: the
    whole body.

    Raises
    ------
    InvalidArgument
        The model has several inputs, or one whose shape does not follow.
    """
    if len(signature.inputs) != 1:
        raise InvalidArgument(
            "Raw request must only have 1 input (found 1) to be deduced but got "
            f"{len(signature.inputs)} inputs in '{model}' model configuration"
        )
    (spec,) = signature.inputs
    shape = _raw_shape(spec, len(body))
    concrete = TensorSpec(spec.name, spec.datatype, (1, *shape) if signature.max_batch else shape)
    contents: TensorData = body if spec.datatype.size else objects([body])
    message = InferMessage(
        model_name=model,
        model_version=version,
        inputs=(InputHeader(concrete, {}),),
        data=[contents],
        repeats=False,
    )
    return message, ALL_BINARY


def _raw_shape(spec: TensorSpec, size: int) -> tuple[int, ...]:
    if spec.datatype is DataType.BYTES:
        if spec.shape not in {(1,), (-1,)}:
            raise InvalidArgument(
                f"For BYTE datatype raw input '{spec.name}', the model must have input shape [1]"
            )
        return (1,)
    if spec.shape.count(-1) > 1:
        raise InvalidArgument(
            f"The shape of the raw input '{spec.name}' can not be deduced because there are more than one "
            "variable-sized dimension"
        )
    # With one -1, of which the product has the sign; a size that does not fit is told by the model.
    unit = abs(spec.elements) * spec.datatype.size
    variable = size // unit if unit else 0
    return tuple(variable if dimension < 0 else dimension for dimension in spec.shape)
