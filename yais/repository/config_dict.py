"""Model configurations as dicts."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from yais.protocol.model_config_pb2 import ModelConfig

__all__ = ["config_dict"]


def config_dict(config: ModelConfig) -> dict[str, Any]:
    """Return a configuration as Triton's JSON has it: names of fields as in config.pbtxt, and numbers.

    Fields that hold no message are always there.
    """
    fields: dict[str, Any] = json_format.MessageToDict(
        config, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    _mend(config, fields)
    return fields


def _mend(message: Message, fields: dict[str, Any]) -> None:
    """Make numbers of what protobuf's JSON writes as text: integers of 64 bits."""
    for field in message.DESCRIPTOR.fields:
        if field.name not in fields:
            continue
        value, place = fields[field.name], getattr(message, field.name)
        if field.message_type is not None:
            if field.message_type.GetOptions().map_entry:
                if field.message_type.fields_by_name["value"].message_type is not None:
                    for key, child in place.items():
                        _mend(child, value[str(key)])
            elif field.is_repeated:
                for child, part in zip(place, value, strict=True):
                    _mend(child, part)
            else:
                _mend(place, value)
        elif field.cpp_type in {field.CPPTYPE_INT64, field.CPPTYPE_UINT64}:
            fields[field.name] = list(place) if field.is_repeated else place
