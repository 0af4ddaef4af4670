"""Statistics of a model: counts and durations, with the invariants that Triton's clients rely on.

Per request: how long it was in the server, how long it waited in a queue, and, as everybody in a batch
waits for the whole batch, the batch's full time for gathering inputs, running and handing out outputs.
So success, queue and the three compute counts move together (kserve-v2.md, section 1.14).
"""

from __future__ import annotations

import copy
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from yais.inference.scheduling.queue import CloseReason
from yais.telemetry.histogram import Histogram

__all__ = ["BatchStatistics", "BatchTimes", "Counts", "Duration", "ModelStatistics"]


@dataclass(slots=True)
class Duration:
    """How often something happened and how long it took in all, in ns."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        """Count `count` more that took `ns` together."""
        self.count += count
        self.ns += ns


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """When the stages of one batch began and ended, ns."""

    input_start: int
    infer_start: int
    infer_end: int
    output_end: int


@dataclass(slots=True)
class BatchStatistics:
    """What batches of one size took; a count is a batch."""

    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)


# Bounds of the histograms: from below what a request takes without any work to where users give up.
_SECONDS = (50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1.0, 5.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def _seconds() -> Histogram:
    return Histogram(_SECONDS)


@dataclass(slots=True)
class Counts:
    """All that is counted for one version of a model.

    Attributes
    ----------
    last_inference
        When the last successful request ended, in ms of `time.time`; 0 before the first.
    inferences
        Items inferred: a request of batch n counts n.
    executions
        Batches executed.
    success, fail, queue, compute_input, compute_infer, compute_output
        Per request.
    batches
        By batch size.
    closed
        Batches by the reason they were closed.
    batch_size, request_seconds, queue_seconds, compute_seconds
        Histograms; all but the first observe every request.
    """

    last_inference: int = 0
    inferences: int = 0
    executions: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    batches: dict[int, BatchStatistics] = field(default_factory=dict)
    closed: Counter[CloseReason] = field(default_factory=Counter)
    batch_size: Histogram = field(default_factory=lambda: Histogram(_SIZES))
    request_seconds: Histogram = field(default_factory=_seconds)
    queue_seconds: Histogram = field(default_factory=_seconds)
    compute_seconds: Histogram = field(default_factory=_seconds)


class ModelStatistics:
    """Counts what happens in one version of a model. Thread-safe; one short lock per batch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = Counts()

    def record_batch(
        self,
        size: int,
        reason: CloseReason,
        received: Sequence[int],
        queued: Sequence[int],
        times: BatchTimes,
    ) -> None:
        """Count a batch that succeeded.

        Parameters
        ----------
        size
            Items in the batch.
        received, queued
            For each of its requests, when it came in and when it was queued, ns.
        """
        count = len(received)
        compute_input = times.infer_start - times.input_start
        compute_infer = times.infer_end - times.infer_start
        compute_output = times.output_end - times.infer_end
        counts = self._counts
        with self._lock:
            counts.last_inference = int(time.time() * 1000)
            counts.inferences += size
            counts.executions += 1
            counts.success.add(count * times.output_end - sum(received), count)
            counts.queue.add(count * times.input_start - sum(queued), count)
            counts.compute_input.add(count * compute_input, count)
            counts.compute_infer.add(count * compute_infer, count)
            counts.compute_output.add(count * compute_output, count)
            batch = counts.batches.get(size)
            if batch is None:
                batch = counts.batches[size] = BatchStatistics()
            batch.compute_input.add(compute_input)
            batch.compute_infer.add(compute_infer)
            batch.compute_output.add(compute_output)
            counts.closed[reason] += 1
            counts.batch_size.observe(size)
            counts.compute_seconds.observe(compute_infer / 1e9, count)
            for moment in received:
                counts.request_seconds.observe((times.output_end - moment) / 1e9)
            for moment in queued:
                counts.queue_seconds.observe((times.input_start - moment) / 1e9)

    def record_failure(self, ns: int) -> None:
        """Count a request that failed after `ns` in the server."""
        with self._lock:
            self._counts.fail.add(ns)

    def snapshot(self) -> Counts:
        """Return a copy of all counts, taken at one moment."""
        with self._lock:
            return copy.deepcopy(self._counts)
