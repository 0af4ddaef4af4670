"""Traces of requests: who takes their moments, and what a batch says of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from yais.core.clock import monotonic
from yais.core.future import Future

if TYPE_CHECKING:
    from yais.inference.batch_record import BatchRecord
    from yais.inference.job import Job
    from yais.inference.request import InferRequest, InferResponse

__all__ = ["BatchMoments", "RequestTrace", "trace_batch"]


class BatchMoments(NamedTuple):
    """How a batch went through its stages: ns of `yais.core.clock.monotonic`, 0 for what it did not reach.

    Attributes
    ----------
    size
        Items in it.
    taken
        When it left the queue.
    start, input_end, output_start, end
        When its inputs were being gathered, the model began to run and had run, and the outputs were there.
    copied
        When the outputs had come from a device; 0 without one.
    """

    size: int
    taken: int
    start: int
    input_end: int
    output_start: int
    end: int
    copied: int = 0


class RequestTrace(Protocol):
    """Takes the moments of one request to one model. Every method may be called from any thread."""

    @property
    def ids(self) -> Mapping[str, str]:
        """`trace_id` and `span_id` as OpenTelemetry writes them; nothing where there is no such trace."""

    def mark(self, name: str, at: int) -> None:
        """Take one moment, ns of `yais.core.clock.monotonic`, by Triton's name for it: QUEUE_START, say."""

    def batch(self, moments: BatchMoments) -> None:
        """Take the moments of the batch that the request was in."""

    def child(self, model: str, version: str, request: InferRequest) -> None:
        """Trace a request, not yet submitted, that is made for this one: a step of an ensemble, say.

        Parameters
        ----------
        model, version
            Of the model that will get it.
        request
            Gets a `trace` of its own.
        """

    def follow(self, future: Future[InferResponse]) -> None:
        """Take the end of the request from what its model returned."""


def trace_batch(jobs: Sequence[Job], record: BatchRecord) -> None:
    """Tell those of the jobs that are traced what became of their batch until now."""
    moments: BatchMoments | None = None
    for job in jobs:
        trace = job.request.trace
        if trace is not None:
            moments = moments or _moments(record, sum([each.size for each in jobs]))
            trace.batch(moments)


def _moments(record: BatchRecord, size: int) -> BatchMoments:
    # What it waited for a token counts as waiting, although its inputs may have been gathered before.
    start = record.input_start + record.token_wait
    end = record.output_end or monotonic()
    copied = record.infer_end + record.stream_wait if record.stream_wait else 0
    return BatchMoments(size, record.input_start, start, record.infer_start, record.infer_end, end, copied)
