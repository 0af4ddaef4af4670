"""Statistics of a model: counts and durations, with the invariants that Triton's clients rely on.

Per request: how long it was in the server, how long it waited in a queue, and, as everybody in a batch
waits for the whole batch, the batch's full time for gathering inputs, running and handing out outputs.
So success, queue and the three compute counts move together (kserve-v2.md, section 1.14).
"""

from __future__ import annotations

import copy
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from yais.core.clock import NANOSECONDS, monotonic
from yais.inference.job import Job
from yais.inference.scheduling.queue import CloseReason
from yais.telemetry.histogram import Histogram

__all__ = ["BatchRecord", "BatchStatistics", "Counts", "Duration", "ModelStatistics"]


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


@dataclass(slots=True, eq=False)
class BatchRecord:
    """One batch that succeeded. All moments are ns of one clock.

    Attributes
    ----------
    input_start, infer_start, infer_end, output_end
        When its stages began and ended.
    buffers_wait, token_wait, stream_wait
        How long it waited for a lane (before `input_start`), for an execution token (between `input_start`
        and `infer_start`), and for a device to copy its outputs (after `infer_end`).
    size
        Items in it.
    received, queued, waited
        For each of its requests that are answered, when it came in, when it was queued, and how long it
        waited for a context.
    """

    reason: CloseReason
    buffers_wait: int = 0
    token_wait: int = 0
    stream_wait: int = 0
    input_start: int = 0
    infer_start: int = 0
    infer_end: int = 0
    output_end: int = 0
    size: int = 0
    received: Sequence[int] = ()
    queued: Sequence[int] = ()
    waited: Sequence[int] = ()

    def of(self, jobs: Sequence[Job]) -> BatchRecord:
        """Return the record, completed now with what it says of its requests."""
        self.size = sum([job.size for job in jobs])
        answered = [job for job in jobs if not job.future.cancelled()]
        self.received = [job.request.received for job in answered]
        self.queued = [job.queued for job in answered]
        self.waited = [job.request.waited for job in answered]
        self.output_end = monotonic()
        return self

    @property
    def total(self) -> int:
        """How long all its stages took, ns."""
        return self.output_end - self.input_start

    def times(self) -> tuple[int, ...]:
        """Return a row for the columns of `ModelStatistics`."""
        start = self.infer_start
        return (
            self.size,
            len(self.received),
            self.input_start,
            start,
            self.infer_end,
            self.output_end,
            self.buffers_wait,
            self.token_wait,
            self.stream_wait,
            start - self.input_start - self.token_wait,
            self.infer_end - start,
        )

    def moments(self) -> Iterable[tuple[int, int, int]]:
        """Return a row for each request: received, queued, waited."""
        return zip(self.received, self.queued, self.waited, strict=True)


# Batches noted before they are counted: counting many at once is cheaper (measured per request:
# 0.7 us one by one, 0.4 us so, in batches of 10), and little of it comes before an answer leaves.
_JOURNAL = 512


class ModelStatistics:
    """Counts what happens in one version of a model. Thread-safe.

    Recording only notes what happened; the counts are brought up to date when they are read, or when
    many notes have gathered.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = Counts()
        self._journal: deque[BatchRecord] = deque()

    def record_batch(self, record: BatchRecord) -> None:
        """Note a batch that succeeded."""
        self._journal.append(record)
        if len(self._journal) >= _JOURNAL:
            with self._lock:
                self._settle()

    def record_failure(self, ns: int) -> None:
        """Count a request that failed after `ns` in the server."""
        with self._lock:
            self._counts.fail.add(ns)

    def record_hit(self, received: int, lookup: int) -> None:
        """Count a request that came in at `received` and was answered by the cache in `lookup` ns there."""
        now = monotonic()
        with self._lock:
            counts = self._counts
            counts.cache_hit.add(lookup)
            counts.success.add(now - received)
            counts.queue.add(now - received - lookup)
            counts.request_seconds.observe(np.array([now - received]) / NANOSECONDS)
            counts.last_inference = time.time_ns() // 1_000_000

    def record_miss(self, ns: int) -> None:
        """Count a request that the cache had no answer to, which took `ns` in all to find and to mend."""
        with self._lock:
            self._counts.cache_miss.add(ns)

    def snapshot(self) -> Counts:
        """Return a copy of all counts, taken at one moment."""
        with self._lock:
            self._settle()
            return copy.deepcopy(self._counts)

    def _settle(self) -> None:
        records = [self._journal.popleft() for _ in range(len(self._journal))]
        if not records:
            return
        counts = self._counts
        # By columns: a loop over the records costs several times as much.
        batches = np.array([record.times() for record in records], np.int64).T
        requests = np.array([moments for record in records for moments in record.moments()], np.int64)
        received, queued, contexts = requests.reshape(-1, 3).T
        sizes, numbers = batches[:2]
        input_start, _, infer_end, output_end, buffers_wait, tokens, streams, compute_input, compute = (
            np.repeat(batches[2:], numbers, axis=1)
        )
        waited = input_start - queued
        buffers = np.minimum(buffers_wait, waited)
        times = output_end - received
        # The end of the last batch on the clock that clients know; the records have another.
        age = monotonic() - records[-1].output_end
        counts.last_inference = (time.time_ns() - age) // 1_000_000
        counts.inferences += int(sizes.sum())
        counts.executions += len(records)
        counts.closed.update(record.reason for record in records)
        for duration, values in (
            (counts.success, times),
            (counts.queue, waited + tokens),  # to Triton's clients every wait before the computation
            (counts.compute_input, compute_input),
            (counts.compute_infer, compute),
            (counts.compute_output, output_end - infer_end),
        ):
            duration.add(int(values.sum()), len(values))
        self._count_sizes(batches)
        counts.batch_size.observe(sizes)
        counts.load_ratio.observe(times / np.maximum(compute, 1))
        for histogram, values in (
            (counts.request_seconds, times),
            (counts.queue_seconds, waited - buffers),
            (counts.compute_seconds, compute),
            (counts.context_seconds, contexts),
            (counts.buffers_seconds, buffers),
            (counts.token_seconds, tokens),
            (counts.stream_seconds, streams),
        ):
            histogram.observe(values / NANOSECONDS)

    def _count_sizes(self, batches: npt.NDArray[np.int64]) -> None:
        sizes, infer_end, output_end, compute_input, compute = batches[[0, 4, 5, 9, 10]]
        for size in np.unique(sizes).tolist():
            these = sizes == size
            number = int(these.sum())
            batch = self._counts.batches.setdefault(size, BatchStatistics())
            batch.compute_input.add(int(compute_input[these].sum()), number)
            batch.compute_infer.add(int(compute[these].sum()), number)
            batch.compute_output.add(int((output_end - infer_end)[these].sum()), number)
