"""OpenTelemetry spans: their parents, their attributes, and that they are current in the user's code."""

from __future__ import annotations

import sys
from contextlib import contextmanager

import grpc
import pytest
from echoing import SOON, eventually
from every_kind import MANY, PATHS, every_kind
from grpc_health.v1 import health_pb2, health_pb2_grpc
from incoming import METHOD, begun, incoming, pass_through
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

import yais
from yais.errors import Code
from yais.rpc.interceptors.tracing import Tracing

TRACE = 0x0AF7651916CD43DD8448EB211C80319C
PARENT = 0xB7AD6B7169203331
TRACEPARENT = ("traceparent", f"00-{TRACE:032x}-{PARENT:016x}-01")


class Traces:
    """A provider of its own, and what it has exported."""

    def __init__(self, **options):
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False, **options)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("tests")

    @property
    def spans(self):
        return self.exporter.get_finished_spans()

    def only(self):
        (span,) = self.spans
        return span


def span_of(call=None, code=Code.OK):
    traces = Traces()
    pass_through(Tracing(traces.provider), call, code)
    return traces.only()


@contextmanager
def without_opentelemetry(monkeypatch):
    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
            patch.delitem(sys.modules, name)
        patch.setitem(sys.modules, "opentelemetry", None)
        yield


def test_a_call_is_a_server_span():
    span = span_of()
    assert span.name == "tests.Service/Method" and span.kind is SpanKind.SERVER and span.parent is None
    assert dict(span.attributes) == {
        "rpc.system": "grpc",
        "rpc.service": "tests.Service",
        "rpc.method": "Method",
        "rpc.grpc.status_code": 0,
        "network.peer.address": "10.0.0.1",
        "network.peer.port": 5000,
        "network.transport": "tcp",
        "network.type": "ipv4",
    }
    assert span.instrumentation_scope.name == "yais.rpc"


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (
            "ipv6:%5B::1%5D:5000",
            {"peer.address": "::1", "peer.port": 5000, "transport": "tcp", "type": "ipv6"},
        ),
        ("unix:/run/x.sock", {"peer.address": "/run/x.sock", "transport": "unix"}),
        ("unix:", {"peer.address": "", "transport": "unix"}),
        ("unknown", {"peer.address": "unknown"}),
    ],
)
def test_peers_of_all_families(peer, expected):
    attributes = span_of(incoming(peer=peer)).attributes
    network = {name: value for name, value in attributes.items() if name.startswith("network.")}
    assert network == {f"network.{name}": value for name, value in expected.items()}


@pytest.mark.parametrize("code", Code)
def test_the_status_follows_from_the_code(code):
    span = span_of(code=code)
    assert span.attributes["rpc.grpc.status_code"] == code
    faults = {2, 4, 12, 13, 14, 15}  # as OpenTelemetry's conventions have it for servers
    if code in faults:
        assert span.status.status_code is StatusCode.ERROR and span.status.description == code.name
    else:
        assert span.status.status_code is StatusCode.UNSET


def test_the_span_lasts_until_the_end():
    traces = Traces()
    interception = begun(Tracing(traces.provider))
    assert traces.spans == ()
    interception.end(Code.OK)
    assert traces.only().end_time >= traces.only().start_time


def test_the_callers_trace_goes_on():
    span = span_of(incoming(metadata=[TRACEPARENT, ("tracestate", "x=1"), ("traceparent-bin", b"\0")]))
    assert (span.context.trace_id, span.parent.span_id) == (TRACE, PARENT)
    assert span.parent.is_remote and span.context.trace_state["x"] == "1"


@pytest.mark.parametrize("value", ["", "nonsense", "00-0-0-00", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_broken_traceparent_begins_a_trace(value):
    span = span_of(incoming(metadata=[("traceparent", value)]))
    assert span.parent is None and span.context.trace_id


def test_a_trace_that_the_caller_does_not_sample_is_not_recorded():
    traces = Traces()
    unsampled = (TRACEPARENT[0], TRACEPARENT[1][:-1] + "0")
    pass_through(Tracing(traces.provider), incoming(metadata=[unsampled]))
    assert traces.spans == ()


def test_calls_that_are_not_recorded_still_carry_the_trace():
    traces = Traces(sampler=ALWAYS_OFF)
    interception = begun(Tracing(traces.provider), incoming(metadata=[TRACEPARENT]))
    assert interception.run(trace.get_current_span).get_span_context().trace_id == TRACE
    interception.end(Code.INTERNAL)
    assert traces.spans == ()


def test_baggage_travels():
    from opentelemetry import baggage

    interception = begun(Tracing(Traces().provider), incoming(metadata=[("baggage", "user=alice")]))
    assert interception.run(baggage.get_baggage, "user") == "alice"


def test_the_span_of_the_thread_is_no_parent():
    traces = Traces()
    with traces.tracer.start_as_current_span("the thread's own") as outer:
        pass_through(Tracing(traces.provider))
        assert trace.get_current_span() is outer
    assert traces.spans[0].parent is None


def test_health_has_no_spans_by_default():
    traces = Traces()
    check = incoming("/grpc.health.v1.Health/Check")
    pass_through(Tracing(traces.provider), check)
    assert traces.spans == ()
    pass_through(Tracing(traces.provider, exempt=()), check)
    assert traces.only().name == "grpc.health.v1.Health/Check"


def test_the_processes_own_provider_is_the_default(monkeypatch):
    traces = Traces()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: traces.provider)
    pass_through(Tracing())
    assert traces.only().name == METHOD[1:]


def test_without_opentelemetry_the_extra_is_named(monkeypatch):
    with without_opentelemetry(monkeypatch), pytest.raises(ImportError, match=r"pip install 'yais\[otel\]'"):
        Tracing()


def test_every_kind_of_rpc_continues_the_callers_trace_and_is_the_parent_in_its_code():
    traces = Traces()

    def probe(_context):
        with traces.tracer.start_as_current_span("child"):
            return b"fine"

    with every_kind(probe, Tracing(traces.provider)) as every:
        for number, kind in enumerate(PATHS):
            traces.exporter.clear()
            parent = f"00-{TRACE + number:032x}-{PARENT:016x}-01"
            assert every.call(kind, [("traceparent", parent)]) == {b"fine"}
            eventually(lambda: any(span.kind is SpanKind.SERVER for span in traces.spans))
            *children, server = traces.spans
            assert server.name == PATHS[kind][1:] and server.status.status_code is StatusCode.UNSET
            assert (server.context.trace_id, server.parent.span_id) == (TRACE + number, PARENT), kind
            assert server.attributes["network.peer.address"] == "127.0.0.1"
            assert {child.parent.span_id for child in children} == {server.context.span_id}, kind
            if kind in {"ServerStreaming", "AsyncServerStreaming", "unary_stream"}:
                assert len(children) == MANY


def test_every_kind_of_rpc_tells_its_failure():
    def probe(_context):
        raise yais.Unavailable("not now")

    traces = Traces()
    with every_kind(probe, Tracing(traces.provider)) as every:
        for kind in PATHS:
            traces.exporter.clear()
            assert every.fail(kind).code() is grpc.StatusCode.UNAVAILABLE
            eventually(lambda: traces.spans)
            span = traces.only()
            assert (span.status.status_code, span.attributes["rpc.grpc.status_code"]) == (
                StatusCode.ERROR,
                14,
            ), kind


def test_probes_of_a_real_server_have_no_spans():
    traces = Traces()
    with every_kind(lambda _context: b"", Tracing(traces.provider)) as every:
        health_pb2_grpc.HealthStub(every.channel).Check(health_pb2.HealthCheckRequest(), timeout=SOON)
        every.call("Unary")
        eventually(lambda: traces.spans)
    assert traces.only().name == "tests.Every/Unary"
