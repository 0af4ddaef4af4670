"""Generate and generate_stream: inference in plain JSON, answered at once or as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from yais.errors import Cancelled, InvalidArgument, status_of
from yais.inference.request import InferResponse
from yais.serving.front_resources import FrontResources
from yais.serving.http.caller import HttpCaller
from yais.serving.http.generate_request import generate_message
from yais.serving.http.json_body import read_object
from yais.serving.http.json_response import json_response
from yais.serving.http.json_text import dump_json
from yais.serving.http.response_queue import ResponseQueue
from yais.serving.http.tensor_json import encode

__all__ = ["generate", "generate_stream"]

_NOT_ONE = (
    "generate expects model to produce exactly 1 response, use generate stream for model that generates "
    "various number of responses"
)


async def generate(resources: FrontResources, request: Request) -> Response:
    """Answer the one response of a model."""
    queue = await _submitted(resources, request)
    try:
        first = await _while_connected(request, queue)
        if first is None or await _while_connected(request, queue) is not None:
            raise InvalidArgument(_NOT_ONE)
    finally:
        queue.close()
    return json_response(_response(first))


async def generate_stream(resources: FrontResources, request: Request) -> Response:
    """Answer the responses of a model as they come.

    An error before the first of them is answered as one, and a later one is the last event.
    """
    queue = await _submitted(resources, request)
    try:
        first = await _while_connected(request, queue)
        return _EventStream(queue, None if first is None else _event(_response(first)))
    except BaseException:
        queue.close()
        raise


class _EventStream(StreamingResponse):
    """Server-sent events; the queue is closed when nobody reads them any more."""

    def __init__(self, queue: ResponseQueue, first: bytes | None) -> None:
        headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
        super().__init__(_events(queue, first), headers=headers)
        self._queue = queue

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._queue.close()


async def _events(queue: ResponseQueue, event: bytes | None) -> AsyncIterator[bytes]:
    while event is not None:
        yield event
        try:
            response = await queue.take()
            event = None if response is None else _event(_response(response))
        except Exception as error:
            yield _event({"error": status_of(error)[1]})
            return


async def _submitted(resources: FrontResources, request: Request) -> ResponseQueue:
    """Submit what a request asks for; return where its responses come."""
    model, version = request.path_params["model"], request.path_params.get("version", "")
    fields = await read_object(request)
    signature = await resources.signature(model, version)
    message = generate_message(signature, version, fields)
    queue, caller = ResponseQueue(), HttpCaller(request.scope["headers"])
    queue.on_close = caller.finished
    queue.follow(resources.infer(message, caller, respond=queue.put))
    return queue


async def _while_connected(request: Request, queue: ResponseQueue) -> InferResponse | None:
    """Return the next response; raise Cancelled if the client hangs up before."""
    taking = asyncio.ensure_future(queue.take())
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((taking, gone), return_when=asyncio.FIRST_COMPLETED)
        if not taking.done():
            raise Cancelled("the client has hung up")
        return taking.result()
    finally:
        taking.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _response(response: InferResponse) -> dict[str, Any]:
    """Return a response as an object; an output of one element as the element itself."""
    form = response.form
    fields: dict[str, Any] = {"id": response.id} if response.id else {}
    fields |= {"model_name": form.model_name, "model_version": form.model_version}
    for spec, data in zip(form.outputs, response.data, strict=True):
        values = encode(spec, data)
        fields[spec.name] = values[0] if len(values) == 1 else values
    return fields


def _event(fields: dict[str, Any]) -> bytes:
    return b"data: " + dump_json(fields) + b"\n\n"
