"""Changes of trace settings, as clients ask for them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from yais.errors import InvalidArgument, Unimplemented

__all__ = ["OFF", "TraceChange"]

OFF = ("OFF",)
"""The level at which nothing is traced."""

_LEVELS = ("TIMESTAMPS", "TENSORS")

_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)

_MOST = {"trace_rate": 2**32 - 1, "trace_count": 2**31 - 1, "log_frequency": 2**32 - 1}

_FIELDS = {"trace_rate": "rate", "trace_count": "count", "log_frequency": "log_frequency"}

_READ_ONLY = {
    "trace_file": "trace file location can not be updated through network protocol",
    "trace_mode": "trace mode can not be updated through network protocol",
}


@dataclass(frozen=True, slots=True)
class TraceChange:
    """What a client wants to be different, by the names of `TraceValues`.

    Attributes
    ----------
    values
        What is said.
    cleared
        What is no longer to be said.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    cleared: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, settings: Mapping[str, Sequence[str]]) -> TraceChange:
        """Return the change that a request of the protocol asks for; an empty list of values clears.

        Raises
        ------
        Unimplemented
            The file or the mode of traces is to be changed.
        InvalidArgument
            A value or a setting is none.
        """
        for name in settings:
            if name in _READ_ONLY:
                raise Unimplemented(_READ_ONLY[name])
            if name != "trace_level" and name not in _FIELDS:
                known = ", ".join(("trace_level", *_FIELDS))
                raise InvalidArgument(f"got trace setting '{name}', expected one of {known}")
        values: dict[str, Any] = {}
        cleared = {_FIELDS.get(name, "level") for name, given in settings.items() if not given}
        if levels := settings.get("trace_level"):
            values["level"] = _level(levels)
        for name, attribute in _FIELDS.items():
            if given := settings.get(name):
                values[attribute] = _number(name, given)
        return cls(values, frozenset(cleared))


def _level(given: Sequence[str]) -> tuple[str, ...]:
    if "OFF" in given:
        if len(given) > 1:
            raise InvalidArgument("Expect only one trace level 'OFF' is specified")
        return OFF
    for level in given:
        if level not in _LEVELS:
            raise InvalidArgument(f"got trace level '{level}', expected OFF, TIMESTAMPS or TENSORS")
    return tuple(level for level in _LEVELS if level in given)


def _number(name: str, given: Sequence[str]) -> int:
    if len(given) > 1:
        raise InvalidArgument(f"expect only 1 value for '{name}'")
    text = given[0].strip()
    least, most = -1 if name == "trace_count" else 0, _MOST[name]
    if not _NUMBER.fullmatch(text) or len(text) > 4000:  # what int refuses to convert
        raise InvalidArgument(f"Unable to parse '{name}', got: {given[0]}")
    number = int(text)
    if name == "trace_count" and -(2**31) <= number < least:
        raise InvalidArgument(f"Unable to parse '{name}'. Expecting value >= {least}, got: {given[0]}")
    if not least <= number <= most:
        raise InvalidArgument(
            f"Unable to parse '{name}', value is out of range [ {least}, {most} ], got: {given[0]}"
        )
    return number
