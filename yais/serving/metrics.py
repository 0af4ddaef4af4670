"""Prometheus metrics of the models, read from their counts when Prometheus asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

import yais
from yais.core.clock import NANOSECONDS
from yais.inference.counts import Counts
from yais.inference.ensemble import EnsembleModel
from yais.inference.ensemble_step import StepCounts
from yais.inference.failure import FailureReason
from yais.inference.model import Model
from yais.repository.repository import ModelEntry
from yais.serving.exemplars import Exemplars
from yais.serving.metric_labels import tag_labels
from yais.serving.resources import Models
from yais.telemetry.exemplar import with_exemplars
from yais.telemetry.histogram import Histogram

__all__ = ["MetricsOptions", "ModelCollector"]


@dataclass(frozen=True, slots=True)
class MetricsOptions:
    """Which of Triton's metrics there are, beside yais' own.

    Attributes
    ----------
    counters, histograms, summaries
        Whether there are latencies as counters, histograms and summaries.
    quantiles
        Of summaries, each with the error that Triton allows it; here it is exact (`Recent`).
    cpu, gpu
        Whether there are metrics of the machine's CPUs and memory, and of its GPUs, where there are any.
    interval
        Seconds that the load of the CPUs is measured over, and that values of GPUs are kept for, at least.
    """

    counters: bool = True
    histograms: bool = False
    summaries: bool = False
    quantiles: tuple[tuple[float, float], ...] = (
        (0.5, 0.05),
        (0.9, 0.01),
        (0.95, 0.001),
        (0.99, 0.001),
        (0.999, 0.001),
    )
    cpu: bool = True
    gpu: bool = True
    interval: float = 2.0


_LABELS = ("model", "version")


class ModelCollector(Collector):
    """Collects the metrics of all models of a server, and of its process. Thread-safe.

    Parameters
    ----------
    models
        The models.
    exemplars
        What there is of them; none by default.
    """

    def __init__(self, models: Models, exemplars: Exemplars | None = None) -> None:
        self._models = models
        self._exemplars = exemplars or Exemplars()
        self._process = ProcessCollector(registry=None)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family."""
        yield from self._process.collect()
        build = GaugeMetricFamily("yais_build_info", "The running version.", labels=("version",))
        build.add_metric((yais.__version__,), 1)
        yield build
        entries = [entry for entry in self._models.entries if entry.version]
        tags, values = tag_labels(
            [entry.loaded.config.metric_tags if entry.loaded else {} for entry in entries]
        )
        families = _Families((*_LABELS, *tags), self._exemplars)
        for entry, of_tags in zip(entries, values, strict=True):
            families.add(entry, (entry.name, entry.version, *of_tags))
        yield from families


class _Families:
    """The families of metrics that every model has a part in."""

    def __init__(self, labels: tuple[str, ...], exemplars: Exemplars) -> None:
        def gauge(name: str, text: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"yais_{name}", text, labels=labels)

        def counter(name: str, text: str, *more: str) -> CounterMetricFamily:
            return CounterMetricFamily(f"yais_{name}", text, labels=(*labels, *more))

        self._ready = gauge("model_ready", "Whether a model takes requests; not of one that was unloaded.")
        self._load = gauge("model_load_seconds", "Time it took to load.")
        self._pending = gauge("inference_pending_requests", "Requests queued.")
        self._requests = counter("inference_requests", "Requests answered, by outcome.", "outcome")
        self._failures = counter("inference_failures", "Requests failed, by why.", "reason")
        self._items = counter("inference_items", "Items inferred: a batch of n counts n.")
        self._batches = counter("inference_batches", "Batches executed, by why they closed.", "reason")
        self._lookups = counter("inference_cache_lookups", "Lookups in the response cache.", "outcome")
        self._lookup = counter(
            "inference_cache_seconds", "Time taken by them, and by keeping what was missed.", "outcome"
        )
        self._slots = gauge("sequence_slots", "Sequences that a model can have at once.")
        self._used = gauge("sequence_slots_used", "Sequences that have a slot.")
        self._backlog = gauge("sequence_backlog", "Sequences that wait for a slot.")
        step = ("step", "step_model")
        self._steps = counter("ensemble_step_requests", "Requests to a step.", *step, "outcome")
        self._step_seconds = counter("ensemble_step_seconds", "Time they took.", *step)
        self._first = HistogramMetricFamily(
            "yais_inference_first_response_seconds",
            "From arrival to the first response, of decoupled models.",
            labels=labels,
        )
        self._exemplars = exemplars
        self._histograms = {
            name: HistogramMetricFamily(family, text, labels=labels)
            for name, (family, text) in _HISTOGRAMS.items()
        }

    def __iter__(self) -> Iterator[Metric]:
        for member in vars(self).values():
            if isinstance(member, Metric):
                yield member
        yield from self._histograms.values()

    def add(self, entry: ModelEntry, labels: tuple[str, ...]) -> None:
        if entry.loaded is None and entry.as_wanted:  # unloaded: nobody expects it to be ready
            return
        self._ready.add_metric(labels, entry.ready)
        if entry.loaded is None:
            return
        self._load.add_metric(labels, entry.seconds)
        model = entry.loaded.model
        self._pending.add_metric(labels, model.pending)
        counts = model.counts()
        self._add_counts(counts, labels)
        if model.decoupled:
            first = counts.first_response_seconds
            self._first.add_metric(labels, first.cumulative(), first.sum)
        if isinstance(model, Model) and (sequences := model.sequences()) is not None:
            self._slots.add_metric(labels, sequences.slots)
            self._used.add_metric(labels, sequences.used)
            self._backlog.add_metric(labels, sequences.backlog)
        if isinstance(model, EnsembleModel):
            self._add_steps(model.steps(), labels)

    def _add_counts(self, counts: Counts, labels: tuple[str, ...]) -> None:
        self._requests.add_metric((*labels, "success"), counts.success.count)
        self._requests.add_metric((*labels, "failure"), counts.fail.count)
        for why in FailureReason:
            self._failures.add_metric((*labels, why.value.lower()), counts.failures[why])
        self._items.add_metric(labels, counts.inferences)
        for reason, count in counts.closed.items():
            self._batches.add_metric((*labels, reason.value), count)
        for outcome, lookups in (("hit", counts.cache_hit), ("miss", counts.cache_miss)):
            if lookups.count:
                self._lookups.add_metric((*labels, outcome), lookups.count)
                self._lookup.add_metric((*labels, outcome), lookups.ns / NANOSECONDS)
        for name, family in self._histograms.items():
            histogram: Histogram = getattr(counts, name)
            exemplars = self._exemplars.of(labels[0], labels[1], name)
            buckets = with_exemplars(histogram.cumulative(), exemplars)
            family.add_metric(labels, buckets, histogram.sum)

    def _add_steps(self, steps: Sequence[StepCounts], labels: tuple[str, ...]) -> None:
        for number, step in enumerate(steps):
            of_step = (*labels, str(number), step.model)
            self._steps.add_metric((*of_step, "success"), step.requests)
            self._steps.add_metric((*of_step, "failure"), step.failures)
            self._step_seconds.add_metric(of_step, step.ns / NANOSECONDS)


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
