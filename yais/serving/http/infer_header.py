"""The JSON of inference requests over HTTP: what clients repeat is parsed once."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from yais.core.tensor import DataType, TensorSpec
from yais.errors import InvalidArgument
from yais.protocol.infer_request import InputHeader, OutputHeader, Parameter, TensorData
from yais.serving.http import tensor_json
from yais.serving.http.json_fields import (
    as_array,
    as_boolean,
    as_object,
    as_signed,
    as_string,
    as_unsigned,
    field,
)
from yais.serving.http.json_text import parse_json

__all__ = ["ALL_BINARY", "BinaryOutputs", "InferHeader", "infer_header"]

T = TypeVar("T")

BinaryOutputs = frozenset[str] | None
"""Names of the outputs that are returned in binary; None for all of them."""

ALL_BINARY: BinaryOutputs = None

_NO_BINARY: BinaryOutputs = frozenset()

_KEPT = 4096  # characters of JSON that is kept; what clients repeat is short
_MAX_KEPT = 4096  # of each kind; no client may fill our memory

_MAX_ELEMENTS = (1 << 63) - 1


@dataclass(frozen=True, slots=True, eq=False)
class InferHeader:
    """What the JSON of a request says.

    Attributes
    ----------
    contents
        Of each input: those that the JSON holds; the number of bytes for one whose contents follow it; None
        for one in shared memory.
    binary
        The outputs to return in binary.
    repeats
        See `InferMessage`.
    """

    parameters: tuple[Parameter, ...]
    inputs: tuple[InputHeader, ...]
    outputs: tuple[OutputHeader, ...]
    contents: tuple[TensorData | int | None, ...]
    binary: BinaryOutputs
    repeats: bool


# Clients number their requests, and write that first: what follows is the same again.
_ID = re.compile(rb'\{"id":"([0-9A-Za-z_.-]*)",')

_headers: dict[bytes, tuple[InferHeader, str]] = {}


def infer_header(text: bytes) -> tuple[InferHeader, str]:
    """Return what the JSON of a request says, and its id.

    Raises
    ------
    InvalidArgument
        It is no JSON, or not of an inference request.
    """
    if len(text) > _KEPT:
        return _parse(text)
    match = _ID.match(text)
    rest = text if match is None else b"{" + text[match.end() :]
    header, request_id = _headers.get(rest) or _parse(rest)
    if header.repeats and rest not in _headers and not any(map(_of_json, header.contents)):
        if len(_headers) >= _MAX_KEPT:
            _headers.clear()
        _headers[rest] = header, request_id
    if match is None or request_id:  # the last of two ids counts
        return header, request_id
    return header, match[1].decode()


def _of_json(contents: TensorData | int | None) -> bool:
    return contents is not None and not isinstance(contents, int)


def _parse(text: bytes) -> tuple[InferHeader, str]:
    fields = as_object(parse_json(text))
    parameters = field(fields, "parameters", as_object) or {}
    keep = len(text) <= _KEPT
    inputs = [_input(each, keep=keep) for each in _required(fields, "inputs", as_array)]
    default = field(parameters, "binary_data_output", as_boolean) or False
    named_outputs = field(fields, "outputs", as_array) or []
    outputs = [_output(each, keep=keep, binary=default) for each in named_outputs]
    named = frozenset(header.name for header, binary in outputs if binary)
    header = InferHeader(
        parameters=tuple(
            _parameter(key, value, keep=keep)
            for key, value in parameters.items()
            if key != "binary_data_output"
        ),
        inputs=tuple([header for header, _ in inputs]),
        outputs=tuple([header for header, _ in outputs]),
        contents=tuple([contents for _, contents in inputs]),
        binary=named if outputs else ALL_BINARY if default else _NO_BINARY,
        repeats=keep,
    )
    return header, field(fields, "id", as_string) or ""


def _required(fields: Mapping[str, Any], key: str, kind: Callable[[Any], T]) -> T:
    if key not in fields:
        raise InvalidArgument(
            f"Unable to parse '{key}': attempt to access non-existing object member '{key}'"
        )
    return _checked(key, fields[key], kind)


def _checked(key: str, value: Any, kind: Callable[[Any], T]) -> T:
    try:
        return kind(value)
    except InvalidArgument as error:
        raise InvalidArgument(f"Unable to parse '{key}': {error}") from None


_UNSIGNED = ("priority", "timeout")
_FLAGS = ("sequence_start", "sequence_end")


def _parameter(key: str, value: Any, *, keep: bool) -> Parameter:
    as_string(key)
    if key.startswith("triton_"):
        raise InvalidArgument(
            "parameter keys starting with 'triton_' are reserved for Triton usage and should not be "
            "specified."
        )
    if key in _UNSIGNED:
        _checked(key, value, as_unsigned)
    elif key in _FLAGS:
        _checked(key, value, as_boolean)
    elif key == "sequence_id":
        _checked(key, value, as_unsigned if isinstance(value, int) else as_string)
    elif isinstance(value, str):
        _checked(key, value, as_string)
    elif isinstance(value, int) and not isinstance(value, bool):
        _checked(key, value, as_signed)
    elif not isinstance(value, bool | float):
        raise InvalidArgument(
            f"parameter '{key}' has invalid type. It should be either 'int', 'bool', 'double' or 'string'."
        )
    if not keep:
        return Parameter(key, value)
    return _interned(_parameters, (key, type(value), value), lambda: Parameter(key, value))


_SHARED = {
    "shared_memory_region": as_string,
    "shared_memory_offset": as_unsigned,
    "shared_memory_byte_size": as_unsigned,
}


def _input(entry: Any, *, keep: bool) -> tuple[InputHeader, TensorData | int | None]:
    fields = as_object(entry)
    parameters = field(fields, "parameters", as_object) or {}
    _check_source(fields, parameters)
    name = _required(fields, "name", as_string)
    text = _required(fields, "datatype", as_string)
    shape = _shape(name, fields)
    shared = {key: _checked(key, parameters[key], kind) for key, kind in _SHARED.items() if key in parameters}
    if keep:
        known = (name, text, shape, tuple(shared.items()))
        header = _interned(_inputs, known, lambda: _input_header(name, text, shape, shared))
    else:
        header = _input_header(name, text, shape, shared)
    if "data" in fields:
        return header, tensor_json.decode(header.spec, fields["data"])
    return header, field(parameters, "binary_data_size", as_unsigned)


def _input_header(name: str, text: str, shape: tuple[int, ...], shared: dict[str, Any]) -> InputHeader:
    try:
        datatype = DataType(text)
    except ValueError:
        known = ", ".join(datatype.value for datatype in DataType)
        raise InvalidArgument(
            f"inference input '{name}' data-type is '{text}', which is none of {known}"
        ) from None
    spec = TensorSpec(name, datatype, shape)
    if spec.nbytes > _MAX_ELEMENTS:
        raise InvalidArgument(f"byte size overflow for input '{name}'")
    return InputHeader(spec, shared)


def _shape(name: str, fields: Mapping[str, Any]) -> tuple[int, ...]:
    shape: tuple[int, ...] = tuple(
        [_checked("shape", size, as_unsigned) for size in _required(fields, "shape", as_array)]
    )
    elements = 0 if 0 in shape else 1
    for size in shape:
        elements *= size
        if elements > _MAX_ELEMENTS:  # told at once: the product may be of any length
            raise InvalidArgument(
                f"shape for input '{name}' causes total element count to exceed maximum size of "
                f"{_MAX_ELEMENTS}"
            )
    return shape


_SOURCES = ("data", "binary_data_size", "shared_memory_region")


def _check_source(fields: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    given = [key for key in _SOURCES if key in (fields if key == "data" else parameters)]
    if len(given) != 1:
        which = " set" + "".join(f" '{key}'" for key in given) if given else " no field is set"
        raise InvalidArgument(
            "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
            f"'shared_memory_region' in 'parameters'. But{which}"
        )


def _output(entry: Any, *, keep: bool, binary: bool) -> tuple[OutputHeader, bool]:
    """Return what is said of an output, and whether it is returned in binary."""
    fields = as_object(entry)
    given = field(fields, "parameters", as_object) or {}
    parameters: dict[str, Any] = {
        key: _checked(key, given[key], kind) for key, kind in _SHARED.items() if key in given
    }
    if "classification" in given:
        parameters["classification"] = _classification(given)
    if "shared_memory_region" in given:
        for key in ("classification", "binary_data"):
            if given.get(key, False) is not False:
                raise InvalidArgument(f"Output can't set both 'shared_memory_region' and '{key}'")
    name = _required(fields, "name", as_string)
    if "binary_data" in given:
        binary = _checked("binary_data", given["binary_data"], as_boolean)
    if not keep:
        return OutputHeader(name, parameters), binary
    known = (name, tuple(parameters.items()))
    return _interned(_outputs, known, lambda: OutputHeader(name, parameters)), binary


def _classification(given: Mapping[str, Any]) -> int:
    try:
        return as_unsigned(given["classification"])
    except InvalidArgument as error:
        raise InvalidArgument(f"Unable to set 'classification': {error}") from None


# The same description gives the same object, by which `form_of` knows it again.
_parameters: dict[Hashable, Parameter] = {}
_inputs: dict[Hashable, InputHeader] = {}
_outputs: dict[Hashable, OutputHeader] = {}


def _interned(known: dict[Hashable, T], key: Hashable, make: Callable[[], T]) -> T:
    found = known.get(key)
    if found is None:
        found = make()
        if len(known) >= _MAX_KEPT:
            known.clear()
        known[key] = found
    return found
