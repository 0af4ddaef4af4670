"""ModelInferRequest from its bytes.

The message is walked by hand: its tensors become views of the received bytes, and the descriptions of
its inputs, outputs and parameters, which a client repeats in every request, are parsed once and then
found by their bytes. Parsing with protobuf and copying the tensors out of it takes several times as long
(docs/architecture.md). Whatever the walk does not expect (typed contents, unknown fields, odd encodings,
garbage) is left to protobuf, which has the last word on what is valid.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from yais.core.tensor import DataType, TensorSpec
from yais.errors import Internal, InvalidArgument
from yais.protocol import kserve_pb2
from yais.protocol.infer_response import encode_varint
from yais.protocol.tensor_codec import decode_bytes, objects

__all__ = [
    "InferMessage",
    "InputHeader",
    "OutputHeader",
    "Parameter",
    "TensorData",
    "bytes_elements",
    "decode_infer_request",
]

Value = bool | int | float | str | None
TensorData = bytes | memoryview | npt.NDArray[Any]
"""Contents of an input: wire bytes, or for BYTES a flat array of its elements."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Parameter:
    """One entry of a parameter map. The same bytes give the same object."""

    key: str
    value: Value


@dataclass(frozen=True, slots=True, eq=False)
class InputHeader:
    """What a request says of an input, apart from its contents. The same bytes give the same object."""

    spec: TensorSpec
    parameters: dict[str, Value]


@dataclass(frozen=True, slots=True, eq=False)
class OutputHeader:
    """An output that a request asks for. The same bytes give the same object."""

    name: str
    parameters: dict[str, Value]


@dataclass(slots=True, eq=False)
class InferMessage:
    """A decoded ModelInferRequest.

    Attributes
    ----------
    data
        Contents of each input, in their order; None for one that is in shared memory.
    repeats
        Whether another request with the same parameters, inputs and outputs has the same objects for them,
        so that what follows from them is worth keeping.
    """

    model_name: str = ""
    model_version: str = ""
    id: str = ""
    parameters: Sequence[Parameter] = ()
    inputs: Sequence[InputHeader] = ()
    outputs: Sequence[OutputHeader] = ()
    data: list[TensorData | None] = field(default_factory=list)
    repeats: bool = True


class _Unexpected(Exception):
    """The message is not of the form that the walk handles."""


def decode_infer_request(message: bytes) -> InferMessage:
    """Decode a ModelInferRequest.

    Raises
    ------
    Internal
        The bytes are no such message (the status that gRPC prescribes).
    InvalidArgument
        It is one that contradicts itself: contents missing, given twice, of the wrong type, or BYTES
        whose lengths do not add up.
    """
    typed: Sequence[Any] = ()  # for each input an InferTensorContents or None
    try:
        decoded, raw = _walk(message)
    except (_Unexpected, IndexError, UnicodeDecodeError, DecodeError, InvalidArgument):
        decoded, raw, typed = _parse(message)  # a message that is none is that first of all
    _attach_contents(decoded, raw, typed)
    return decoded


# Fields of ModelInferRequest: number << 3 | wire type, which is 2 for all of them.
_MODEL_NAME, _MODEL_VERSION, _ID, _PARAMETERS, _INPUTS, _OUTPUTS, _RAW = range(0x0A, 0x3B, 8)

_KEPT = 256  # bytes of a header that is kept; what clients repeat is short
_MAX_KEPT = 4096  # headers kept of each kind; no client may fill our memory

_COPY_BELOW = 4096  # bytes; a small slice is cheaper to copy than to view


def _walk(message: bytes) -> tuple[InferMessage, list[bytes | memoryview]]:
    decoded = InferMessage()
    inputs: list[InputHeader] = []
    outputs: list[OutputHeader] = []
    parameters: list[Parameter] = []
    raw: list[bytes | memoryview] = []
    position, end = 0, len(message)
    while position < end:
        tag = message[position]
        length = message[position + 1]
        position += 2
        if length & 0x80:
            length, position = _long_length(message, length, position)
        stop = position + length
        if stop > end:
            raise _Unexpected
        if tag == _RAW:
            if length < _COPY_BELOW:
                raw.append(message[position:stop])
            else:
                raw.append(memoryview(message)[position:stop])
        elif _PARAMETERS <= tag <= _OUTPUTS:
            header = message[position:stop]
            if length > _KEPT:
                decoded.repeats = False
            if tag == _INPUTS:
                inputs.append(_input_header(header))
            elif tag == _OUTPUTS:
                outputs.append(_output_header(header))
            elif tag == _PARAMETERS:
                parameters.append(_parameter(header))
            else:
                raise _Unexpected
        elif tag == _MODEL_NAME:
            decoded.model_name = message[position:stop].decode()
        elif tag == _ID:
            decoded.id = message[position:stop].decode()
        elif tag == _MODEL_VERSION:
            decoded.model_version = message[position:stop].decode()
        else:
            raise _Unexpected
        position = stop
    decoded.inputs, decoded.outputs, decoded.parameters = inputs, outputs, parameters
    return decoded, raw


def _long_length(message: bytes, low: int, position: int) -> tuple[int, int]:
    """Read the rest of a length that takes more than one byte."""
    length = low & 0x7F
    for shift in (7, 14, 21, 28):  # five bytes reach beyond the 2 GiB that a message may have
        byte = message[position]
        position += 1
        length |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return length, position
    raise _Unexpected


def _parse(message: bytes) -> tuple[InferMessage, list[bytes | memoryview], list[Any]]:
    try:
        request = kserve_pb2.ModelInferRequest.FromString(message)
    except DecodeError as error:
        raise Internal(f"cannot decode the ModelInferRequest: {error}") from None
    raw: list[bytes | memoryview] = list(request.raw_input_contents)
    typed = [tensor.contents if tensor.HasField("contents") else None for tensor in request.inputs]
    # What is left once contents and surprises are gone is of the form that the walk handles, and its
    # headers are found like those of any other request.
    request.ClearField("raw_input_contents")
    for tensor in request.inputs:
        tensor.ClearField("contents")
    request.DiscardUnknownFields()  # type: ignore[no-untyped-call, unused-ignore]
    decoded, _ = _walk(request.SerializeToString(deterministic=True))
    return decoded, raw, typed


def _interned(parse: Callable[[bytes], T]) -> Callable[[bytes], T]:
    """Keep what `parse` makes of short texts, so that the same bytes give the same object."""
    known: dict[bytes, T] = {}

    @functools.wraps(parse)
    def interned(text: bytes) -> T:
        found = known.get(text)
        if found is None:
            found = parse(text)
            if len(text) <= _KEPT:
                if len(known) >= _MAX_KEPT:
                    known.clear()
                known[text] = found
        return found

    return interned


@_interned
def _parameter(text: bytes) -> Parameter:
    # In a message of its own: one with fields we do not know is no parameter to protobuf.
    request = kserve_pb2.ModelInferRequest.FromString(b"".join((b"\x22", encode_varint(len(text)), text)))
    for key, value in request.parameters.items():
        return Parameter(key, _value(value))
    raise _Unexpected


@_interned
def _input_header(text: bytes) -> InputHeader:
    tensor = kserve_pb2.ModelInferRequest.InferInputTensor.FromString(text)
    if tensor.HasField("contents"):
        raise _Unexpected  # not to be kept: contents differ from request to request
    try:
        datatype = DataType(tensor.datatype)
    except ValueError:
        known = ", ".join(datatype.value for datatype in DataType)
        raise InvalidArgument(
            f"inference input '{tensor.name}' data-type is '{tensor.datatype}', which is none of {known}"
        ) from None
    return InputHeader(TensorSpec(tensor.name, datatype, tuple(tensor.shape)), _values(tensor.parameters))


@_interned
def _output_header(text: bytes) -> OutputHeader:
    output = kserve_pb2.ModelInferRequest.InferRequestedOutputTensor.FromString(text)
    return OutputHeader(output.name, _values(output.parameters))


def _values(parameters: Mapping[str, kserve_pb2.InferParameter]) -> dict[str, Value]:
    return {key: _value(parameter) for key, parameter in parameters.items()}


def _value(parameter: kserve_pb2.InferParameter) -> Value:
    """Return the value an InferParameter holds; None if it holds none."""
    choice: str | None = parameter.WhichOneof("parameter_choice")
    value: Value = getattr(parameter, choice) if choice else None
    return value


def _attach_contents(decoded: InferMessage, raw: list[bytes | memoryview], typed: Sequence[Any]) -> None:
    data = decoded.data
    model = decoded.model_name
    position = 0
    for index, header in enumerate(decoded.inputs):
        name = header.spec.name
        given = raw[position] if position < len(raw) else None
        if "shared_memory_region" in header.parameters:
            if typed and typed[index] is not None:
                raise InvalidArgument(
                    f"unexpected 'content' provided when using shared memory for input tensor '{name}' "
                    f"for model '{model}'"
                )
            data.append(None)
        elif typed and typed[index] is not None:
            if raw:
                raise InvalidArgument(
                    "contents field must not be specified when using raw_input_contents "
                    f"for '{name}' for model '{model}'"
                )
            data.append(_typed(header.spec, typed[index], model))
        elif given is None:
            raise InvalidArgument(
                f"unable to find data for input tensor '{name}' for model '{model}' in request."
            )
        else:
            position += 1
            data.append(bytes_elements(header.spec, given, model) if not header.spec.datatype.size else given)
    if position < len(raw):
        raise InvalidArgument(
            f"got {len(raw)} raw_input_contents for model '{model}', expected one for each of "
            f"{position} inputs"
        )


def bytes_elements(spec: TensorSpec, data: bytes | memoryview, model: str) -> npt.NDArray[Any]:
    """Return the elements of a BYTES input from its wire form. Raises InvalidArgument if it is none."""
    try:
        return decode_bytes(data)
    except InvalidArgument as error:
        what, _, rest = str(error).partition(", ")
        raise InvalidArgument(
            f"{what} for inference input '{spec.name}' for model '{model}', {rest}"
        ) from None


# The typed field for each data type, and the data type Triton names for a field.
_TYPED = {
    DataType.BOOL: "bool_contents",
    DataType.INT8: "int_contents",
    DataType.INT16: "int_contents",
    DataType.INT32: "int_contents",
    DataType.INT64: "int64_contents",
    DataType.UINT8: "uint_contents",
    DataType.UINT16: "uint_contents",
    DataType.UINT32: "uint_contents",
    DataType.UINT64: "uint64_contents",
    DataType.FP32: "fp32_contents",
    DataType.FP64: "fp64_contents",
    DataType.BYTES: "bytes_contents",
}


def _typed(spec: TensorSpec, contents: Any, model: str) -> TensorData:
    wanted = _TYPED.get(spec.datatype)
    for descriptor, values in contents.ListFields():
        if descriptor.name != wanted:
            got = next(datatype for datatype, name in _TYPED.items() if name == descriptor.name)
            raise InvalidArgument(
                f"unexpected explicit tensor data for input tensor '{spec.name}' for model '{model}' "
                f"of type '{got.value}', expected datatype '{spec.datatype.value}'"
            )
        if spec.datatype is DataType.BYTES:
            return objects(list(values))
        return _numbers(spec, values, model)
    if wanted is None or spec.elements:
        raise InvalidArgument(
            f"unable to find data for input tensor '{spec.name}' for model '{model}' in request."
        )
    return b"" if spec.datatype.size else objects([])


def _numbers(spec: TensorSpec, values: Sequence[Any], model: str) -> bytes:
    try:
        # Through the numbers themselves: numpy refuses what the type cannot hold instead of wrapping it.
        return np.array(values, spec.datatype.numpy).tobytes()
    except OverflowError as error:
        raise InvalidArgument(f"input tensor '{spec.name}' for model '{model}': {error}") from None
