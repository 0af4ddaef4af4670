"""The routes of HTTP, but for inference, which has a path of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from yais.serving.front_resources import FrontResources
from yais.serving.http import generate, memory_routes, metadata_routes, repository_routes, settings_routes
from yais.serving.http.json_response import json_response
from yais.serving.http.openapi import description
from yais.serving.http.page import page
from yais.telemetry.exposition import CONTENT_TYPE

__all__ = ["Metrics", "routes"]

Handler = Callable[[FrontResources, Request], Awaitable[Response]]

Metrics = Callable[[], str]
"""Returns all metrics as Prometheus' text. May block."""

_MODEL = "/v2/models/{model}"
_VERSION = "/v2/models/{model}/versions/{version}"
_REPOSITORIES = ("/v2/repository", "/v2/repository/{repository}")
_SYSTEM = ("/v2/systemsharedmemory", "/v2/systemsharedmemory/region/{region}")
_CUDA = ("/v2/cudasharedmemory", "/v2/cudasharedmemory/region/{region}")

_READ = ["GET"]
_CHANGE = ["POST"]

# In the order in which they are tried.
_ROUTES: tuple[tuple[str, list[str], Handler], ...] = (
    ("/v2/health/live", _READ, metadata_routes.server_live),
    ("/v2/health/ready", _READ, metadata_routes.server_ready),
    ("/v2", _READ, metadata_routes.server_metadata),
    ("/v2/models/stats", _READ, metadata_routes.all_statistics),
    *((path, _READ, metadata_routes.model_metadata) for path in (_MODEL, _VERSION)),
    *((f"{path}/ready", _READ, metadata_routes.model_ready) for path in (_MODEL, _VERSION)),
    *((f"{path}/config", _READ, metadata_routes.model_config) for path in (_MODEL, _VERSION)),
    *((f"{path}/stats", _READ, metadata_routes.model_statistics) for path in (_MODEL, _VERSION)),
    *((f"{path}/generate", _CHANGE, generate.generate) for path in (_MODEL, _VERSION)),
    *((f"{path}/generate_stream", _CHANGE, generate.generate_stream) for path in (_MODEL, _VERSION)),
    *((f"{path}/index", _CHANGE, repository_routes.repository_index) for path in _REPOSITORIES),
    *((f"{path}/models/{{model}}/load", _CHANGE, repository_routes.load) for path in _REPOSITORIES),
    *((f"{path}/models/{{model}}/unload", _CHANGE, repository_routes.unload) for path in _REPOSITORIES),
    *((f"{path}/status", _READ, memory_routes.system_status) for path in _SYSTEM),
    (f"{_SYSTEM[1]}/register", _CHANGE, memory_routes.system_register),
    *((f"{path}/unregister", _CHANGE, memory_routes.system_unregister) for path in _SYSTEM),
    *((f"{path}/status", _READ, memory_routes.cuda_status) for path in _CUDA),
    (f"{_CUDA[1]}/register", _CHANGE, memory_routes.cuda_register),
    *((f"{path}/unregister", _CHANGE, memory_routes.cuda_unregister) for path in _CUDA),
    ("/v2/trace/setting", _READ + _CHANGE, settings_routes.trace_setting),
    (f"{_MODEL}/trace/setting", _READ + _CHANGE, settings_routes.trace_setting),
    ("/v2/logging", _READ + _CHANGE, settings_routes.log_settings),
)


def routes(resources: FrontResources, metrics: Metrics) -> list[BaseRoute]:
    """Return all routes but those of infer.

    They raise `YaisError` for what is wrong with a request.

    Parameters
    ----------
    metrics
        Returns what `/metrics` shows.
    """
    return [
        Route("/", page, methods=["GET"]),
        Route("/openapi.json", _openapi, methods=["GET"]),
        Route("/metrics", partial(_metrics, metrics), methods=["GET"]),
        *(Route(path, partial(handler, resources), methods=methods) for path, methods, handler in _ROUTES),
    ]


def _metrics(metrics: Metrics, request: Request) -> Response:  # noqa: ARG001
    # Not a coroutine: it runs on a thread of its own, since collecting takes long on a busy server.
    return Response(metrics(), headers={"content-type": CONTENT_TYPE})


async def _openapi(request: Request) -> Response:  # noqa: ARG001
    return json_response(description())
