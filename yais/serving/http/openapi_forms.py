"""The forms that schemas of the OpenAPI description have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yais.core.tensor import DataType

__all__ = [
    "COUNT",
    "DATATYPE",
    "FLAG",
    "TEXT",
    "Schema",
    "array_of",
    "map_of",
    "object_of",
    "schema",
    "whole",
]

Schema = dict[str, Any]


def schema(name: str) -> Schema:
    """Return a reference to one of the schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def object_of(properties: Mapping[str, Schema], required: tuple[str, ...] = (), **more: Any) -> Schema:
    """Return the schema of an object with properties, some of them required, and whatever else is said."""
    made: Schema = {"type": "object", "properties": dict(properties)}
    return made | ({"required": list(required)} if required else {}) | more


def whole(properties: Mapping[str, Schema], **more: Any) -> Schema:
    """Return the schema of an object that always has all of its properties."""
    return object_of(properties, tuple(properties), **more)


def array_of(items: Schema) -> Schema:
    """Return the schema of an array."""
    return {"type": "array", "items": items}


def map_of(values: Schema) -> Schema:
    """Return the schema of an object with any keys."""
    return {"type": "object", "additionalProperties": values}


TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0, "maximum": 2**64 - 1}
DATATYPE: Schema = {"type": "string", "enum": [datatype.value for datatype in DataType]}
