"""Traces of requests, as far as settings say; clients may look and change them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from yais.inference.request_trace import RequestTrace
from yais.serving.caller import Caller

__all__ = ["TraceOptions", "Tracer"]


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """What is traced at the start.

    Attributes
    ----------
    file
        Where traces go in mode "triton".
    level
        "OFF", or "TIMESTAMPS" and "TENSORS".
    rate
        One in so many requests is traced.
    count
        Traces that are still to be made; -1 for no limit.
    log_frequency
        Traces to a file; 0 for all to one.
    mode
        "triton" or "opentelemetry".
    otel
        Of mode "opentelemetry": "url", and attributes of the resource as "resource.NAME".
    """

    file: str = ""
    level: tuple[str, ...] = ("OFF",)
    rate: int = 1000
    count: int = -1
    log_frequency: int = 0
    mode: str = "triton"
    otel: Mapping[str, str] = field(default_factory=dict)


class Tracer:
    """Traces requests. Thread-safe.

    Attributes
    ----------
    active
        Whether any request may be traced: asked for each request, before `begin`.
    """

    active = False

    def __init__(self, options: TraceOptions, find: Callable[[str, str], object]) -> None:
        self.options = options

    def begin(self, model: str, version: str, request_id: str, caller: Caller) -> RequestTrace | None:
        """Return the trace of a request; None if it is not to be traced."""
        return None

    def close(self) -> None:
        """Write what is not written yet."""
