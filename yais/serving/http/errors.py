"""Errors over HTTP: the status of each, and JSON that says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.responses import Response

from yais.errors import Code, YaisError, status_of
from yais.serving.http.json_text import dump_json

__all__ = ["STATUS", "error_response"]

STATUS: Mapping[Code, int] = {
    Code.CANCELLED: 400,
    Code.UNKNOWN: 400,
    Code.INVALID_ARGUMENT: 400,
    Code.ALREADY_EXISTS: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 400,
    Code.OUT_OF_RANGE: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.INTERNAL: 500,
    Code.DATA_LOSS: 500,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}
"""The HTTP status of each gRPC status; where Triton answers one, the same."""


def error_response(error: BaseException) -> Response:
    """Return the answer to a request that failed: `{"error": text}` with the status of the error.

    Starlette's own (no such path: 404, no such method: 405) keep their status and headers. What is neither
    theirs nor a `YaisError`, and unknown to `yais.errors.status_of`, is a fault of the server: 500.
    """
    if isinstance(error, HTTPException):
        return _response(error.status_code, error.detail, error.headers)
    code, text = status_of(error)
    if code is Code.UNKNOWN and not isinstance(error, YaisError):
        code = Code.INTERNAL
    headers = {"WWW-Authenticate": "Bearer"} if code is Code.UNAUTHENTICATED else None
    return _response(STATUS[code], text, headers)


def _response(status: int, text: str, headers: Mapping[str, str] | None) -> Response:
    return Response(dump_json({"error": text}), status, headers, "application/json")
