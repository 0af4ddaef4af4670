"""The operations behind the routes: the contexts of the RPCs, called in process."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
from typing import Any, TypeVar

from google.protobuf.message import Message
from starlette.responses import Response

from yais.rpc.context import Context
from yais.serving.http.json_text import dump_json
from yais.serving.resources import ServingResources

__all__ = ["ReplyT", "RequestT", "json_response", "perform"]

RequestT = TypeVar("RequestT", bound=Message)
ReplyT = TypeVar("ReplyT", bound=Message)


async def perform(
    context: type[Context[RequestT, ReplyT, ServingResources]],
    resources: ServingResources,
    request: RequestT,
) -> ReplyT:
    """Return what an RPC answers; raise what it raises.

    Parameters
    ----------
    context
        Of the RPC. Its `execute` uses nothing of it but the resources.
    """
    made = context()
    made.resources = resources
    answer = made.execute(request)
    if isinstance(answer, concurrent.futures.Future):
        return await asyncio.wrap_future(answer)
    if inspect.isawaitable(answer):
        return await answer
    return answer


def json_response(value: Any, status: int = 200) -> Response:
    """Return a value as compact JSON."""
    return Response(dump_json(value), status, media_type="application/json")
