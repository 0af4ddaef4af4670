"""The schemas of inference in the OpenAPI description."""

from __future__ import annotations

from yais.serving.http.openapi_forms import (
    COUNT,
    DATATYPE,
    FLAG,
    TEXT,
    Schema,
    array_of,
    map_of,
    object_of,
    schema,
)

__all__ = ["INFER_SCHEMAS"]

_GIVEN_SHAPE = array_of({"type": "integer", "minimum": 0})
_PARAMETERS = map_of({"type": ["string", "boolean", "number"]})
_BINARY_SIZE = {
    "binary_data_size": {**COUNT, "description": "Bytes of the tensor after the JSON header."},
    "shared_memory_region": TEXT,
    "shared_memory_byte_size": COUNT,
    "shared_memory_offset": COUNT,
}

INFER_SCHEMAS: dict[str, Schema] = {
    "InferInput": object_of(
        {
            "name": TEXT,
            "shape": _GIVEN_SHAPE,
            "datatype": DATATYPE,
            "parameters": object_of(_BINARY_SIZE),
            "data": {"type": "array", "description": "Nested or flat, in row-major order."},
        },
        ("name", "shape", "datatype"),
    ),
    "RequestedOutput": object_of(
        {
            "name": TEXT,
            "parameters": object_of(
                {
                    "binary_data": FLAG,
                    "classification": {"type": "integer", "minimum": 1},
                    "shared_memory_region": TEXT,
                    "shared_memory_byte_size": COUNT,
                    "shared_memory_offset": COUNT,
                }
            ),
        },
        ("name",),
    ),
    "InferRequest": object_of(
        {
            "id": TEXT,
            "parameters": _PARAMETERS,
            "inputs": array_of(schema("InferInput")),
            "outputs": array_of(schema("RequestedOutput")),
        },
        ("inputs",),
    ),
    "InferOutput": object_of(
        {
            "name": TEXT,
            "datatype": DATATYPE,
            "shape": _GIVEN_SHAPE,
            "parameters": object_of(_BINARY_SIZE),
            "data": {"type": "array", "description": "Flat, in row-major order."},
        },
        ("name", "datatype", "shape"),
    ),
    "InferResponse": object_of(
        {
            "id": TEXT,
            "model_name": TEXT,
            "model_version": TEXT,
            "outputs": array_of(schema("InferOutput")),
        },
        ("model_name", "model_version", "outputs"),
    ),
    "GenerateRequest": object_of(
        {"id": TEXT, "parameters": map_of({})},
        description="Inputs by their names; what is no input is a parameter.",
    ),
    "GenerateResponse": object_of(
        {"id": TEXT, "model_name": TEXT, "model_version": TEXT},
        ("model_name", "model_version"),
        description="Outputs by their names; one with one element is that element.",
    ),
}
