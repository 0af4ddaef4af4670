"""Metrics as text: what Prometheus reads is what was collected."""

from __future__ import annotations

import gzip
import math
import urllib.error
import urllib.request
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from yais.telemetry.exposition import exposition
from yais.telemetry.metrics import MetricsServer, registry_of

SOON = 20.0


class Fixed(Collector):
    def __init__(self, *families: Metric) -> None:
        self.families = families

    def collect(self) -> Iterable[Metric]:
        return self.families


def text_of(*families: Metric) -> str:
    return exposition(registry_of([Fixed(*families)]))


def counter(name: str, **values: float) -> Metric:
    family = Metric(name, f"{name}_total 1.0 \\ of", "counter")
    for label, value in values.items():
        family.add_sample(name, {"label": label}, value)
    return family


def test_a_counter_keeps_the_name_of_its_samples() -> None:
    assert text_of(counter("nv_inference_count", a=3.0, b=2.5)).splitlines() == [
        "# HELP nv_inference_count nv_inference_count_total 1.0 \\\\ of",
        "# TYPE nv_inference_count counter",
        'nv_inference_count{label="a"} 3',
        'nv_inference_count{label="b"} 2.5',
    ]


def test_others_have_the_suffix_of_prometheus_client() -> None:
    family = CounterMetricFamily("calls", "Calls.", labels=("kind",))
    family.add_metric(("1.0",), 4)
    assert text_of(family, counter("calls_made", x=1)).splitlines() == [
        "# HELP calls_total Calls.",
        "# TYPE calls_total counter",
        'calls_total{kind="1.0"} 4',
        "# HELP calls_made calls_made_total 1.0 \\\\ of",
        "# TYPE calls_made counter",
        'calls_made{label="x"} 1',
    ]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0"),
        (12345678.0, "12345678"),
        (2.0**53 - 1, "9007199254740991"),
        (2.0**60, "1.152921504606847e+18"),
        (-3.0, "-3"),
        (1e-7, "1e-07"),
        (math.inf, "+Inf"),
        (math.nan, "NaN"),
    ],
)
def test_numbers(value: float, written: str) -> None:
    assert text_of(GaugeMetricFamily("x", "1.0", value)) == f"# HELP x 1.0\n# TYPE x gauge\nx {written}\n"


@given(
    st.lists(
        st.tuples(st.text(max_size=5), st.floats() | st.integers(-(10**9), 10**9).map(float)),
        max_size=5,
        unique_by=lambda sample: sample[0],
    ),
    st.sampled_from(["counter", "gauge"]),
)
def test_there_and_back(samples: list[tuple[str, float]], kind: str) -> None:
    made = Metric("nv_x", "Text 1.0", kind)
    for label, value in samples:
        made.add_sample("nv_x", {"label": label}, value)
    (read,) = text_string_to_metric_families(text_of(made))
    assert (read.name, read.documentation) == ("nv_x", "Text 1.0")
    assert read.type == kind
    assert len(read.samples) == len(samples)
    for sample, (label, value) in zip(read.samples, samples, strict=True):
        name = "nv_x_total" if kind == "counter" else "nv_x"  # which the parser adds where it is not
        assert (sample.name, sample.labels) == (name, {"label": label})
        assert sample.value == value or (math.isnan(sample.value) and math.isnan(value))


def test_all_kinds_of_prometheus_client() -> None:
    registry = CollectorRegistry()
    Counter("c", "C.", registry=registry).inc(2)
    Gauge("g", "G.", registry=registry).set(1.5)
    Histogram("h", "H.", registry=registry, buckets=(1, 2)).observe(1.5)
    Info("i", "I.", registry=registry).info({"version": "1.0"})
    samples = [s for family in text_string_to_metric_families(exposition(registry)) for s in family.samples]
    values = {(sample.name, *sample.labels.values()): sample.value for sample in samples}
    assert values[("c_total",)] == 2 and values[("g",)] == 1.5 and values[("i_info", "1.0")] == 1
    assert [values["h_bucket", bound] for bound in ("1.0", "2.0", "+Inf")] == [0, 1, 1]
    assert values[("c_created",)] > 1e9


def test_over_http() -> None:
    server = MetricsServer(registry_of([Fixed(counter("x", a=1))]), address="127.0.0.1", port=0)
    try:
        url = f"http://127.0.0.1:{server.port}/metrics"
        with urllib.request.urlopen(url, timeout=SOON) as plain:
            assert plain.headers["Content-Type"] == "text/plain; charset=utf-8"
            text = plain.read()
        assert text.splitlines()[-1] == b'x{label="a"} 1'
        # As those who scrape ask that know no other format.
        accept = {"Accept-Encoding": "gzip", "Accept": "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"}
        with urllib.request.urlopen(urllib.request.Request(url, headers=accept), timeout=SOON) as packed:
            assert packed.headers["Content-Encoding"] == "gzip"
            assert packed.headers["Content-Type"] == "text/plain; charset=utf-8"
            assert gzip.decompress(packed.read()) == text
        with pytest.raises(urllib.error.HTTPError, match="405"):
            urllib.request.urlopen(url, data=b"", timeout=SOON)
    finally:
        server.close()
