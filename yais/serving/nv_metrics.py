"""The metrics of models as Triton has them: its names, units and labels, so that dashboards work."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from yais.core.clock import NANOSECONDS, monotonic
from yais.inference.counts import Counts
from yais.inference.failure import FailureReason
from yais.repository.repository import LoadedModel
from yais.serving.metric_labels import tag_labels
from yais.serving.metrics import MetricsOptions
from yais.serving.nv_latencies import CACHE, LATENCIES, Latency
from yais.serving.resources import Models

__all__ = ["NvModelCollector"]

_MICROSECOND = 1000
_AGE = 60 * NANOSECONDS  # of what a summary shows, at most; prometheus-cpp's default, and so Triton's
_FIRST_RESPONSE = ("0.1", "0.5", "2.0", "5.0")  # Triton's bounds, of those that there are

Labels = dict[str, str]

# Triton's texts.
_SUCCESS = "Number of successful inference requests, all batch sizes"
_FAILURE = "Number of failed inference requests, all batch sizes"
_COUNT = "Number of inferences performed (does not include cached requests)"
_EXECUTIONS = "Number of model executions performed (does not include cached requests)"
_PENDING = "Instantaneous number of pending requests awaiting execution per-model."
_FIRST = "Duration from request to first response in milliseconds"
_PLURALS = {"hit": "hits", "miss": "misses"}


class NvModelCollector(Collector):
    """Collects what Triton tells of all models of a server. Thread-safe.

    Parameters
    ----------
    models
        The models; those that are not loaded are left out.
    options
        Which latencies there are.
    """

    def __init__(self, models: Models, options: MetricsOptions) -> None:
        self._models = models
        self._options = options

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family that has a sample."""
        families = _Families(self._options)
        for entry in self._models.entries:
            if entry.loaded is not None:
                families.add(entry.loaded, entry.seconds)
        yield from families


class _Families:
    """The families, in the order of their first samples."""

    def __init__(self, options: MetricsOptions) -> None:
        self._options = options
        self._families: dict[str, Metric] = {}
        self._since = monotonic() - _AGE

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._families.values())

    def add(self, loaded: LoadedModel, load_seconds: float) -> None:
        """Add the samples of a model."""
        model = loaded.model
        names, (values,) = tag_labels([loaded.config.metric_tags])
        labels = {"model": model.name, "version": model.version, **dict(zip(names, values, strict=True))}
        counts = model.counts()
        self._add_requests(counts, labels)
        if self._options.counters:
            for latency in LATENCIES:
                name = f"nv_inference_{latency.name}_duration_us"
                text = f"Cumulative {latency.text}"
                self._sample("counter", name, text, labels, latency.of(counts).ns // _MICROSECOND)
        if self._options.histograms and model.decoupled:
            self._add_first_responses(counts, labels)
        if self._options.summaries:
            for latency in LATENCIES:
                self._add_summary(f"nv_inference_{latency.name}_summary_us", latency, counts, labels)
        if loaded.config.response_cache.enable:
            self._add_cache(counts, labels)
        self._sample("gauge", "nv_inference_pending_request_count", _PENDING, labels, model.pending)
        self._sample(
            "gauge", "nv_model_load_duration_secs", "Model load time in seconds", labels, load_seconds
        )

    def _add_requests(self, counts: Counts, labels: Labels) -> None:
        self._sample("counter", "nv_inference_request_success", _SUCCESS, labels, counts.success.count)
        for reason in FailureReason:
            failed = {**labels, "reason": reason.value}
            self._sample("counter", "nv_inference_request_failure", _FAILURE, failed, counts.failures[reason])
        self._sample("counter", "nv_inference_count", _COUNT, labels, counts.inferences)
        self._sample("counter", "nv_inference_exec_count", _EXECUTIONS, labels, counts.executions)

    def _add_cache(self, counts: Counts, labels: Labels) -> None:
        for cached in CACHE:
            lookups = cached.of(counts)
            name = f"nv_cache_num_{_PLURALS[cached.name]}_per_model"
            self._sample(
                "counter", name, f"Number of cache {_PLURALS[cached.name]} per model", labels, lookups.count
            )
            name = f"nv_cache_{cached.name}_duration_per_model"
            text = f"Total {cached.text} duration per model, in microseconds"
            self._sample("counter", name, text, labels, lookups.ns // _MICROSECOND)
            if self._options.summaries:
                self._add_summary(f"nv_cache_{cached.name}_summary_per_model", cached, counts, labels)

    def _add_summary(self, name: str, latency: Latency, counts: Counts, labels: Labels) -> None:
        summary = self._family("summary", name, f"Summary of {latency.text}")
        total = latency.of(counts)
        summary.add_sample(f"{name}_count", labels, total.count)
        summary.add_sample(f"{name}_sum", labels, total.ns // _MICROSECOND)
        recent = latency.recent(counts, self._since)
        for quantile, _ in self._options.quantiles:
            value = (
                np.quantile(recent, quantile, method="inverted_cdf") // _MICROSECOND
                if len(recent)
                else math.nan
            )
            summary.add_sample(name, {**labels, "quantile": f"{quantile:g}"}, float(value))

    def _add_first_responses(self, counts: Counts, labels: Labels) -> None:
        name = "nv_inference_first_response_histogram_ms"
        histogram = self._family("histogram", name, _FIRST)
        seconds = counts.first_response_seconds
        buckets: Mapping[str, float] = dict(seconds.cumulative())
        histogram.add_sample(f"{name}_count", labels, buckets["+Inf"])
        histogram.add_sample(f"{name}_sum", labels, seconds.sum * 1e3)
        for bound in _FIRST_RESPONSE:
            le = f"{float(bound) * 1e3:g}"
            histogram.add_sample(f"{name}_bucket", {**labels, "le": le}, buckets[bound])
        histogram.add_sample(f"{name}_bucket", {**labels, "le": "+Inf"}, buckets["+Inf"])

    def _sample(self, kind: str, name: str, text: str, labels: Labels, value: float) -> None:
        self._family(kind, name, text).add_sample(name, labels, value)

    def _family(self, kind: str, name: str, text: str) -> Metric:
        family = self._families.get(name)
        if family is None:
            family = self._families[name] = Metric(name, text, kind)
        return family
