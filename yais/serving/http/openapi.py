"""The OpenAPI description of HTTP: put together once, from its paths and schemas."""

from __future__ import annotations

import functools
from typing import Any

import yais
from yais.serving.http.openapi_infer_schemas import INFER_SCHEMAS
from yais.serving.http.openapi_operation import PARAMETERS
from yais.serving.http.openapi_paths import paths
from yais.serving.http.openapi_schemas import SCHEMAS

__all__ = ["description"]

_ABOUT = """\
The KServe v2 inference protocol with Triton's extensions, as Triton serves it over HTTP.

Tensors travel as JSON, or in binary after a JSON header whose length `Inference-Header-Content-Length` says.
Bodies may be compressed with gzip or deflate, in both directions. Errors are objects with the key `error`.
"""

_TAGS = {
    "health": "Whether the server and its models are ready.",
    "metadata": "What the server and its models say of themselves.",
    "inference": "Requests to models.",
    "statistics": "What was counted.",
    "repository": "Which models there are; load and unload.",
    "shared memory": "Tensors in memory that clients share with the server.",
    "settings": "What is traced and logged.",
    "documents": "For people and their tools.",
}


@functools.cache
def description() -> dict[str, Any]:
    """Return the description, OpenAPI 3.1; not to be changed."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "yais",
            "version": yais.__version__,
            "description": _ABOUT,
            "license": {"name": "BSD-3-Clause", "identifier": "BSD-3-Clause"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "security": [{}, {"token": []}],
        "paths": paths(),
        "components": {
            "schemas": SCHEMAS | INFER_SCHEMAS,
            "parameters": PARAMETERS,
            "responses": {
                "Error": {
                    "description": "What is wrong.",
                    "content": {
                        "application/json": {
                            "schema": {"$ref": "#/components/schemas/Error"},
                            "example": {"error": "Request for unknown model: 'other' is not found"},
                        }
                    },
                }
            },
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Where the server was given tokens; health is exempt.",
                }
            },
        },
    }
