"""The paths of the OpenAPI description."""

from __future__ import annotations

from typing import Any

from yais.serving.http.openapi_forms import schema
from yais.serving.http.openapi_operation import Operation, json_content, operation

__all__ = ["paths"]


def paths() -> dict[str, Any]:
    """Return all paths, each with its operations."""
    found = {**_server(), **_models(), **_repository(), **_memory(), **_settings(), **_documents()}
    return {path: _item(path, operations) for path, operations in found.items()}


def _item(path: str, operations: dict[str, Operation]) -> dict[str, Any]:
    """Return the operations of a path with the names in it as parameters, and ids of their own."""
    names = [part.strip("{}") for part in path.split("/") if part.startswith("{")]
    item: dict[str, Any] = {}
    if names:
        item["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in names]
    for method, described in operations.items():
        words = [part.strip("{}").removesuffix(".json") for part in path.split("/") if part] or ["page"]
        item[method] = {"operationId": "_".join((method, *words)), **described}
    return item


def _server() -> dict[str, dict[str, Operation]]:
    not_ready = {"400": {"description": "It is not ready."}}
    return {
        "/v2/health/live": {"get": operation("health", "Whether the server lives", responses=not_ready)},
        "/v2/health/ready": {"get": operation("health", "Whether the server is ready", responses=not_ready)},
        "/v2": {"get": operation("metadata", "What the server is", json_content(schema("ServerMetadata")))},
        "/v2/models/stats": {
            "get": operation("statistics", "Counts of all models", json_content(schema("Statistics")))
        },
    }


_INFER = {
    "id": "1",
    "inputs": [
        {"name": "INPUT0", "shape": [1, 4], "datatype": "INT32", "data": [1, 2, 3, 4]},
        {"name": "INPUT1", "shape": [1, 4], "datatype": "INT32", "data": [1, 1, 1, 1]},
    ],
}
_INFERRED = {
    "id": "1",
    "model_name": "simple",
    "model_version": "1",
    "outputs": [{"name": "OUTPUT0", "datatype": "INT32", "shape": [1, 4], "data": [2, 3, 4, 5]}],
}
_TOLD = {"text_input": "Tell me", "temperature": 0.5}
_SAID = {"model_name": "teller", "model_version": "1", "text_output": "Once"}


def _models() -> dict[str, dict[str, Operation]]:
    binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    events = {
        "text/event-stream": {"schema": {"type": "string"}, "example": 'data: {"text_output":"Once"}\n\n'}
    }
    infer_body = json_content(schema("InferRequest"), _INFER) | binary
    told = json_content(schema("GenerateRequest"), _TOLD)
    said = json_content(schema("GenerateResponse"), _SAID)
    operations = {
        "": (
            "get",
            operation("metadata", "What a model takes and gives", json_content(schema("ModelMetadata"))),
        ),
        "/ready": ("get", operation("health", "Whether a model is ready")),
        "/config": ("get", operation("metadata", "Its configuration", json_content(schema("ModelConfig")))),
        "/stats": ("get", operation("statistics", "Its counts", json_content(schema("Statistics")))),
        "/infer": (
            "post",
            operation(
                "inference",
                "Tensors to tensors",
                json_content(schema("InferResponse"), _INFERRED) | binary,
                body=infer_body,
                required=True,
            ),
        ),
        "/generate": (
            "post",
            operation("inference", "Plain JSON to plain JSON", said, body=told, required=True),
        ),
        "/generate_stream": (
            "post",
            operation("inference", "Plain JSON to server-sent events", events, body=told, required=True),
        ),
    }
    return {
        f"/v2/models/{{model}}{version}{path}": {method: described}
        for version in ("", "/versions/{version}")
        for path, (method, described) in operations.items()
    }


def _repository() -> dict[str, dict[str, Operation]]:
    rows = {"type": "array", "items": schema("ModelIndex")}
    index = operation(
        "repository",
        "What models there are",
        json_content(rows, [{"name": "simple", "version": "1", "state": "READY"}]),
        body=json_content(schema("IndexRequest"), {"ready": False}),
    )
    load = operation(
        "repository", "Load a model, and wait for it", body=json_content(schema("LoadRequest"), {})
    )
    unload = operation("repository", "Unload a model", body=json_content(schema("UnloadRequest"), {}))
    found: dict[str, dict[str, Operation]] = {}
    for path in ("/v2/repository", "/v2/repository/{repository}"):
        found[f"{path}/index"] = {"post": index}
        found[f"{path}/models/{{model}}/load"] = {"post": load}
        found[f"{path}/models/{{model}}/unload"] = {"post": unload}
    return found


def _memory() -> dict[str, dict[str, Operation]]:
    tag = "shared memory"
    examples = {
        "System": {"key": "/input", "offset": 0, "byte_size": 64},
        "Cuda": {"raw_handle": {"b64": "AAAA"}, "device_id": 0, "byte_size": 64},
    }
    found: dict[str, dict[str, Operation]] = {}
    for kind, example in examples.items():
        path = f"/v2/{kind.lower()}sharedmemory"
        rows = json_content({"type": "array", "items": schema(f"{kind}Region")})
        register = json_content(schema(f"{kind}Register"), example)
        found |= {
            f"{path}/status": {"get": operation(tag, "All regions", rows)},
            f"{path}/unregister": {"post": operation(tag, "Let go of all regions")},
            f"{path}/region/{{region}}/status": {"get": operation(tag, "A region", rows)},
            f"{path}/region/{{region}}/register": {
                "post": operation(tag, "Attach to a region", body=register, required=True)
            },
            f"{path}/region/{{region}}/unregister": {"post": operation(tag, "Let go of a region")},
        }
    return found


def _settings() -> dict[str, dict[str, Operation]]:
    trace, log = json_content(schema("TraceSettings")), json_content(schema("LogSettings"))
    change = json_content(schema("TraceUpdate"), {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"})
    tracing = {
        "get": operation("settings", "What is traced", trace),
        "post": operation("settings", "Change what is traced", trace, body=change),
    }
    logging = {
        "get": operation("settings", "What is logged", log),
        "post": operation(
            "settings",
            "Change what is logged",
            log,
            body=json_content(schema("LogSettings"), {"log_verbose_level": 1}),
        ),
    }
    return {
        "/v2/trace/setting": tracing,
        "/v2/models/{model}/trace/setting": tracing,
        "/v2/logging": logging,
    }


def _documents() -> dict[str, dict[str, Operation]]:
    text = {"type": "string"}
    return {
        "/": {"get": operation("documents", "A page that shows models", {"text/html": {"schema": text}})},
        "/metrics": {
            "get": operation("documents", "Metrics for Prometheus", {"text/plain": {"schema": text}})
        },
        "/openapi.json": {
            "get": operation("documents", "This description", json_content({"type": "object"}))
        },
    }
