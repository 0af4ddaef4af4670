"""Exemplars of calls, by the interceptors `Metrics` and `Tracing` together."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client.openmetrics.parser import text_string_to_metric_families

import yais
from yais.telemetry.exposition import exposition
from yais.telemetry.metrics import registry_of
from yais.telemetry.openmetrics import openmetrics
from yais.testing import serving

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = [("traceparent", f"00-{TRACE}-b7ad6b7169203331-01")]


class Echo(yais.Context[bytes, bytes, yais.Resources]):
    def execute(self, request: bytes) -> bytes:
        return request


def called(metrics: yais.Metrics, *interceptors: Any) -> str:
    """Call a server that has these interceptors; return its metrics."""
    service = yais.Service("test.Echo")
    service.register("Say", Echo, contexts=1, deserialize=bytes, serialize=bytes)
    with serving(service, interceptors=[metrics, *interceptors]) as served:
        served.channel.unary_unary("/test.Echo/Say")(b"a", timeout=10, metadata=CALLER)
    registry = registry_of([metrics])
    assert TRACE not in exposition(registry)
    return openmetrics(registry)


def exemplars(page: str) -> list[Any]:
    return [
        (sample.labels["le"], sample.exemplar)
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.exemplar is not None
    ]


def test_a_call_with_a_span_is_one() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    page = called(yais.Metrics(exemplars=True), yais.Tracing(provider))
    ((bound, exemplar),) = exemplars(page)
    assert exemplar.labels["trace_id"] == TRACE
    assert exemplar.labels["span_id"] != "b7ad6b7169203331"
    assert 0 < exemplar.value <= float(bound)


@pytest.mark.parametrize("wanted", [True, False])
def test_others_are_none(wanted: bool) -> None:
    """Without a span, without one that is exported, and without asking for it."""
    provider = TracerProvider(shutdown_on_exit=False, sampler=ALWAYS_OFF)
    assert exemplars(called(yais.Metrics(exemplars=wanted))) == []
    assert exemplars(called(yais.Metrics(exemplars=wanted), yais.Tracing(provider))) == []
    provider = TracerProvider(shutdown_on_exit=False)
    found = exemplars(called(yais.Metrics(exemplars=wanted), yais.Tracing(provider)))
    assert bool(found) is wanted
