"""What a log says of a request, beside its message."""

from __future__ import annotations

from typing import Any

from yais.inference.request import InferRequest

__all__ = ["log_fields"]


def log_fields(model: str, request: InferRequest) -> dict[str, Any]:
    """Return what a record about a request to a model gets as `extra`; made when there is something to log.

    `model`; `request_id`, if the caller gave one; `trace_id` and `span_id`, if it is traced.
    """
    named = {"request_id": request.id} if request.id else {}
    traced = {} if request.trace is None else request.trace.ids
    return {"model": model, **named, **traced}
