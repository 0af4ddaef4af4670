"""All that is counted for a model."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from yais.inference.failure import FailureReason
from yais.inference.response_counts import ResponseCounts
from yais.inference.scheduling.queue import CloseReason
from yais.telemetry.histogram import Histogram
from yais.telemetry.recent import Recent

__all__ = ["BatchStatistics", "Counts", "Duration"]


@dataclass(slots=True)
class Duration:
    """How often something happened and how long it took in all, in ns."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        """Count `count` more that took `ns` together."""
        self.count += count
        self.ns += ns


@dataclass(slots=True)
class BatchStatistics:
    """What batches of one size took; a count is a batch."""

    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)


# Bounds of the histograms: from below what a request takes without any work to where users give up.
_SECONDS = (50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1.0, 5.0)
_FIRST_RESPONSE = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)  # Triton's, and some between them
_RATIOS = (1.25, 1.5, 2, 3, 5, 10, 30, 100)  # the original's, and some between them
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
        Per request. Those answered by the response cache are in the first and the third only.
    failures
        Failed requests by why.
    cache_hit, cache_miss
        Looking requests up in the response cache, and after a miss putting the response into it.
    batches
        By batch size.
    closed
        Batches by the reason they were closed.
    batch_size, request_seconds, compute_seconds
        Histograms; all but the first observe every request.
    context_seconds, queue_seconds, buffers_seconds, token_seconds, stream_seconds
        What every request waited for: a context of its RPC, a batch and an instance, a lane, an execution
        token, a device's copies.
    load_ratio
        Request time over compute time, of every request: how much longer it takes than it would alone.
    first_response_seconds
        From a request's arrival until its first response was handed out; of decoupled models only.
    responses
        The responses of decoupled models, by their place in the answer.
    recent
        The last requests that ran: when they ended, and what each was counted with as success, queue,
        compute_input, compute_infer and compute_output, ns.
    recent_hits, recent_misses
        The last that the cache answered, and that it did not: when, then what they were counted with as
        success, queue and cache_hit, or as cache_miss, ns.
    """

    last_inference: int = 0
    inferences: int = 0
    executions: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    failures: Counter[FailureReason] = field(default_factory=Counter)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    cache_hit: Duration = field(default_factory=Duration)
    cache_miss: Duration = field(default_factory=Duration)
    batches: dict[int, BatchStatistics] = field(default_factory=dict)
    closed: Counter[CloseReason] = field(default_factory=Counter)
    batch_size: Histogram = field(default_factory=lambda: Histogram(_SIZES))
    request_seconds: Histogram = field(default_factory=_seconds)
    queue_seconds: Histogram = field(default_factory=_seconds)
    compute_seconds: Histogram = field(default_factory=_seconds)
    context_seconds: Histogram = field(default_factory=_seconds)
    buffers_seconds: Histogram = field(default_factory=_seconds)
    token_seconds: Histogram = field(default_factory=_seconds)
    stream_seconds: Histogram = field(default_factory=_seconds)
    load_ratio: Histogram = field(default_factory=lambda: Histogram(_RATIOS))
    first_response_seconds: Histogram = field(default_factory=lambda: Histogram(_FIRST_RESPONSE))
    responses: ResponseCounts = field(default_factory=ResponseCounts)
    recent: Recent = field(default_factory=lambda: Recent(6))
    recent_hits: Recent = field(default_factory=lambda: Recent(4))
    recent_misses: Recent = field(default_factory=lambda: Recent(2))
