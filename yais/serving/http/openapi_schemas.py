"""The schemas of the OpenAPI description."""

from __future__ import annotations

from collections.abc import Mapping

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
    whole,
)

__all__ = ["SCHEMAS"]

_SHAPE = array_of({"type": "integer", "minimum": -1})
_TRACE: dict[str, Schema] = {
    "trace_level": array_of({"type": "string", "enum": ["OFF", "TIMESTAMPS", "TENSORS"]}),
    "trace_rate": {**TEXT, "description": "Every so manieth request."},
    "trace_count": {**TEXT, "description": "Traces still to be made; -1 for no limit."},
    "log_frequency": {**TEXT, "description": "Traces to a file; 0 for all to one."},
    "trace_file": {**TEXT, "description": "Cannot be changed."},
    "trace_mode": {**TEXT, "description": "Cannot be changed."},
}

_LOG: dict[str, Schema] = {
    "log_file": {**TEXT, "description": "Cannot be changed."},
    "log_info": FLAG,
    "log_warning": FLAG,
    "log_error": FLAG,
    "log_verbose_level": {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
    "log_format": {"type": "string", "enum": ["default", "ISO8601", "json"]},
}


def _clearable(properties: Mapping[str, Schema]) -> dict[str, Schema]:
    return {key: {"anyOf": [value, {"type": "null"}]} for key, value in properties.items()}


_DURATIONS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")

SCHEMAS: dict[str, Schema] = {
    "Error": whole({"error": TEXT}),
    "ServerMetadata": whole({"name": TEXT, "version": TEXT, "extensions": array_of(TEXT)}),
    "TensorMetadata": whole({"name": TEXT, "datatype": DATATYPE, "shape": _SHAPE}),
    "ModelMetadata": whole(
        {
            "name": TEXT,
            "versions": array_of(TEXT),
            "platform": TEXT,
            "inputs": array_of(schema("TensorMetadata")),
            "outputs": array_of(schema("TensorMetadata")),
        }
    ),
    "ModelConfig": object_of(
        {
            "name": TEXT,
            "platform": TEXT,
            "backend": TEXT,
            "max_batch_size": {"type": "integer", "minimum": 0},
            "input": array_of({"type": "object"}),
            "output": array_of({"type": "object"}),
        },
        ("name", "max_batch_size", "input", "output"),
        description="The message inference.ModelConfig, completed; names are those of the proto file, and "
        "enums are text.",
    ),
    "Duration": whole({"count": COUNT, "ns": {**COUNT, "description": "Of all of them, nanoseconds."}}),
    "InferStatistics": whole({name: schema("Duration") for name in (*_DURATIONS, "cache_hit", "cache_miss")}),
    "BatchStatistics": whole(
        {
            "batch_size": COUNT,
            "compute_input": schema("Duration"),
            "compute_infer": schema("Duration"),
            "compute_output": schema("Duration"),
        }
    ),
    "ResponseStatistics": object_of(
        {
            name: schema("Duration")
            for name in ("compute_infer", "compute_output", "success", "fail", "empty_response", "cancel")
        }
    ),
    "ModelStatistics": whole(
        {
            "name": TEXT,
            "version": TEXT,
            "last_inference": {**COUNT, "description": "Milliseconds since 1970; 0 for never."},
            "inference_count": {**COUNT, "description": "Items: a batch of n counts n."},
            "execution_count": {**COUNT, "description": "Batches executed."},
            "inference_stats": schema("InferStatistics"),
            "batch_stats": array_of(schema("BatchStatistics")),
            "memory_usage": array_of({"type": "object"}),
            "response_stats": map_of(schema("ResponseStatistics")),
        }
    ),
    "Statistics": whole({"model_stats": array_of(schema("ModelStatistics"))}),
    "IndexRequest": object_of({"ready": {**FLAG, "description": "Only what is ready."}}),
    "ModelIndex": object_of(
        {
            "name": TEXT,
            "version": TEXT,
            "state": {"type": "string", "enum": ["UNKNOWN", "READY", "UNAVAILABLE", "LOADING", "UNLOADING"]},
            "reason": {**TEXT, "description": "Why it is not ready."},
        },
        ("name",),
    ),
    "LoadRequest": object_of(
        {
            "parameters": object_of(
                {"config": {**TEXT, "description": "A ModelConfig in JSON, for this load."}},
                patternProperties={
                    "^file:": {**TEXT, "contentEncoding": "base64", "description": "A file, by its path."}
                },
                additionalProperties=False,
            )
        }
    ),
    "UnloadRequest": object_of(
        {"parameters": object_of({"unload_dependents": FLAG}, additionalProperties=False)}
    ),
    "SystemRegion": whole({"name": TEXT, "key": TEXT, "offset": COUNT, "byte_size": COUNT}),
    "SystemRegister": object_of({"key": TEXT, "offset": COUNT, "byte_size": COUNT}, ("key", "byte_size")),
    "CudaRegion": whole({"name": TEXT, "device_id": COUNT, "byte_size": COUNT}),
    "CudaRegister": whole(
        {
            "raw_handle": whole({"b64": {**TEXT, "contentEncoding": "base64"}}),
            "device_id": {"type": "integer", "minimum": 0},
            "byte_size": COUNT,
        }
    ),
    "TraceSettings": object_of(_TRACE),
    "TraceUpdate": object_of(_clearable(_TRACE), description="What is null is cleared."),
    "LogSettings": object_of(_LOG),
}
