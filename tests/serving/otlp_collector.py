"""A collector of OpenTelemetry for tests: takes OTLP over HTTP and gRPC, and reads what it says."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from serving_models import SOON

_EXPORT = "opentelemetry.proto.collector.trace.v1.TraceService"


class Received(NamedTuple):
    """A span, and the resource that it is of."""

    span: Span
    resource: dict[str, Any]

    @property
    def name(self) -> str:
        """Of the span."""
        return self.span.name

    @property
    def attributes(self) -> dict[str, Any]:
        """Of the span."""
        return _plain(self.span.attributes)


class Collector:
    """What was received. Thread-safe.

    Attributes
    ----------
    http, grpc
        Ports.
    metadata
        Headers of what came over gRPC.
    """

    def __init__(self) -> None:
        self.http = self.grpc = 0
        self.metadata: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._spans: list[Received] = []

    def take(self, request: otlp.ExportTraceServiceRequest) -> None:
        """Take what was exported."""
        found = [
            Received(span, _plain(resource.resource.attributes))
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._changed:
            self._spans += found
            self._changed.notify_all()

    def spans(self, number: int) -> list[Received]:
        """Wait until there are so many spans; return them by when they began."""
        with self._changed:
            there = self._changed.wait_for(lambda: len(self._spans) >= number, SOON)
            assert there, [span.name for span in self._spans]
            return sorted(self._spans, key=lambda each: each.span.start_time_unix_nano)


def tree(spans: list[Received], parent: bytes = b"") -> list[Any]:
    """Return the names of spans within others."""
    return [
        (each.name, tree(spans, each.span.span_id)) for each in spans if each.span.parent_span_id == parent
    ]


@contextmanager
def collecting() -> Iterator[Collector]:
    """Have a collector while the block lasts."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            known = self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
            if known:
                collector.take(otlp.ExportTraceServiceRequest.FromString(body))
            self.send_response(200 if known else 404)
            self.end_headers()

        def log_message(self, *_said: object) -> None:
            """Say nothing."""

    def export(request: otlp.ExportTraceServiceRequest, context: grpc.ServicerContext) -> Any:
        collector.metadata.append(dict(context.invocation_metadata()))
        collector.take(request)
        return otlp.ExportTraceServiceResponse()

    method = grpc.unary_unary_rpc_method_handler(
        export,
        otlp.ExportTraceServiceRequest.FromString,
        otlp.ExportTraceServiceResponse.SerializeToString,
    )
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    pool = ThreadPoolExecutor(2)
    server = grpc.server(pool)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_EXPORT, {"Export": method})])
    collector.http, collector.grpc = http.server_port, server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield collector
    finally:
        server.stop(0).wait(SOON)
        pool.shutdown()
        http.shutdown()
        http.server_close()
        thread.join(SOON)


def _plain(attributes: Any) -> dict[str, Any]:
    def value(of: AnyValue) -> Any:
        return getattr(of, of.WhichOneof("value"))

    return {each.key: value(each.value) for each in attributes if isinstance(each, KeyValue)}
