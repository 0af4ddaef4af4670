"""Statistics of a model: counts and durations, with the invariants that Triton's clients rely on.

Per request: how long it was in the server, how long it waited in a queue, and, as everybody in a batch
waits for the whole batch, the batch's full time for gathering inputs, running and handing out outputs.
So success, queue and the three compute counts move together (kserve-v2.md, section 1.14).
"""

from __future__ import annotations

import copy
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from yais.core.clock import NANOSECONDS, monotonic
from yais.inference.batch_record import BatchRecord
from yais.inference.counts import BatchStatistics, Counts
from yais.inference.failure import FailureReason
from yais.inference.response_counts import ResponseEnd, ResponseTime

__all__ = ["ModelStatistics"]

_NoteT = TypeVar("_NoteT")


# Notes taken before they are counted: counting many at once is cheaper (measured per request:
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
        self._hits: deque[tuple[int, int, int]] = deque()  # answered, received, lookup; all ns
        self._misses: deque[tuple[int, int]] = deque()  # until when, how long; both ns

    def record_batch(self, record: BatchRecord) -> None:
        """Note a batch that succeeded."""
        self._journal.append(record)
        if len(self._journal) >= _JOURNAL:
            with self._lock:
                self._settle()

    def record_failure(self, ns: int, reason: FailureReason) -> None:
        """Count a request that failed after `ns` in the server."""
        with self._lock:
            self._counts.fail.add(ns)
            self._counts.failures[reason] += 1

    def record_responses(
        self, responses: Sequence[ResponseTime], end: ResponseEnd, ns: int, first: int | None
    ) -> None:
        """Count the responses to a request of a decoupled model.

        Parameters
        ----------
        end, ns
            How the answer ended, and how long after the last response.
        first
            When the first response was handed out, ns after the request came in; None if there was none.
        """
        with self._lock:
            self._counts.responses.add(responses, end, ns)
            if first is not None:
                self._counts.first_response_seconds.observe([first / NANOSECONDS])

    def record_hit(self, received: int, lookup: int) -> None:
        """Note a request that came in at `received` and was answered by the cache in `lookup` ns there."""
        self._hits.append((monotonic(), received, lookup))
        if len(self._hits) >= _JOURNAL:
            with self._lock:
                self._settle()

    def record_miss(self, ns: int) -> None:
        """Note a request that the cache had no answer to, which took `ns` in all to find and to mend."""
        self._misses.append((monotonic(), ns))
        if len(self._misses) >= _JOURNAL:
            with self._lock:
                self._settle()

    def snapshot(self) -> Counts:
        """Return a copy of all counts, taken at one moment."""
        with self._lock:
            self._settle()
            return copy.deepcopy(self._counts)

    def _settle(self) -> None:
        if records := _taken(self._journal):
            self._settle_batches(records)
        if hits := _taken(self._hits):
            self._settle_hits(_table(hits, 3))
        if misses := _taken(self._misses):
            table = _table(misses, 2)
            self._counts.cache_miss.add(int(table[:, 1].sum()), len(misses))
            self._counts.recent_misses.observe(table)

    def _settle_hits(self, hits: npt.NDArray[np.int64]) -> None:
        counts = self._counts
        answered, received, lookups = hits.T
        times = answered - received
        for duration, values in (
            (counts.cache_hit, lookups),
            (counts.success, times),
            (counts.queue, times - lookups),
        ):
            duration.add(int(values.sum()), len(values))
        counts.request_seconds.observe(times / NANOSECONDS)
        counts.recent_hits.observe(np.stack((answered, times, times - lookups, lookups), axis=1))
        counts.last_inference = max(counts.last_inference, _milliseconds(int(answered[-1])))

    def _settle_batches(self, records: Sequence[BatchRecord]) -> None:
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
        output = output_end - infer_end
        counts.last_inference = max(counts.last_inference, _milliseconds(records[-1].output_end))
        counts.inferences += int(sizes.sum())
        counts.executions += len(records)
        counts.closed.update(record.reason for record in records)
        for duration, values in (
            (counts.success, times),
            (counts.queue, waited + tokens),  # to Triton's clients every wait before the computation
            (counts.compute_input, compute_input),
            (counts.compute_infer, compute),
            (counts.compute_output, output),
        ):
            duration.add(int(values.sum()), len(values))
        counts.recent.observe(
            np.stack((output_end, times, waited + tokens, compute_input, compute, output), axis=1)
        )
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


def _taken(journal: deque[_NoteT]) -> list[_NoteT]:
    return [journal.popleft() for _ in range(len(journal))]


def _table(notes: Iterable[tuple[int, ...]], columns: int) -> npt.NDArray[np.int64]:
    return np.fromiter(chain.from_iterable(notes), np.int64).reshape(
        -1, columns
    )  # array() takes three times as long


def _milliseconds(moment: int) -> int:
    """Return a moment of `monotonic` on the clock that clients know, ms."""
    return (time.time_ns() - (monotonic() - moment)) // 1_000_000
