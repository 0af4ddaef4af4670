"""Health, metadata, configurations and statistics over HTTP."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from yais.protocol import kserve_pb2 as pb
from yais.rpc.context import Context
from yais.serving.front_resources import FrontResources, ReplyT, RequestT
from yais.serving.http.json_response import json_response
from yais.serving.http.proto_json import to_json
from yais.serving.metadata import (
    ModelConfigContext,
    ModelMetadataContext,
    ModelReadyContext,
    ServerLiveContext,
    ServerMetadataContext,
    ServerReadyContext,
)
from yais.serving.resources import ServingResources
from yais.serving.statistics import ModelStatisticsContext

__all__ = [
    "all_statistics",
    "model_config",
    "model_metadata",
    "model_ready",
    "model_statistics",
    "server_live",
    "server_metadata",
    "server_ready",
]


async def server_live(resources: FrontResources, request: Request) -> Response:  # noqa: ARG001
    """Answer whether the server lives: 200 or 400, without a body."""
    reply = await resources.perform(ServerLiveContext, pb.ServerLiveRequest())
    return Response(status_code=200 if reply.live else 400)


async def server_ready(resources: FrontResources, request: Request) -> Response:  # noqa: ARG001
    """Answer whether the server is ready: 200 or 400, without a body."""
    reply = await resources.perform(ServerReadyContext, pb.ServerReadyRequest())
    return Response(status_code=200 if reply.ready else 400)


async def model_ready(resources: FrontResources, request: Request) -> Response:
    """Answer whether a model is ready: 200 without a body, or 400."""
    asked = pb.ModelReadyRequest(name=_model(request), version=_version(request))
    if (await resources.perform(ModelReadyContext, asked)).ready:
        return Response()
    return json_response({"error": "Model version not ready"}, 400)


async def server_metadata(resources: FrontResources, request: Request) -> Response:  # noqa: ARG001
    """Answer what the server says of itself."""
    return await _told(ServerMetadataContext, resources, pb.ServerMetadataRequest())


async def model_metadata(resources: FrontResources, request: Request) -> Response:
    """Answer what a model says of itself."""
    asked = pb.ModelMetadataRequest(name=_model(request), version=_version(request))
    return await _told(ModelMetadataContext, resources, asked)


async def model_config(resources: FrontResources, request: Request) -> Response:
    """Answer the configuration of a model, without a message around it."""
    asked = pb.ModelConfigRequest(name=_model(request), version=_version(request))
    reply = await resources.perform(ModelConfigContext, asked)
    return json_response(to_json(reply.config))


async def model_statistics(resources: FrontResources, request: Request) -> Response:
    """Answer the counts of a model, of one or of all its versions."""
    asked = pb.ModelStatisticsRequest(name=_model(request), version=_version(request))
    return await _told(ModelStatisticsContext, resources, asked)


async def all_statistics(resources: FrontResources, request: Request) -> Response:  # noqa: ARG001
    """Answer the counts of all models."""
    asked = pb.ModelStatisticsRequest()
    return await _told(ModelStatisticsContext, resources, asked)


async def _told(
    context: type[Context[RequestT, ReplyT, ServingResources]],
    resources: FrontResources,
    request: RequestT,
) -> Response:
    reply = await resources.perform(context, request)
    return json_response(to_json(reply))


def _model(request: Request) -> str:
    model: str = request.path_params["model"]
    return model


def _version(request: Request) -> str:
    version: str = request.path_params.get("version", "")
    return version
