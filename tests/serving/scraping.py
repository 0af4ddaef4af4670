"""Metrics as Prometheus reads them."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families
from serving_models import SOON

from yais.serving.frontends.supervisor import Supervisor
from yais.serving.server import InferenceServer

Metrics = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""Values by name and labels, which are sorted."""


def scrape(server: InferenceServer | Supervisor) -> Metrics:
    """Return all metrics; every family has a help text and is there once."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=SOON) as response:
        assert response.headers["Content-Type"].startswith("text/plain")
        text = response.read().decode()
    families = list(text_string_to_metric_families(text))
    assert all(family.documentation for family in families)
    samples = [sample for family in families for sample in family.samples]
    values = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}
    assert len(values) == len(samples)
    return values


def value(metrics: Metrics, name: str, model: str, version: str = "1", **labels: str) -> float:
    """Return a value of a model; 0 if there is none."""
    key = tuple(sorted({"model": model, "version": version, **labels}.items()))
    return metrics.get((name, key), 0.0)
