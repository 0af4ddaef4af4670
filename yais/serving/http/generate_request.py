"""The requests of generate: plain JSON objects, whose keys are inputs and parameters of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yais.core.tensor import TensorSpec
from yais.errors import InvalidArgument
from yais.inference.layout import Signature
from yais.protocol.infer_request import InferMessage, InputHeader, Parameter
from yais.serving.http.json_fields import as_object, as_string, field
from yais.serving.http.tensor_json import decode

__all__ = ["generate_message"]

_RESERVED = "triton_"


def generate_message(signature: Signature, version: str, fields: Mapping[str, Any]) -> InferMessage:
    """Return the inference request that an object means.

    A key that is the name of an input gives its contents; any other is a parameter. The object
    `parameters`, if there is one, is looked at in the same way.

    Parameters
    ----------
    version
        Of the model, as it is asked for.

    Raises
    ------
    InvalidArgument
        A value is of another kind than it should be.
    """
    parameters: list[Parameter] = []
    headers: list[InputHeader] = []
    data: list[Any] = []
    specs = {spec.name: spec for spec in signature.inputs}
    for key, value in _entries(fields, specs):
        spec = specs.get(key)
        if spec is None:
            parameters.append(_parameter(key, value))
            continue
        shape = _shape(value, spec, batching=bool(signature.max_batch))
        given = TensorSpec(key, spec.datatype, shape)
        headers.append(InputHeader(given, {}))
        data.append(decode(given, value if isinstance(value, list) else [value]))
    return InferMessage(
        signature.name,
        version,
        field(fields, "id", as_string) or "",
        parameters,
        headers,
        data=data,
        repeats=False,
    )


def _entries(fields: Mapping[str, Any], specs: Mapping[str, TensorSpec]) -> list[tuple[str, Any]]:
    own = {"id", "parameters"} - specs.keys()
    entries = [(key, value) for key, value in fields.items() if key not in own]
    if "parameters" not in specs:
        parameters = field(fields, "parameters", as_object) or {}
        entries += parameters.items()
    return entries


def _shape(value: Any, spec: TensorSpec, *, batching: bool) -> tuple[int, ...]:
    """Return the shape of an input as given: a scalar, or lists with or without the batch's dimension."""
    rank = len(spec.shape)
    if not isinstance(value, list):
        return (1,) * (rank + batching)
    shape: tuple[int, ...] = ()
    while isinstance(value, list):
        shape += (len(value),)
        value = value[0] if value else None
    return (1, *shape) if batching and len(shape) <= rank else shape


def _parameter(key: str, value: Any) -> Parameter:
    as_string(key)
    if key.startswith(_RESERVED):
        raise InvalidArgument(
            f"got parameter '{key}': parameter keys starting with '{_RESERVED}' are reserved for Triton "
            "usage and should not be specified."
        )
    if not isinstance(value, bool | int | float | str):
        raise InvalidArgument(
            f"parameter '{key}' has invalid type. It should be either 'int', 'bool', 'double' or 'string'."
        )
    return Parameter(key, as_string(value) if isinstance(value, str) else value)
