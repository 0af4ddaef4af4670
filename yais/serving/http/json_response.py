"""Values as JSON responses."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from yais.serving.http.json_text import dump_json

__all__ = ["json_response"]


def json_response(value: Any, status: int = 200) -> Response:
    """Return a value as compact JSON."""
    return Response(dump_json(value), status, media_type="application/json")
