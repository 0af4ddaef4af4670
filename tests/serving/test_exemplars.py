"""Exemplars: the traces of requests, at the buckets of histograms that they fell into."""

from __future__ import annotations

import urllib.request
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from serving_models import SOON, eventually, one_process
from traced_models import ask, fill_traced, tracing

from yais.core.clock import NEVER, monotonic
from yais.core.future import Future
from yais.inference.counts import Counts
from yais.inference.request import InferRequest, InferResponse, ResponseForm
from yais.inference.request_trace import BatchMoments
from yais.rpc.metadata import Metadata
from yais.serving.exemplars import Exemplars, TracedTimes
from yais.serving.trace_settings import TraceOptions
from yais.serving.tracer import Tracer

MS = 1_000_000
FAMILIES = ("yais_inference_request_seconds", "yais_inference_compute_seconds", "yais_inference_load_ratio")


def times(trace: str, total: int, compute: int = 1) -> TracedTimes:
    return TracedTimes(
        {"trace_id": trace, "span_id": "05"}, 1_790_000_000_500_000_000, total * MS, compute * MS
    )


def test_the_last_of_each_bucket_is_kept() -> None:
    exemplars = Exemplars()
    for trace, total in (("01", 40), ("02", 400), ("03", 30)):
        exemplars.add("model", "1", times(trace, total))
    exemplars.add("model", "2", times("04", 40))
    found = exemplars.of("model", "1", "request_seconds")
    bounds = (*Counts().request_seconds.bounds, float("inf"))
    assert {bounds[number]: exemplar.labels["trace_id"] for number, exemplar in found.items()} == {
        0.05: "03",
        0.5: "02",
    }
    assert exemplars.of("model", "3", "request_seconds") == {}


@pytest.mark.parametrize(("total", "compute"), [(50, 50), (51, 0), (0, 0), (10**9, 1)])
def test_each_lies_within_its_bucket(total: int, compute: int) -> None:
    """As `Histogram` counts them: bounds are inclusive."""
    exemplars, counts = Exemplars(), Counts()
    exemplars.add("model", "1", times("01", total, compute))
    for name in ("request_seconds", "compute_seconds", "load_ratio"):
        histogram = getattr(counts, name)
        ((number, exemplar),) = exemplars.of("model", "1", name).items()
        histogram.observe([exemplar.value])
        assert histogram.counts[number] == 1, name


def test_what_models_are_kept_of_is_bounded() -> None:
    exemplars = Exemplars()
    for number in range(3000):
        exemplars.add(f"model {number}", "1", times("01", 1))
    assert len(exemplars._kept) <= 1024
    assert exemplars.of("model 2999", "1", "request_seconds")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return fill_traced(tmp_path_factory.mktemp("models"))


def provider(**options: Any) -> tuple[TracerProvider, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    made = TracerProvider(shutdown_on_exit=False, **options)
    made.add_span_processor(SimpleSpanProcessor(exporter))
    return made, exporter


def exemplars_of(page: str) -> dict[str, list[Any]]:
    families = {family.name: family for family in text_string_to_metric_families(page)}
    return {
        name: [sample for sample in families[name].samples if sample.exemplar is not None]
        for name in FAMILIES
    }


def scraped(server: Any, accept: str) -> str:
    url = f"http://127.0.0.1:{server.metrics_port}/metrics"
    asked = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(asked, timeout=SOON) as answer:
        text: str = answer.read().decode()
    return text


@one_process
def test_a_traced_request_is_the_exemplar_of_its_buckets(repository: Any) -> None:
    made, exporter = provider()
    with tracing(repository, mode="opentelemetry", provider=made, metrics_port=0) as (server, client):
        for value in (1, 2, 3):
            ask(client, "plain", value)
        eventually(lambda: [span.name for span in exporter.get_finished_spans()].count("InferRequest") == 3)
        page = scraped(server, "application/openmetrics-text;version=1.0.0")
        assert "trace_id" not in scraped(server, "text/plain")
    spans = {f"{span.context.span_id:016x}": span for span in exporter.get_finished_spans()}
    for name, samples in exemplars_of(page).items():
        assert samples, name
        for sample in samples:
            exemplar, span = sample.exemplar, spans[sample.exemplar.labels["span_id"]]
            assert span.name == sample.labels["model"] == "plain"
            assert exemplar.labels["trace_id"] == f"{span.context.trace_id:032x}"
            assert 0 < exemplar.value <= float(sample.labels["le"])
            assert span.start_time - 1000 <= float(exemplar.timestamp) * 1e9 <= span.end_time + 1000


class Caller:
    """A call that nobody tells about its answer: its trace is over when its request is."""

    waited = 0
    deadline = NEVER
    metadata = Metadata([])

    def __init__(self) -> None:
        self.accepted = monotonic()


@pytest.mark.parametrize(
    ("sampler", "error", "ran", "kept"),
    [
        (ALWAYS_ON, None, True, True),
        (ALWAYS_OFF, None, True, False),
        (ALWAYS_ON, ValueError("broken"), True, False),
        (ALWAYS_ON, None, False, False),  # answered by the cache, say
    ],
)
def test_what_is_one(sampler: Any, error: Exception | None, ran: bool, kept: bool) -> None:
    made, _ = provider(sampler=sampler)
    options = TraceOptions(mode="opentelemetry", level=("TIMESTAMPS",), rate=1, provider=made)
    tracer = Tracer(options, lambda *_: None)
    request = InferRequest([], [])
    trace = tracer.begin("model", "1", request, Caller())
    assert trace is not None
    if ran:
        now = monotonic()
        trace.batch(BatchMoments(1, now, now, now + 1, now + 3, now + 4))
    done: Future[InferResponse] = Future()
    trace.follow(done)
    if error is None:
        done.set_result(InferResponse(ResponseForm("model", "1", ()), "", ()))
    else:
        done.set_exception(error)
    tracer.close()
    found = tracer.exemplars.of("model", "1", "compute_seconds")
    assert [exemplar.value for exemplar in found.values()] == ([2e-9] if kept else [])
