"""What is noted of a batch: when its stages began and ended, and what its requests waited for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from yais.core.clock import monotonic
from yais.inference.job import Job
from yais.inference.scheduling.queue import CloseReason

__all__ = ["BatchRecord"]


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
        if any(job.request.bundle for job in answered):
            self._of_bundles(answered)
        else:
            self.received = [job.request.received for job in answered]
            self.queued = [job.queued for job in answered]
            self.waited = [job.request.waited for job in answered]
        self.output_end = monotonic()
        return self

    def _of_bundles(self, answered: Sequence[Job]) -> None:
        requests = [
            (job.queued, moments)
            for job in answered
            for moments in job.request.bundle or ((job.request.received, job.request.waited),)
        ]
        self.queued = [queued for queued, _ in requests]
        self.received = [received for _, (received, _) in requests]
        self.waited = [waited for _, (_, waited) in requests]

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
