"""Requests in JSON: their fields, checked, with Triton's words for what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from yais.errors import InvalidArgument

__all__ = ["as_array", "as_boolean", "as_object", "as_signed", "as_string", "as_unsigned", "field"]

T = TypeVar("T")


def field(fields: Mapping[str, Any], key: str, kind: Callable[[Any], T]) -> T | None:
    """Return a field as one of the kinds below; None if it is not there.

    Raises
    ------
    InvalidArgument
        It is of another kind.
    """
    if key not in fields:
        return None
    try:
        return kind(fields[key])
    except InvalidArgument as error:
        raise InvalidArgument(f"Unable to parse '{key}': {error}") from None


def as_string(value: Any) -> str:
    """Return text that can be sent on. Raises InvalidArgument if it is none."""
    if not isinstance(value, str):
        raise _other("string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidArgument("got text with half of a surrogate pair, expected Unicode") from None
    return value


def as_boolean(value: Any) -> bool:
    """Return a boolean. Raises InvalidArgument if it is none."""
    if not isinstance(value, bool):
        raise _other("boolean")
    return value


def as_signed(value: Any) -> int:
    """Return a number of 64 bits. Raises InvalidArgument if it is none."""
    if not isinstance(value, int) or isinstance(value, bool) or not -(1 << 63) <= value < 1 << 63:
        raise _other("signed-integer")
    return value


def as_unsigned(value: Any) -> int:
    """Return a number of 64 bits without sign. Raises InvalidArgument if it is none."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 64:
        raise _other("unsigned-integer")
    return value


def as_array(value: Any) -> list[Any]:
    """Return an array. Raises InvalidArgument if it is none."""
    if not isinstance(value, list):
        raise _other("array")
    return value


def as_object(value: Any) -> dict[str, Any]:
    """Return an object. Raises InvalidArgument if it is none."""
    if not isinstance(value, dict):
        raise _other("object")
    return value


def _other(kind: str) -> InvalidArgument:
    return InvalidArgument(f"attempt to access JSON non-{kind} as {kind}")
