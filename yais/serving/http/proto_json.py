"""Protobuf messages as JSON values, the way Triton writes them.

Unlike protobuf's own JSON: 64-bit integers are numbers, fields have the names they have in the proto files,
and every field that cannot be absent is written, whatever its value.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

__all__ = ["to_json"]


def to_json(message: Message) -> dict[str, Any]:
    """Return a message as what `json.dumps` takes: enums by name, bytes in base64."""
    return {
        field.name: _field(field, getattr(message, field.name))
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }


def _field(field: Any, value: Any) -> Any:
    if not field.is_repeated:
        return _value(field, value)
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        of_values = entry.fields_by_name["value"]
        return {str(key): _value(of_values, value[key]) for key in sorted(value)}
    return [_value(field, item) for item in value]


def _value(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return to_json(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known is not None else value
    if field.type == FieldDescriptor.TYPE_BYTES:
        return base64.b64encode(value).decode()
    if field.type == FieldDescriptor.TYPE_FLOAT:
        return float(str(np.float32(value)))  # the shortest text that means it
    return value
