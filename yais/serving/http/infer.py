"""POST /v2/models/M[/versions/V]/infer: from the wire to a model, and back."""

from __future__ import annotations

import asyncio
import re
from typing import cast

from starlette.types import Receive, Scope, Send

from yais.core.clock import monotonic
from yais.core.dispatcher import current_dispatcher
from yais.errors import Unavailable
from yais.inference.request import InferResponse
from yais.protocol.infer_request import InferMessage
from yais.serving.http.body import receive_body
from yais.serving.http.caller import HttpCaller
from yais.serving.http.compression import accepted_encoding, compressed
from yais.serving.http.connection import Connection
from yais.serving.http.infer_body import decode_infer, decode_raw, header_length
from yais.serving.http.infer_header import BinaryOutputs
from yais.serving.http.infer_reply import encode_reply
from yais.serving.http.loop_dispatcher import LoopDispatcher
from yais.serving.inference import infer
from yais.serving.resources import ServingResources

__all__ = ["InferEndpoint", "infer_path"]

_PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")

_DECOUPLED = "HTTP end point doesn't support models with decoupled transaction policy"

_MAX_WAITING = 4096  # requests that wait for their turn; their bodies take memory
_MAX_WAIT = 60.0  # seconds

_BLOCKING = 1 << 16  # bytes; to compress more takes longer than another thread costs

Headers = dict[bytes, bytes]


def infer_path(path: str) -> tuple[str, str] | None:
    """Return model and version that a decoded path names, the latter "" for the newest; None for others."""
    match = _PATH.fullmatch(path)
    return None if match is None else (match[1], match[2] or "")


class InferEndpoint:
    """Serves inference requests, so many at once; more wait.

    Parameters
    ----------
    max_bytes
        Of a body, decompressed; 0 for any number.
    at_once
        Requests.
    """

    def __init__(self, resources: ServingResources, *, max_bytes: int, at_once: int) -> None:
        self._resources = resources
        self._max_bytes = max_bytes
        self._turns = asyncio.Semaphore(at_once)
        self._waiting = 0

    async def serve(self, scope: Scope, receive: Receive, send: Send, model: str, version: str) -> None:
        """Serve one request. Raises what `error_response` takes, before anything is sent."""
        headers: Headers = dict(scope["headers"])
        caller = HttpCaller(scope["headers"])
        body = await receive_body(receive, headers, self._max_bytes)
        message, binary = self._decode(headers, body, model, version)
        del body
        turns = self._turns
        if turns.locked():
            await self._turn()
            caller.waited = monotonic() - caller.accepted
        else:
            await turns.acquire()
        try:
            response = await self._infer(message, caller, scope.get("yais.connection"))
        except BaseException:
            caller.finished()
            raise
        finally:
            turns.release()
        try:
            await _send(response, binary, headers, send)
        finally:
            caller.finished()

    def _decode(
        self, headers: Headers, body: bytes, model: str, version: str
    ) -> tuple[InferMessage, BinaryOutputs]:
        value = headers.get(b"inference-header-content-length")
        length = len(body) if value is None else header_length(value, len(body))
        if length or value is None:
            return decode_infer(body, length, model, version)
        loaded = self._resources.models.find(model, version)
        return decode_raw(body, loaded.model.signature, model, version)

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

    async def _infer(
        self, message: InferMessage, caller: HttpCaller, connection: Connection | None
    ) -> InferResponse:
        future = infer(self._resources, message, caller, decoupled=_DECOUPLED)
        if connection is not None:
            connection.on_lost = future.cancel
        try:
            return await cast(LoopDispatcher, current_dispatcher()).wait(future)
        finally:
            if connection is not None:
                connection.on_lost = None


async def _send(response: InferResponse, binary: BinaryOutputs, headers: Headers, send: Send) -> None:
    body, length = encode_reply(response, binary)
    lines = [(b"content-type", b"application/json" if length is None else b"application/octet-stream")]
    if length is not None:
        lines.append((b"inference-header-content-length", b"%d" % length))
    accepted = headers.get(b"accept-encoding")
    encoding = None if accepted is None else accepted_encoding(accepted.decode("latin-1"))
    if encoding is not None:
        if len(body) > _BLOCKING:
            smaller = await asyncio.to_thread(compressed, body, encoding)
        else:
            smaller = compressed(body, encoding)
        if smaller is not None:
            body = smaller
            lines.append((b"content-encoding", encoding.encode()))
    lines.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": 200, "headers": lines})
    await send({"type": "http.response.body", "body": body})
