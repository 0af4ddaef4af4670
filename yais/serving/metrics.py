"""Prometheus metrics of the models, read from their counts when Prometheus asks."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

import yais
from yais.inference.statistics import Counts
from yais.repository.repository import ModelRepository, ModelState
from yais.telemetry.histogram import Histogram

__all__ = ["ModelCollector"]

_LABELS = ("model", "version")


class ModelCollector(Collector):
    """Collects the metrics of all models of a repository. Thread-safe."""

    def __init__(self, repository: ModelRepository) -> None:
        self._repository = repository

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family."""
        build = GaugeMetricFamily("yais_build_info", "The running version.", labels=("version",))
        build.add_metric((yais.__version__,), 1)
        ready = GaugeMetricFamily("yais_model_ready", "Whether a model takes requests.", labels=_LABELS)
        load = GaugeMetricFamily("yais_model_load_seconds", "Time it took to load.", labels=_LABELS)
        pending = GaugeMetricFamily("yais_inference_pending_requests", "Requests queued.", labels=_LABELS)
        requests = CounterMetricFamily(
            "yais_inference_requests", "Requests answered, by outcome.", labels=(*_LABELS, "outcome")
        )
        items = CounterMetricFamily(
            "yais_inference_items", "Items inferred: a batch of n counts n.", labels=_LABELS
        )
        batches = CounterMetricFamily(
            "yais_inference_batches", "Batches executed, by why they closed.", labels=(*_LABELS, "reason")
        )
        histograms = _Histograms()
        for entry in self._repository.entries:
            labels = (entry.name, entry.version)
            ready.add_metric(labels, entry.state is ModelState.READY)
            if entry.loaded is None:
                continue
            counts = entry.loaded.model.counts()
            load.add_metric(labels, entry.seconds)
            pending.add_metric(labels, entry.loaded.model.pending)
            requests.add_metric((*labels, "success"), counts.success.count)
            requests.add_metric((*labels, "failure"), counts.fail.count)
            items.add_metric(labels, counts.inferences)
            for reason, count in counts.closed.items():
                batches.add_metric((*labels, reason.value), count)
            histograms.add(labels, counts)
        yield from (build, ready, load, pending, requests, items, batches)
        yield from histograms.families


class _Histograms:
    def __init__(self) -> None:
        self._size = HistogramMetricFamily("yais_inference_batch_size", "Items per batch.", labels=_LABELS)
        self._request = HistogramMetricFamily(
            "yais_inference_request_seconds", "From arrival to answer.", labels=_LABELS
        )
        self._queue = HistogramMetricFamily(
            "yais_inference_queue_seconds", "Waiting for a batch to start.", labels=_LABELS
        )
        self._compute = HistogramMetricFamily(
            "yais_inference_compute_seconds", "In the engine, as each request saw it.", labels=_LABELS
        )
        self.families = (self._size, self._request, self._queue, self._compute)

    def add(self, labels: tuple[str, str], counts: Counts) -> None:
        _add(self._size, labels, counts.batch_size)
        _add(self._request, labels, counts.request_seconds)
        _add(self._queue, labels, counts.queue_seconds)
        _add(self._compute, labels, counts.compute_seconds)


def _add(family: HistogramMetricFamily, labels: tuple[str, str], histogram: Histogram) -> None:
    family.add_metric(labels, histogram.cumulative(), histogram.sum)
