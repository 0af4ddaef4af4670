"""POST /v2/models/M[/versions/V]/infer: from the wire to a model, and back."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from functools import partial
from typing import cast

from starlette.types import Receive, Scope

from yais.core.clock import monotonic
from yais.core.dispatcher import current_dispatcher
from yais.errors import Unavailable
from yais.inference.request import InferResponse
from yais.serving.front_resources import FrontResources
from yais.serving.http.background import Background
from yais.serving.http.body import receive_body
from yais.serving.http.caller import HttpCaller
from yais.serving.http.compression import accepted_encoding, compressed
from yais.serving.http.connection import Connection
from yais.serving.http.infer_body import decode_infer, decode_raw, header_length
from yais.serving.http.infer_header import ALL_BINARY, BinaryOutputs
from yais.serving.http.infer_reply import encode_reply
from yais.serving.http.json_text import LARGE
from yais.serving.http.loop_dispatcher import LoopDispatcher

__all__ = ["InferEndpoint", "infer_path"]

_PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")

_DECOUPLED = "HTTP end point doesn't support models with decoupled transaction policy"

_MAX_WAITING = 4096  # requests that wait for their turn; their bodies take memory
_MAX_WAIT = 60.0  # seconds

_LARGE = LARGE >> 3  # bytes of tensors that are as much in JSON
_BLOCKING = 1 << 16  # bytes; to compress more takes longer than another thread costs

_JSON = b"content-type: application/json\r\n"
_BINARY = b"content-type: application/octet-stream\r\ninference-header-content-length: %d\r\n"

Headers = Mapping[bytes, bytes]


def infer_path(path: str) -> tuple[str, str] | None:
    """Return model and version that a decoded path names, the latter "" for the newest; None for others."""
    match = _PATH.fullmatch(path)
    return None if match is None else (match[1], match[2] or "")


class InferEndpoint:
    """Serves inference requests, so many at once; more wait.

    Parameters
    ----------
    background
        Where large JSON is handled.
    max_bytes
        Of a body, decompressed; 0 for any number.
    at_once
        Requests.
    """

    def __init__(
        self, resources: FrontResources, background: Background, *, max_bytes: int, at_once: int
    ) -> None:
        self._resources = resources
        self._background = background
        self._max_bytes = max_bytes
        self._turns = asyncio.Semaphore(at_once)
        self._waiting = 0

    async def serve(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, model: str, version: str
    ) -> None:
        """Serve one request. Raises what `error_response` takes, before anything is sent."""
        connection: Connection = scope["yais.connection"]
        connection.on_lost = cast("asyncio.Task[None]", asyncio.current_task()).cancel
        caller = HttpCaller(scope["headers"])
        try:
            response, binary = await self._response(
                await receive_body(receive, headers, self._max_bytes, connection),
                headers,
                caller,
                model,
                version,
            )
            if binary is ALL_BINARY or sum([each.nbytes for each in response.data]) < _LARGE:
                reply, length = encode_reply(response, binary)
            else:
                reply, length = await self._background.run(encode_reply, response, binary)
            await _send(reply, length, headers, connection)
        finally:
            caller.finished()
            connection.on_lost = None

    async def _response(
        self, body: bytes, headers: Headers, caller: HttpCaller, model: str, version: str
    ) -> tuple[InferResponse, BinaryOutputs]:
        length = _json_length(headers, len(body))
        if length is None:
            signature = await self._resources.signature(model, version)
            message, binary = decode_raw(body, signature, model, version)
        elif length < LARGE:
            message, binary = decode_infer(body, length, model, version)
        else:
            message, binary = await self._background.run(decode_infer, body, length, model, version)
        del body
        turns = self._turns
        if turns.locked():
            await self._turn()
            caller.waited = monotonic() - caller.accepted
        else:
            await turns.acquire()
        try:
            submit = partial(self._resources.infer, message, caller, decoupled=_DECOUPLED)
            future = await asyncio.to_thread(submit) if self._resources.copies_much(message) else submit()
            del submit
            del message
            return await cast(LoopDispatcher, current_dispatcher()).wait(future), binary
        finally:
            turns.release()

    async def _turn(self) -> None:
        if self._waiting >= _MAX_WAITING:
            raise Unavailable(f"{self._waiting} inference requests wait for their turn; try again later")
        self._waiting += 1
        try:
            async with asyncio.timeout(_MAX_WAIT):
                await self._turns.acquire()
        except TimeoutError:
            raise Unavailable(f"the inference request had no turn within {_MAX_WAIT} seconds") from None
        finally:
            self._waiting -= 1


def _json_length(headers: Headers, size: int) -> int | None:
    """Return how much of a body is JSON; None if it is a bare tensor."""
    value = headers.get(b"inference-header-content-length")
    return size if value is None else header_length(value, size) or None


async def _send(body: bytes, length: int | None, headers: Headers, connection: Connection) -> None:
    lines = _JSON if length is None else _BINARY % length
    accepted = headers.get(b"accept-encoding")
    encoding = None if accepted is None else accepted_encoding(accepted.decode("latin-1"))
    if encoding is not None:
        if len(body) > _BLOCKING:
            smaller = await asyncio.to_thread(compressed, body, encoding)
        else:
            smaller = compressed(body, encoding)
        if smaller is not None:
            body = smaller
            lines += b"content-encoding: %b\r\n" % encoding.encode()
    await connection.answer(lines, body)
