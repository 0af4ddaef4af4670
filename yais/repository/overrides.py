"""Overrides: fields of configurations that are set on the command line.

dynamic_batching.max_queue_delay_microseconds=100
instance_group.0.count=4                  an element of a list, or the one after its last
parameters.intra_op_thread_count=2        an entry of a map
dynamic_batching={}                       a message, a list or a map in JSON
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from yais.errors import InvalidArgument
from yais.protocol.model_config_pb2 import ModelConfig

__all__ = ["apply_overrides"]

_TEXTS = {FieldDescriptor.CPPTYPE_STRING, FieldDescriptor.CPPTYPE_ENUM}


def apply_overrides(config: ModelConfig, overrides: Sequence[str]) -> None:
    """Set fields of a configuration.

    Parameters
    ----------
    config
        Not yet checked.
    overrides
        Each as "path=value"; a later one wins. In a path, keys of maps may hold dots. A value is of the
        field's type: numbers, `true` or `false`, names of an enumeration, text as it stands; everything else
        in JSON.

    Raises
    ------
    InvalidArgument
        There is no such field, or the value is none of its type. The message says what is near.
    """
    for override in overrides:
        path, equals, value = override.partition("=")
        if not equals or not path:
            raise InvalidArgument(f"got override '{override}' for '{config.name}', expected FIELD=VALUE")
        _Override(config.name, path, value).apply(config, path)


class _Override:
    """One of them."""

    def __init__(self, model: str, path: str, value: str) -> None:
        self._what = f"override {path}={value} of model '{model}'"
        self._value = value

    def apply(self, message: Message, path: str) -> None:
        """Set the field of a message that a path begins with, or one within it."""
        name, _, rest = path.partition(".")
        field: Any = message.DESCRIPTOR.fields_by_name.get(name)
        if field is None:
            near = _near(name, message.DESCRIPTOR.fields_by_name)
            raise InvalidArgument(f"{self._what}: there is no field '{name}'{near}")
        if not rest:
            self._merge(message, field)
        elif _is_map(field):
            self._set_entry(message, field, rest)
        elif field.is_repeated:
            self._set_element(message, field, rest)
        elif field.message_type is None:
            raise InvalidArgument(f"{self._what}: '{name}' has no fields, got '{rest}'")
        else:
            child = getattr(message, name)
            child.SetInParent()
            self.apply(child, rest)

    def _merge(self, message: Message, field: Any) -> None:
        """Put the value in the place of a whole field."""
        value: Any
        if field.cpp_type in _TEXTS and not field.is_repeated:
            value = self._value
        elif field.message_type is not None and (_is_map(field) or not field.is_repeated):
            value = self._object()
        else:
            value = self._json()
        message.ClearField(field.name)
        self._parse(lambda: json_format.ParseDict({field.name: value}, message))

    def _set_entry(self, message: Message, field: Any, rest: str) -> None:
        value = field.message_type.fields_by_name["value"]
        entries = getattr(message, field.name)
        if value.message_type is None:
            self._parse(lambda: entries.update({rest: self._value}))
            return
        # Keys may hold dots, so the last part that names a field of the entry ends the key.
        parts, known = rest.split("."), value.message_type.fields_by_name
        end = max((place for place, part in enumerate(parts) if place and part in known), default=len(parts))
        key, child = ".".join(parts[:end]), ".".join(parts[end:])
        if not child and len(known) == 1:
            child = next(iter(known))
        is_number = field.message_type.fields_by_name["key"].cpp_type != FieldDescriptor.CPPTYPE_STRING
        if is_number and not _is_number(key):
            raise InvalidArgument(f"{self._what}: got the key '{key}' of '{field.name}', expected a number")
        entry = self._parse(lambda: entries[int(key) if is_number else key])
        if child:
            self.apply(entry, child)
        else:
            self._parse(lambda: json_format.ParseDict(self._object(), entry))

    def _set_element(self, message: Message, field: Any, rest: str) -> None:
        index, _, child = rest.partition(".")
        elements = getattr(message, field.name)
        if not _is_number(index) or int(index) > len(elements):
            raise InvalidArgument(
                f"{self._what}: got '{index}' as the place in '{field.name}', expected 0 to {len(elements)}"
            )
        if field.message_type is None:
            self._set_value(message, field, int(index), child)
            return
        element = elements.add() if int(index) == len(elements) else elements[int(index)]
        if child:
            self.apply(element, child)
        else:
            self._parse(lambda: json_format.ParseDict(self._object(), element))

    def _set_value(self, message: Message, field: Any, index: int, child: str) -> None:
        if child:
            raise InvalidArgument(f"{self._what}: an element of '{field.name}' has no fields, got '{child}'")
        values = list(getattr(message, field.name))
        parsed = type(message)()
        value = self._value if field.cpp_type in _TEXTS else self._json()
        self._parse(lambda: json_format.ParseDict({field.name: [value]}, parsed))
        values[index : index + 1] = getattr(parsed, field.name)
        message.ClearField(field.name)
        getattr(message, field.name).extend(values)

    def _json(self) -> Any:
        try:
            return json.loads(self._value)
        except (ValueError, RecursionError):
            return self._value  # protobuf says what it expected

    def _object(self) -> dict[str, Any]:
        value = self._json()
        if not isinstance(value, dict):  # protobuf takes an empty list or text, too
            raise InvalidArgument(f"{self._what}: expected a JSON object, such as {{}}")
        return value

    def _parse(self, parse: Callable[[], Any]) -> Any:
        try:
            return parse()
        except (json_format.ParseError, TypeError, AttributeError, ValueError) as error:
            raise InvalidArgument(f"{self._what}: {str(error).splitlines()[0]}") from None


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= 20  # as many digits as a number of 64 bits has


def _is_map(field: Any) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _near(name: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, list(known), cutoff=0.5)
    return f", did you mean {' or '.join(f'{match!r}' for match in matches)}?" if matches else ""
