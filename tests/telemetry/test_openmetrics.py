"""Metrics as OpenMetrics: for those who ask for it, and such that a strict parser reads them."""

from __future__ import annotations

import math
import urllib.request
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from yais.telemetry.exposition import CONTENT_TYPE, exposition
from yais.telemetry.metrics import MetricsServer, registry_of
from yais.telemetry.openmetrics import OPENMETRICS, metrics_page, openmetrics

SOON = 20.0

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


class Fixed(Collector):
    def __init__(self, *families: Metric) -> None:
        self.families = families

    def collect(self) -> Iterable[Metric]:
        return self.families


def histogram(*buckets: tuple[str, float] | tuple[str, float, Exemplar]) -> Metric:
    family = HistogramMetricFamily("seconds", "Text.", labels=("model",))
    family.add_metric(("m",), list(buckets), 0.25)
    return family


EXEMPLAR = Exemplar({"trace_id": "ab"}, 0.05, 1790000000.5)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (PROMETHEUS_2, True),
        (PROMETHEUS_3, True),
        ("application/openmetrics-text", True),
        ("text/plain, Application/OpenMetrics-Text; version=1.0.0", True),
        ("application/openmetrics-text; version=1.1.0", True),
        ("", False),
        ("*/*", False),
        ("text/plain;version=0.0.4", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("application/openmetrics-text;version=0.0.1", False),
        ("application/openmetrics-text;version=2.0.0", False),
        ("application/openmetrics-text;version=1.0.0;q=0", False),
        ("application/openmetrics-texts", False),
        (";,;=,,", False),
    ],
)
def test_who_gets_it(accept: str, wanted: bool) -> None:
    registry = registry_of([Fixed(histogram(("0.1", 1, EXEMPLAR), ("+Inf", 2)))])
    expected = (openmetrics(registry), OPENMETRICS) if wanted else (exposition(registry), CONTENT_TYPE)
    assert metrics_page(registry, accept) == expected


def test_exemplars_are_there_for_those_only() -> None:
    registry = registry_of([Fixed(histogram(("0.1", 1, EXEMPLAR), ("+Inf", 2)))])
    plain = registry_of([Fixed(histogram(("0.1", 1), ("+Inf", 2)))])
    assert exposition(registry) == exposition(plain)
    assert openmetrics(registry).splitlines() == [
        "# HELP seconds Text.",
        "# TYPE seconds histogram",
        'seconds_bucket{le="0.1",model="m"} 1.0 # {trace_id="ab"} 0.05 1790000000.5',
        'seconds_bucket{le="+Inf",model="m"} 2.0',
        'seconds_count{model="m"} 2.0',
        'seconds_sum{model="m"} 0.25',
        "# EOF",
    ]


def test_counters_of_other_names_keep_them() -> None:
    odd = Metric("nv_inference_count", "Text.", "counter")
    odd.add_sample("nv_inference_count", {"model": "m"}, 3.0)
    usual = CounterMetricFamily("calls", "Calls.", value=2)
    assert openmetrics(registry_of([Fixed(odd), Fixed(usual)])).splitlines() == [
        "# HELP nv_inference_count Text.",
        "# TYPE nv_inference_count unknown",
        'nv_inference_count{model="m"} 3.0',
        "# HELP calls Calls.",
        "# TYPE calls counter",
        "calls_total 2.0",
        "# EOF",
    ]


@given(
    bounds=st.lists(st.floats(0, 1e9, exclude_min=True), min_size=1, max_size=6, unique=True),
    quantile=st.sampled_from(["0.5", "0.999", "1", "0"]),
)
def test_a_strict_parser_reads_it(bounds: list[float], quantile: str) -> None:
    """Bounds however they were written: the format has one way only."""
    buckets = [(f"{bound:g}", float(number)) for number, bound in enumerate(sorted(bounds))]
    distinct = list({float(bound): (bound, count) for bound, count in buckets}.values())
    summary = Metric("us", "Text.", "summary")
    summary.add_sample("us", {"quantile": quantile}, math.nan)
    registry = registry_of([Fixed(histogram(*distinct, ("+Inf", 6.0))), Fixed(summary)])
    read = list(text_string_to_metric_families(openmetrics(registry)))
    assert [family.name for family in read] == ["seconds", "us"]
    found = [float(s.labels["le"]) for s in read[0].samples if s.name == "seconds_bucket"]
    assert found == [*(float(bound) for bound, _ in distinct), math.inf]
    assert [float(sample.labels["quantile"]) for sample in read[1].samples] == [float(quantile)]


def test_over_http() -> None:
    server = MetricsServer([Fixed(histogram(("0.1", 1, EXEMPLAR), ("+Inf", 2)))], address="127.0.0.1", port=0)
    try:
        url = f"http://127.0.0.1:{server.port}/metrics"
        asked = urllib.request.Request(url, headers={"Accept": PROMETHEUS_2})
        with urllib.request.urlopen(asked, timeout=SOON) as answer:
            assert answer.headers["Content-Type"] == OPENMETRICS
            text = answer.read().decode()
    finally:
        server.close()
    (family,) = text_string_to_metric_families(text)
    first, *others = [sample.exemplar for sample in family.samples]
    assert (first.labels, first.value, float(first.timestamp)) == EXEMPLAR
    assert others == [None, None, None]
