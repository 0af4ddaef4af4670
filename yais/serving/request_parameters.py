"""The parameters of inference requests: which have a meaning, and what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from yais.errors import InvalidArgument
from yais.inference.request import SequenceStep
from yais.protocol.infer_request import Parameter
from yais.serving.form_cache import FormCache

__all__ = ["RequestParameters", "request_parameters"]

_MAX_KEPT = 65536  # parameters of the sets that are kept

# What the parameters with a meaning may be. perf_analyzer sends the last one with every request.
_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "sequence_id": ((int, str), "int64_param or string_param"),
    "sequence_start": ((bool,), "bool_param"),
    "sequence_end": ((bool,), "bool_param"),
    "priority": ((int,), "int64_param or uint64_param"),
    "timeout": ((int,), "int64_param"),
    "triton_enable_empty_final_response": ((bool,), "bool_param"),
}


@dataclass(frozen=True, slots=True, eq=False)
class RequestParameters:
    """What the parameters of a request say.

    Attributes
    ----------
    values
        All of them, by name.
    sequence, priority, timeout
        See `InferRequest`.
    """

    values: Mapping[str, Any]
    sequence: SequenceStep | None = None
    priority: int = 0
    timeout: int = 0


# By the objects that stand for them (the same bytes give the same object).
_kept: FormCache[RequestParameters] = FormCache(_MAX_KEPT)


def request_parameters(parameters: Sequence[Parameter], *, repeats: bool) -> RequestParameters:
    """Return what parameters say.

    Parameters
    ----------
    repeats
        Whether other requests with the same parameters have the same objects for them.

    Raises
    ------
    InvalidArgument
        One has a meaning and another type than it should have, or is reserved.
    """
    if not repeats:
        return _checked(parameters)
    key = tuple(parameters)
    known = _kept.get(key)
    if known is None:
        known = _checked(parameters)
        if known.sequence is None:  # the ids of sequences do not come again
            # As much as 16 of them for what a set takes in any case.
            _kept.keep(key, known, 16 + len(key))
    return known


def _checked(parameters: Sequence[Parameter]) -> RequestParameters:
    for parameter in parameters:
        _check(parameter)
    values: dict[str, Any] = {parameter.key: parameter.value for parameter in parameters}
    for key in ("priority", "timeout"):
        if values.get(key, 0) < 0:
            raise InvalidArgument(f"got {values[key]} for the parameter '{key}', expected 0 or more")
    return RequestParameters(
        values, _sequence(values), values.get("priority", 0), 1000 * values.get("timeout", 0)
    )


def _sequence(values: Mapping[str, Any]) -> SequenceStep | None:
    correlation = values.get("sequence_id")
    if not correlation:  # 0 and "" are no sequence
        return None
    if isinstance(correlation, int):
        correlation %= 1 << 64  # it travels as an int64, and means a uint64
    return SequenceStep(
        correlation, start=values.get("sequence_start", False), end=values.get("sequence_end", False)
    )


def _check(parameter: Parameter) -> None:
    key = parameter.key
    if key in _KINDS:
        kinds, expected = _KINDS[key]
        if type(parameter.value) not in kinds:
            raise InvalidArgument(f"invalid value type for '{key}' parameter, expected {expected}.")
    elif key.startswith("triton_"):
        raise InvalidArgument(
            f"got parameter '{key}': parameter keys starting with 'triton_' are reserved for Triton usage"
        )
