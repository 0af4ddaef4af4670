"""Prometheus metrics of the models, read from their counts when Prometheus asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

import yais
from yais.inference.statistics import Counts
from yais.repository.repository import ModelState
from yais.serving.resources import Models
from yais.telemetry.histogram import Histogram

__all__ = ["ModelCollector"]

_LABELS = ("model", "version")


class ModelCollector(Collector):
    """Collects the metrics of all models of a server. Thread-safe."""

    def __init__(self, models: Models) -> None:
        self._models = models

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
        for entry in self._models.entries:
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


# Families by the histogram of `Counts` they show; the waits are those of every request (docs/telemetry.md).
_HISTOGRAMS = {
    "batch_size": ("yais_inference_batch_size", "Items per batch."),
    "request_seconds": ("yais_inference_request_seconds", "From arrival to answer."),
    "compute_seconds": ("yais_inference_compute_seconds", "In the engine, as each request saw it."),
    "context_seconds": ("yais_inference_context_seconds", "Waiting for a context of the RPC."),
    "queue_seconds": (
        "yais_inference_queue_seconds",
        "Waiting for a batch and a free instance of the model.",
    ),
    "buffers_seconds": ("yais_inference_buffers_seconds", "Waiting for a lane: threads and staging memory."),
    "token_seconds": ("yais_inference_token_seconds", "Waiting for an execution token."),
    "stream_seconds": ("yais_inference_stream_seconds", "Waiting for a device to copy the outputs."),
    "load_ratio": ("yais_inference_load_ratio", "Request time over compute time; 1 is no waiting at all."),
}


class _Histograms:
    def __init__(self) -> None:
        self._families = {
            name: HistogramMetricFamily(family, text, labels=_LABELS)
            for name, (family, text) in _HISTOGRAMS.items()
        }

    @property
    def families(self) -> Iterable[HistogramMetricFamily]:
        return self._families.values()

    def add(self, labels: tuple[str, str], counts: Counts) -> None:
        for name, family in self._families.items():
            histogram: Histogram = getattr(counts, name)
            family.add_metric(labels, histogram.cumulative(), histogram.sum)
