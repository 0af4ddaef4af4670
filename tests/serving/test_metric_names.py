"""Every metric: documented, named as Prometheus wants it, and there if a manifest of k8s/ names it."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import promql_parser as promql
import pytest
import yaml

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "scripts"))

from every_metric import Family, every_metric, parsed  # noqa: E402

BASE_UNITS = {"seconds", "bytes", "ratio"}
OTHER_UNITS = "milliseconds|ms|us|ns|microseconds|nanoseconds|minutes|kb|mb|mib|kilobytes|percent|secs"

# What Grafana and prometheus-adapter put in, and what stands for it here.
TEMPLATES = {
    "$__rate_interval": "5m",
    "<<.Series>>": "SERIES",
    "<<.LabelMatchers>>": "",
    "<<.GroupBy>>": "pod",
}


@pytest.fixture(scope="module")
def families() -> list[Family]:
    return every_metric()


@pytest.fixture(scope="module")
def samples(families: list[Family]) -> set[str]:
    return set().union(*(family.samples for family in families))


def script(name: str) -> ModuleType:
    """Return a program of scripts/ as a module."""
    loader = SourceFileLoader(name.replace("-", "_"), str(ROOT / "scripts" / name))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module  # where NamedTuple looks
    loader.exec_module(module)
    return module


def manifests() -> Iterator[tuple[Path, Any]]:
    """Yield the documents of k8s/, but for schemas, and the dashboards."""
    for path in sorted((ROOT / "k8s").rglob("*")):
        if "schemas" in path.relative_to(ROOT).parts:
            continue
        if path.suffix in {".yaml", ".yml"}:
            yield from ((path, document) for document in yaml.safe_load_all(path.read_text()))
        elif path.suffix == ".json":
            yield path, json.loads(path.read_text())


def found(value: Any, key: str) -> Iterator[Any]:
    """Yield what stands under a key, however deep."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key:
                yield inner
            yield from found(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from found(inner, key)


def queries(document: Any) -> Iterator[str]:
    """Yield the PromQL of a manifest: of rules, dashboards, KEDA's triggers, and the adapter."""
    yield from found(document, "expr")
    yield from found(document, "seriesQuery")
    for rule in found(document, "rules"):
        for each in rule if isinstance(rule, list) else ():
            if isinstance(each, dict) and "metricsQuery" in each:
                series = each["seriesQuery"].partition("{")[0]
                yield each["metricsQuery"].replace("<<.Series>>", series)
    if isinstance(document, dict) and document.get("kind") == "ScaledObject":
        triggers = document["spec"]["triggers"]
        yield from (each["metadata"]["query"] for each in triggers if each["type"] == "prometheus")
    for variable in (each for variables in found(document, "templating") for each in variables["list"]):
        if of := re.fullmatch(r"label_values\((.*), *\w+\)", variable["query"]):
            yield of[1]


def named(query: str) -> set[str]:
    """Return the metrics that a query names."""
    for template, value in TEMPLATES.items():
        query = query.replace(template, value)
    names: set[str] = set()

    def visit(node: promql.Expr) -> None:
        if isinstance(node, promql.VectorSelector):
            names.update({node.name} - {None})
            names.update(matcher.value for matcher in node.matchers.matchers if matcher.name == "__name__")

    promql.walk(promql.parse(query), visit)
    return names


def recorded() -> set[str]:
    return {name for _, document in manifests() for name in found(document, "record")}


def test_what_manifests_name_is_there(samples: set[str]) -> None:
    there = samples | recorded()
    of_prometheus = {"up", "scrape_duration_seconds"}
    missing = {
        (str(path.relative_to(ROOT)), name)
        for path, document in manifests()
        for query in queries(document)
        for name in named(query) - there - of_prometheus
    }
    assert missing == set()


def test_what_pods_are_scaled_by_is_what_the_adapter_makes(samples: set[str]) -> None:
    made = {
        rule["name"]["as"]
        for _, document in manifests()
        for rules in found(document, "rules")
        for rule in rules
        if isinstance(rule, dict) and "metricsQuery" in rule
    }
    scaled = {
        metric[kind]["metric"]["name"]
        for _, document in manifests()
        if isinstance(document, dict) and document.get("kind") == "HorizontalPodAutoscaler"
        for metric in document["spec"]["metrics"]
        for kind in ("pods", "object", "external")
        if kind in metric
    }
    assert "yais_load_ratio" in made
    assert scaled <= made


def test_queries_are_found() -> None:
    document = {
        "kind": "ScaledObject",
        "spec": {
            "triggers": [{"type": "prometheus", "metadata": {"query": "max(a[1m])"}}, {"type": "cpu"}],
            "rules": [{"seriesQuery": 'b{c=""}', "metricsQuery": "sum(<<.Series>>{<<.LabelMatchers>>})"}],
            "groups": [{"rules": [{"expr": "d / on (x) rate(e[$__rate_interval:])"}]}],
        },
        "templating": {"list": [{"query": "label_values(f, g)"}, {"query": "prometheus"}]},
    }
    assert set(queries(document)) == {
        "max(a[1m])",
        'b{c=""}',
        "sum(b{<<.LabelMatchers>>})",
        "d / on (x) rate(e[$__rate_interval:])",
        "f",
    }
    assert named("d / on (x) rate(e[$__rate_interval:])") == {"d", "e"}
    assert named('{__name__="h", i="j"} or absent(k)') == {"h", "k"}


def test_names(families: list[Family]) -> None:
    """As Prometheus recommends; Triton's are Triton's."""
    for family in families:
        name = family.name
        if name.startswith("nv_"):
            continue
        assert re.fullmatch(r"(yais|process)(_[a-z0-9]+)+", name), name
        assert (family.kind == "counter") == name.endswith("_total"), name
        assert not re.search(rf"_({OTHER_UNITS})(_|$)", name), name
        assert not re.search(r"_(count|sum|bucket)$", name), name
        assert family.text.endswith(".") and not family.text[0].islower(), name
        if units := BASE_UNITS & set(name.split("_")):
            assert name.removesuffix("_total").endswith(tuple(units)), name


def test_the_page_is_up_to_date(families: list[Family]) -> None:
    text = (ROOT / "docs/metrics.md").read_text()
    assert script("metrics-page").page(families) == text, "run scripts/metrics-page"
    assert [family.name for family in families if f"| `{family.name}` |" not in text] == []


def test_the_dashboard_is_up_to_date() -> None:
    generator = script("dashboard")
    assert generator.DASHBOARD.read_text() == generator.text(), "run scripts/dashboard"
    panels = json.loads(generator.text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)


def test_a_page_is_parsed() -> None:
    text = (
        '# HELP a_total Text.\n# TYPE a_total counter\na_total{b="c"} 1\n'
        '# HELP d Of.\n# TYPE d histogram\nd_bucket{le="1"} 0\nd_sum 2\n# HELP e None.\n# TYPE e gauge\n'
    )
    assert parsed(text) == [
        Family("a_total", "counter", "Text.", ("b",), frozenset({"a_total"})),
        Family("d", "histogram", "Of.", (), frozenset({"d_bucket", "d_sum"})),
        Family("e", "gauge", "None.", (), frozenset()),
    ]
