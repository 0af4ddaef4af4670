"""Bodies that are JSON objects."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from yais.serving.http.body import read_body
from yais.serving.http.json_fields import as_object
from yais.serving.http.json_text import LARGE, parse_json

__all__ = ["read_object"]


async def read_object(request: Request) -> dict[str, Any]:
    """Return the object that a request's body is; an empty body is an empty one.

    Raises
    ------
    YaisError
        The body cannot be had, or is something else.
    """
    body = await read_body(request)
    if not body.strip():
        return {}
    parsed = parse_json(body) if len(body) < LARGE else await request.app.background.run(parse_json, body)
    return as_object(parsed)
