"""OpenTelemetry spans of a server: what is within what, and within what the caller was doing."""

from __future__ import annotations

import sys

import pytest
import tritonclient.grpc as triton
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from serving_models import one_process
from traced_models import ask, fill_traced, tracing

from yais.core.clock import NEVER
from yais.core.future import Future
from yais.inference.request import InferRequest, InferResponse, ResponseForm
from yais.rpc.metadata import Metadata
from yais.serving.trace_settings import TraceOptions
from yais.serving.tracer import Tracer

TRACE = 0x0AF7651916CD43DD8448EB211C80319C
PARENT = 0xB7AD6B7169203331
TRACEPARENT = f"00-{TRACE:032x}-{PARENT:016x}-01"


class Spans:
    """A provider, and what it was given."""

    def __init__(self):
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def all(self):
        """Return the spans, each before those within it."""
        return sorted(self.exporter.get_finished_spans(), key=lambda span: (span.start_time, -span.end_time))

    def named(self, name):
        (span,) = [span for span in self.all() if span.name == name]
        return span

    def tree(self, parent=None):
        """Return the names of spans as a tree, by when they began."""
        of = parent.context.span_id if parent is not None else None
        within = [span for span in self.all() if (span.parent and span.parent.span_id) == of]
        return [(span.name, self.tree(span)) for span in within]


def events(span):
    return [event.name for event in span.events]


LEAF = [("queue", []), ("batch", [("compute", [])])]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return fill_traced(tmp_path_factory.mktemp("models"))


@pytest.fixture
def traced(repository):
    """Return the spans of what some callable asks of a server."""

    def traced(use, **options):
        spans = Spans()
        with tracing(repository, mode="opentelemetry", provider=spans.provider, **options) as (_, client):
            use(client)
        return spans

    return traced


@one_process
def test_a_request(traced):
    spans = traced(lambda client: ask(client, "plain", 1, request_id="mine"))
    assert spans.tree() == [("InferRequest", [("plain", LEAF)])]
    call, model, compute = spans.named("InferRequest"), spans.named("plain"), spans.named("compute")
    assert call.kind is SpanKind.SERVER
    assert events(call) == [
        "GRPC_WAITREAD_START",
        "GRPC_WAITREAD_END",
        "INFER_RESPONSE_COMPLETE",
        "GRPC_SEND_START",
        "GRPC_SEND_END",
    ]
    assert events(model) == ["REQUEST_START", "QUEUE_START", "REQUEST_END"]
    assert events(compute) == ["COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END"]
    assert {key: value for key, value in model.attributes.items() if key != "triton.trace_id"} == {
        "triton.model_name": "plain",
        "triton.model_version": 1,
        "triton.trace_parent_id": 0,
        "triton.request_id": "mine",
    }
    assert spans.named("batch").attributes["yais.batch_size"] == 1
    assert model.status.status_code is StatusCode.UNSET


@one_process
def test_times_are_nested(traced):
    spans = traced(lambda client: ask(client, "nested", 1))
    by_id = {span.context.span_id: span for span in spans.all()}
    assert len(by_id) == 1 + 4 + 1 + 3 * 4
    for span in by_id.values():
        assert span.start_time <= span.end_time
        assert all(span.start_time <= event.timestamp <= span.end_time for event in span.events)
        if span.parent is not None:
            within = by_id[span.parent.span_id]
            assert within.start_time <= span.start_time, (within.name, span.name)
            assert span.end_time <= within.end_time, (within.name, span.name)


@one_process
def test_steps_are_within_the_ensemble(traced):
    spans = traced(lambda client: ask(client, "nested", 1))
    ensemble = ("twice", [("plain", LEAF), ("plain", LEAF)])
    ((_, ((_, within),)),) = spans.tree()
    assert sorted(name for name, _ in within) == ["batch", "plain", "queue", "twice"]
    assert ensemble in within
    assert len({span.context.trace_id for span in spans.all()}) == 1


@one_process
def test_the_caller_is_traced(traced):
    """Its trace goes on, whatever the rate; baggage and the state of its tracer come along."""
    headers = {"traceparent": TRACEPARENT, "tracestate": "vendor=1", "baggage": "user=7"}

    def use(client):
        ask(client, "plain", 1)
        ask(client, "plain", 2, headers=headers)

    spans = traced(use, rate=0)
    call = spans.named("InferRequest")
    assert (call.context.trace_id, call.parent.span_id, call.parent.is_remote) == (TRACE, PARENT, True)
    assert call.context.trace_state == {"vendor": "1"}


@one_process
def test_callers_that_are_not_sampled(traced):
    headers = {"traceparent": TRACEPARENT[:-1] + "0"}
    spans = traced(lambda client: ask(client, "plain", 1, headers=headers), rate=0)
    assert spans.all() == []


@one_process
def test_what_went_wrong(traced):
    def use(client):
        with pytest.raises(triton.InferenceServerException):
            ask(client, "failing", 1)

    spans = traced(use)
    for span in (spans.named("InferRequest"), spans.named("failing")):
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description == "model 'failing' failed: broken"


@one_process
def test_answers_of_the_cache_have_no_batch(traced):
    def use(client):
        ask(client, "cached", 1)
        ask(client, "cached", 1)

    assert traced(use).tree()[1] == ("InferRequest", [("cached", [])])


@one_process
def test_settings(repository):
    options = {"mode": "opentelemetry", "provider": Spans().provider, "otel": {"url": "host:1/v1/traces"}}
    with tracing(repository, **options) as (_, client):
        settings = client.update_trace_settings(settings={"trace_rate": "0"}).settings
    assert {name: list(setting.value) for name, setting in settings.items()} == {
        "trace_level": ["TIMESTAMPS"],
        "trace_rate": ["0"],
        "trace_count": ["-1"],
        "trace_mode": ["opentelemetry"],
        "url": ["host:1/v1/traces"],
        "bsp_max_queue_size": ["2048"],
        "bsp_schedule_delay": ["5000"],
        "bsp_max_export_batch_size": ["512"],
    }


def test_settings_that_the_environment_has(monkeypatch):
    def told(**otel):
        options = TraceOptions(mode="opentelemetry", provider=Spans().provider, otel=otel)
        tracer = Tracer(options, lambda *_: None)
        settings = tracer.settings()
        tracer.close()
        return settings["url"], settings["bsp_schedule_delay"], settings["bsp_max_queue_size"]

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    assert told() == (["http://localhost:4317"], ["5000"], ["2048"])
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")
    assert told() == (["http://collector:4317"], ["50"], ["2048"])
    assert told(url="mine", bsp_schedule_delay="7") == (["mine"], ["7"], ["2048"])


class Caller:
    """A call that nobody tells about its answer."""

    accepted = waited = 0
    deadline = NEVER

    def __init__(self, traceparent=TRACEPARENT):
        self.metadata = Metadata([("traceparent", traceparent)])


@pytest.mark.parametrize(("flag", "traced"), [("0", False), ("1", True)])
def test_only_callers_that_are_sampled_are_always_traced(flag, traced):
    options = TraceOptions(mode="opentelemetry", level=("TIMESTAMPS",), rate=0, provider=Spans().provider)
    tracer = Tracer(options, lambda *_: None)
    caller = Caller(TRACEPARENT[:-1] + flag)
    assert (tracer.begin("model", "1", InferRequest([], []), caller) is not None) == traced
    tracer.close()


def test_a_call_that_has_a_span_already():
    """That of `yais.rpc.interceptors.tracing`, say: there is no second root."""
    spans = Spans()
    options = TraceOptions(mode="opentelemetry", level=("TIMESTAMPS",), rate=1, provider=spans.provider)
    tracer = Tracer(options, lambda *_: None)
    with spans.provider.get_tracer("tests").start_as_current_span("rpc") as rpc:
        request = InferRequest([], [])
        begun = tracer.begin("model", "1", request, Caller())
    begun.follow(done := Future())
    done.set_result(InferResponse(ResponseForm("model", "1", ()), "", ()))
    tracer.close()
    call = spans.named("InferRequest")
    assert call.parent == rpc.get_span_context()
    assert call.kind is SpanKind.INTERNAL
    assert request.trace is begun


def test_without_opentelemetry(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ImportError, match=r"pip install 'yais\[otel\]'"):
        Tracer(TraceOptions(mode="opentelemetry"), lambda *_: None)


def test_no_such_mode():
    with pytest.raises(ValueError, match="got trace mode 'jaeger'"):
        Tracer(TraceOptions(mode="jaeger"), lambda *_: None)
