"""The repository over HTTP: the index, load and unload."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from yais.errors import InvalidArgument
from yais.protocol import kserve_pb2 as pb
from yais.serving.front_resources import FrontResources
from yais.serving.http.json_body import read_object
from yais.serving.http.json_fields import as_object, as_string, field
from yais.serving.http.json_response import json_response
from yais.serving.model_control import (
    RepositoryIndexContext,
    RepositoryModelLoadContext,
    RepositoryModelUnloadContext,
)

__all__ = ["load", "repository_index", "unload"]


async def repository_index(resources: FrontResources, request: Request) -> Response:
    """Answer what models there are, as an array; what is empty is left out."""
    ready = (await read_object(request)).get("ready", False)
    if not isinstance(ready, bool):
        raise InvalidArgument("Invalid value for 'ready': expected a boolean")
    asked = pb.RepositoryIndexRequest(repository_name=_repository(request), ready=ready)
    reply = await resources.perform(RepositoryIndexContext, asked)
    return json_response([{field.name: value for field, value in row.ListFields()} for row in reply.models])


async def load(resources: FrontResources, request: Request) -> Response:
    """Load a model; answer when it is loaded."""
    asked = pb.RepositoryModelLoadRequest(
        repository_name=_repository(request), model_name=request.path_params["model"]
    )
    for key, value in (await _parameters(request)).items():
        asked.parameters[as_string(key)].CopyFrom(_parameter(key, value))
    await resources.perform(RepositoryModelLoadContext, asked)
    return Response()


async def unload(resources: FrontResources, request: Request) -> Response:
    """Unload a model; answer when it takes no requests any more."""
    asked = pb.RepositoryModelUnloadRequest(
        repository_name=_repository(request), model_name=request.path_params["model"]
    )
    for key, value in (await _parameters(request)).items():
        asked.parameters[as_string(key)].CopyFrom(_parameter(key, value))
    await resources.perform(RepositoryModelUnloadContext, asked)
    return Response()


def _repository(request: Request) -> str:
    repository: str = request.path_params.get("repository", "")
    return repository


async def _parameters(request: Request) -> dict[str, Any]:
    return field(await read_object(request), "parameters", as_object) or {}


def _parameter(key: str, value: Any) -> pb.ModelRepositoryParameter:
    if isinstance(value, bool):
        return pb.ModelRepositoryParameter(bool_param=value)
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        return pb.ModelRepositoryParameter(int64_param=value)
    text = field({key: value}, key, as_string) or ""
    if not key.startswith("file:"):
        return pb.ModelRepositoryParameter(string_param=text)
    try:
        return pb.ModelRepositoryParameter(bytes_param=base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument(f"Unable to parse '{key}': expected base64: {error}") from None
