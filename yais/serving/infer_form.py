"""The form of inference requests: what many have in common, checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from yais.core.tensor import TensorSpec
from yais.errors import InvalidArgument
from yais.inference.request import ResponseForm
from yais.protocol.infer_request import InferMessage
from yais.serving.form_cache import FormCache

__all__ = ["InferForm", "Placement", "form_of"]

_MAX_KEPT = 65536  # inputs and outputs of the forms that are kept


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the contents of a tensor are in shared memory; offset and size in bytes."""

    region: str
    offset: int
    byte_size: int


@dataclass(frozen=True, slots=True, eq=False)
class InferForm:
    """What is the same in all requests of one form; also their `InferRequest.signature`.

    Attributes
    ----------
    inputs
        As they are given, with concrete shapes.
    outputs
        Names of those asked for.
    classes
        For outputs that are to be classified, how many classes.
    shared_inputs
        For inputs in shared memory, by their index, where.
    shared_outputs
        For outputs that go to shared memory, by name, where to.
    classified
        What responses look like whose outputs are classified, by what they looked like before.
    placed
        What responses look like whose outputs are in shared memory, by what they looked like before.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    classes: Mapping[str, int]
    shared_inputs: Mapping[int, Placement]
    shared_outputs: Mapping[str, Placement]
    classified: dict[ResponseForm, ResponseForm] = field(default_factory=dict)
    placed: dict[tuple[ResponseForm, tuple[int, ...]], ResponseForm] = field(default_factory=dict)


# Forms of requests, by the objects that stand for their headers (the same bytes give the same object).
_forms: FormCache[InferForm] = FormCache(_MAX_KEPT)


def form_of(message: InferMessage) -> InferForm:
    """Return the form of a request.

    Raises
    ------
    InvalidArgument
        What it says of classification or shared memory contradicts itself.
    """
    if not message.repeats:
        return _checked(message)
    key = (tuple(message.inputs), tuple(message.outputs))
    form = _forms.get(key)
    if form is None:
        form = _checked(message)
        # As much as 16 of them for what a form takes in any case.
        _forms.keep(key, form, 16 + len(message.inputs) + len(message.outputs))
    return form


def _checked(message: InferMessage) -> InferForm:
    shared_inputs = {
        index: placement
        for index, header in enumerate(message.inputs)
        if (placement := _placement(header.spec.name, header.parameters)) is not None
    }
    classes: dict[str, int] = {}
    shared_outputs: dict[str, Placement] = {}
    for output in message.outputs:
        placement = _placement(output.name, output.parameters)
        count = _classes(output.name, output.parameters)
        if placement is not None and count is not None:
            raise InvalidArgument("output can't set both 'shared_memory_region' and 'classification'")
        if placement is not None:
            shared_outputs[output.name] = placement
        if count is not None:
            classes[output.name] = count
    return InferForm(
        inputs=tuple(header.spec for header in message.inputs),
        outputs=tuple(output.name for output in message.outputs),
        classes=classes,
        shared_inputs=shared_inputs,
        shared_outputs=shared_outputs,
    )


def _classes(output: str, parameters: Mapping[str, Any]) -> int | None:
    if "classification" not in parameters:
        return None
    count = parameters["classification"]
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise InvalidArgument(
            f"invalid value for 'classification' parameter of output '{output}': got {count!r}, "
            "expected an int64_param of at least 1"
        )
    return count


def _placement(tensor: str, parameters: Mapping[str, Any]) -> Placement | None:
    """Return where a tensor is in shared memory, with Triton's words for what is wrong."""
    if "shared_memory_region" not in parameters:
        for key in ("shared_memory_offset", "shared_memory_byte_size"):
            if key in parameters:
                raise InvalidArgument(
                    f"'{key}' can not be specified without 'shared_memory_region' parameter for tensor "
                    f"'{tensor}'"
                )
        return None
    region = parameters["shared_memory_region"]
    if not isinstance(region, str):
        raise _invalid("shared_memory_region", tensor, "string_param")
    if "shared_memory_byte_size" not in parameters:
        raise InvalidArgument(
            "'shared_memory_byte_size' parameter must be specified along with 'shared_memory_region' "
            f"parameter for tensor '{tensor}'"
        )
    offset, byte_size = (
        parameters.get("shared_memory_offset", 0),
        parameters["shared_memory_byte_size"],
    )
    for key, value in (("shared_memory_offset", offset), ("shared_memory_byte_size", byte_size)):
        if type(value) is not int:
            raise _invalid(key, tensor, "int64_param")
    return Placement(region, offset, byte_size)


def _invalid(key: str, tensor: str, expected: str) -> InvalidArgument:
    return InvalidArgument(
        f"invalid value type for '{key}' parameter for tensor '{tensor}', expected {expected}."
    )
