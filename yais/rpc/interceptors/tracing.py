"""OpenTelemetry spans of all calls."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from yais.errors import Code
from yais.rpc.interceptor import Ended, IncomingCall, Interceptor
from yais.rpc.interceptors.exemption import HEALTH, Exemption
from yais.rpc.interceptors.peer import Peer
from yais.rpc.metadata import Metadata

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider
    from opentelemetry.util.types import AttributeValue

__all__ = ["Tracing"]

# What OpenTelemetry takes for a fault of the server's; of the others, the caller is told.
_FAULTS = frozenset(
    (
        Code.UNKNOWN,
        Code.DEADLINE_EXCEEDED,
        Code.UNIMPLEMENTED,
        Code.INTERNAL,
        Code.UNAVAILABLE,
        Code.DATA_LOSS,
    )
)

_TYPES = {"ipv4": ("tcp", "ipv4"), "ipv6": ("tcp", "ipv6"), "unix": ("unix", None)}


class Tracing(Interceptor):
    """Makes a server span for each call, from its arrival to its end. Thread-safe.

    The span continues the trace that the caller names in its metadata: by the process's propagators, which
    unless `OTEL_PROPAGATORS` says otherwise are W3C's trace context and baggage. It is the current span in
    the code that serves the call: on executor threads, in coroutines, in mounted servicers. Threads to which
    that code hands work are its own affair, as everywhere: `contextvars.copy_context().run` takes the span
    there.

    Names and attributes are those of OpenTelemetry's RPC conventions, as they were up to version 1.37:
    "package.Service/Method"; `rpc.system`, `rpc.service`, `rpc.method`, `rpc.grpc.status_code` and
    `network.*` of the peer.

    Parameters
    ----------
    tracer_provider
        Where spans go; the process's own by default.
    exempt
        Methods without spans: "/package.Service/" or "/package.Service/Method".

    Raises
    ------
    ImportError
        OpenTelemetry is not installed.

    Examples
    --------
    >>> server = Server("0.0.0.0:50051", interceptors=[Tracing()])
    """

    def __init__(
        self, tracer_provider: TracerProvider | None = None, *, exempt: Iterable[str] = HEALTH
    ) -> None:
        try:
            from opentelemetry import context, propagate, trace
            from opentelemetry.propagators.textmap import Getter
        except ImportError as error:
            raise ImportError(f"tracing needs OpenTelemetry ({error}): pip install 'yais[otel]'") from error

        class FromMetadata(Getter[Metadata]):
            def get(self, carrier: Metadata, key: str) -> list[str] | None:
                values = [value for value in carrier.get_all(key.lower()) if isinstance(value, str)]
                return values or None

            def keys(self, carrier: Metadata) -> list[str]:
                return list(carrier)

        self._exempt = Exemption(exempt)
        self._context = context
        self._propagate = propagate
        self._trace = trace
        self._getter = FromMetadata()
        self._tracer = trace.get_tracer("yais.rpc", tracer_provider=tracer_provider)

    def begin(self, call: IncomingCall) -> Ended | None:
        """Start the span and make it the current one."""
        if call.method in self._exempt:
            return None
        trace = self._trace
        parent = self._propagate.extract(call.metadata, context=self._context.Context(), getter=self._getter)
        span = self._tracer.start_span(
            call.method.removeprefix("/"),
            context=parent,
            kind=trace.SpanKind.SERVER,
            attributes=_attributes(call),
            start_time=time.time_ns() - call.waited,
        )
        # Never detached: the variables of a call go when it does.
        self._context.attach(trace.set_span_in_context(span, parent))

        def ended(code: Code) -> None:
            span.set_attribute("rpc.grpc.status_code", int(code))
            if code in _FAULTS:
                span.set_status(trace.StatusCode.ERROR, code.name)
            span.end()

        return ended


def _attributes(call: IncomingCall) -> dict[str, AttributeValue]:
    service, _, method = call.method.removeprefix("/").rpartition("/")
    peer = Peer.parse(call.peer)
    attributes: dict[str, AttributeValue] = {
        "rpc.system": "grpc",
        "rpc.service": service,
        "rpc.method": method,
        "network.peer.address": peer.address,
    }
    if peer.port is not None:
        attributes["network.peer.port"] = peer.port
    transport, kind = _TYPES.get(peer.family, (None, None))
    if transport is not None:
        attributes["network.transport"] = transport
    if kind is not None:
        attributes["network.type"] = kind
    return attributes
