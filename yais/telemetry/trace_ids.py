"""The ids of OpenTelemetry's traces, as logs and exemplars name them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["current_trace_ids", "hexadecimal", "trace_ids"]

_NONE: Mapping[str, str] = {}


def current_trace_ids(*, sampled: bool = False) -> Mapping[str, str]:
    """Return `trace_id` and `span_id` of the current span; nothing if there is none, or no OpenTelemetry.

    Parameters
    ----------
    sampled
        Whether only a span counts that is sampled, and so can be found by its ids.
    """
    trace = sys.modules.get("opentelemetry.trace")  # without it there are no spans
    if trace is None:
        return _NONE
    span = trace.get_current_span().get_span_context()
    known = span.is_valid and (span.trace_flags.sampled or not sampled)
    return hexadecimal(span) if known else _NONE


def trace_ids(record: logging.LogRecord) -> Mapping[str, str]:
    """Return the `trace_id` and `span_id` of a record, in hexadecimal; nothing if there are none.

    They are what the record says itself, or those of OpenTelemetry's current span. To be called where it was
    logged, as formatters are.
    """
    said = getattr(record, "trace_id", None)
    if isinstance(said, str):
        return {"trace_id": said, "span_id": str(getattr(record, "span_id", ""))}
    return current_trace_ids()


def hexadecimal(span: Any) -> Mapping[str, str]:
    """Return `trace_id` and `span_id` of an OpenTelemetry `SpanContext` in hexadecimal."""
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
