"""Tags of models as labels that Prometheus takes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from yais.serving.metric_labels import tag_labels

TAGS = st.dictionaries(st.text(max_size=6), st.text(st.characters(codec="utf-8"), max_size=6), max_size=4)


def test_no_tags() -> None:
    assert tag_labels([]) == ((), [])
    assert tag_labels([{}, {}]) == ((), [(), ()])


def test_each_model_has_a_value_for_every_label() -> None:
    names, values = tag_labels([{"team": "a", "zone": "b"}, {}, {"owner": "c", "team": ""}])
    assert names == ("_owner", "_team", "_zone")
    assert values == [("", "a", "b"), ("", "", ""), ("c", "", "")]


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("team", "_team"),
        ("Team2", "_Team2"),
        ("2nd", "_2nd"),
        ("a-b.c", "_a_b_c"),
        ("_x", "_x"),
        ("__name__", "_name__"),
        ("größe", "_gr__e"),
        ("", "_"),
    ],
)
def test_names(tag: str, name: str) -> None:
    assert tag_labels([{tag: "value"}]) == ((name,), [("value",)])


def test_tags_that_become_the_same() -> None:
    assert tag_labels([{"a_b": "second", "a.b": "first"}, {"a-b": "alone"}]) == (
        ("_a_b",),
        [("second",), ("alone",)],
    )


@given(st.lists(TAGS, max_size=4))
def test_prometheus_reads_what_is_written(tags: list[dict[str, str]]) -> None:
    names, values = tag_labels(tags)
    assert all(re.fullmatch("_([a-zA-Z0-9][a-zA-Z0-9_]*)?", name) for name in names)

    class Tagged:
        def collect(self) -> Iterator[Metric]:
            gauge = GaugeMetricFamily("tagged", "A model.", labels=("model", *names))
            for index, row in enumerate(values):
                gauge.add_metric((str(index), *row), 1)
            yield gauge

    registry = CollectorRegistry()
    registry.register(Tagged())  # type: ignore[arg-type]
    (family,) = text_string_to_metric_families(generate_latest(registry).decode())
    read = {int(sample.labels["model"]): sample.labels for sample in family.samples}
    assert len(read) == len(tags)
    for index, row in enumerate(values):
        assert {name: read[index][name] for name in names} == dict(zip(names, row, strict=True))
