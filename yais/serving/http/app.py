"""The ASGI application: access, inference by the shortest way, and the routes of everything else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from yais.errors import Unavailable, YaisError
from yais.serving.access import Access
from yais.serving.front_resources import FrontResources
from yais.serving.http.background import Background
from yais.serving.http.cross_site import check_site
from yais.serving.http.errors import error_response
from yais.serving.http.infer import InferEndpoint, infer_path
from yais.serving.http.options import HttpOptions
from yais.serving.http.routes import Metrics, routes

__all__ = ["HttpApp"]

_log = logging.getLogger("yais.serving")


class HttpApp:
    """The inference service as an ASGI application. Errors are JSON, see `error_response`.

    Attributes
    ----------
    options
        How to serve.
    background
        Where large JSON is handled.
    stopping
        Whether new requests are refused.
    """

    def __init__(
        self,
        resources: FrontResources,
        options: HttpOptions,
        access: Access,
        metrics: Metrics,
    ) -> None:
        self.options = options
        self.stopping = False
        self.background = Background()
        self._access = access
        self._infer = InferEndpoint(
            resources,
            self.background,
            max_bytes=options.max_input_bytes,
            at_once=options.max_requests,
        )
        self._router = Router(routes(resources, metrics), redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        answer = _Answer(send)
        try:
            await self._serve(scope, receive, answer)
        except asyncio.CancelledError:
            return  # the server has stopped, and its connections are closed
        except Exception as error:
            response = error_response(error)
            if response.status_code == 500 and not isinstance(error, YaisError):
                _log.exception("unexpected error for %s %r", scope["method"], scope["path"])
            if answer.started:
                raise  # the connection is closed: the client sees that the answer is not whole
            await response(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.stopping:
            raise Unavailable("HTTP server is shutting down and has stopped accepting new requests.")
        path: str = scope["path"]
        if self._access.checks_http:
            self._access.check_http(scope["method"], path, scope["headers"])
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if scope["method"] == "POST":
            check_site(headers)
        target = infer_path(path)
        if target is None:
            scope["app"] = self
            await self._router(scope, receive, send)
        elif scope["method"] == "POST":
            await self._infer.serve(scope, headers, receive, *target)
        else:
            raise HTTPException(405, headers={"Allow": "POST"})


class _Answer:
    """ASGI's `send`, which remembers whether anything was sent."""

    __slots__ = ("_send", "started")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    def __call__(self, message: Any) -> Awaitable[None]:
        self.started = True
        return self._send(message)
