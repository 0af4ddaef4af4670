"""What models composed of other models have in common: taking requests, answering, counting, closing."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Generic, TypeVar

from yais.core.clock import monotonic
from yais.core.future import Future
from yais.engines.engine import Array
from yais.errors import Internal
from yais.inference.batch_record import BatchRecord
from yais.inference.composed_job import ComposedJob
from yais.inference.counts import Counts
from yais.inference.failure import FailureReason, reason_of
from yais.inference.intake import Intake
from yais.inference.layout import Layout, Signature
from yais.inference.request import InferRequest, InferResponse
from yais.inference.responder import Responder
from yais.inference.response_cache import ResponseCache
from yais.inference.scheduling.queue import CloseReason
from yais.inference.servable import FindModel, ModelClosed
from yais.inference.statistics import ModelStatistics

__all__ = ["ComposedModel"]

JobT = TypeVar("JobT", bound=ComposedJob)


class ComposedModel(ABC, Generic[JobT]):
    """One version of a model that asks other models; see `Servable`. Thread-safe.

    Parameters
    ----------
    signature
        What it takes and gives.
    version
        As it stands in responses.
    find
        Finds the other models, whenever one is asked.
    decoupled
        Whether it answers a request any number of times, through `InferRequest.respond`.
    cache
        Where its answers are kept; None for nowhere.

    Attributes
    ----------
    gpus
        None: the contents of inputs are on the host.
    """

    gpus: frozenset[int] = frozenset()

    def __init__(
        self,
        signature: Signature,
        version: str,
        find: FindModel,
        *,
        decoupled: bool = False,
        cache: ResponseCache | None = None,
    ) -> None:
        self.signature = signature
        self.version = version
        self.decoupled = decoupled
        self._find = find
        self._statistics = ModelStatistics()
        self._responder = Responder(signature, version)
        self._intake = Intake(signature, self._statistics, decoupled=decoupled, cache=cache)
        self._idle = threading.Condition(threading.Lock())
        self._under_way: set[JobT] = set()
        self._closed = False

    def __repr__(self) -> str:
        kind = type(self).__name__
        return f"<{kind} {self.name} version {self.version}: {self.pending} requests under way>"

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.signature.name

    @property
    def pending(self) -> int:
        """Requests under way."""
        return len(self._under_way)

    @property
    def lost(self) -> str:
        """Empty: what it asks may be lost, and says so."""
        return ""

    def submit(self, request: InferRequest) -> Future[InferResponse]:
        """Take a request.

        Returns at once. The future fails with what went wrong: with InvalidArgument when the request is none
        that the model takes, with DeadlineExceeded when its deadline passes, with ModelClosed when the model
        is closed, with Unimplemented when a decoupled model is asked for one response. Cancelling it stops
        what has not begun; the future is cancelled when the rest has ended.
        """
        return self._intake.submit(request, self._take)

    def _take(self, request: InferRequest, layout: Layout) -> Future[InferResponse]:
        job = self._job(request, layout)
        with self._idle:
            if self._closed:
                raise ModelClosed(f"model '{self.name}' version {self.version} is being unloaded")
            self._under_way.add(job)
        self._begin(job)
        return job.future

    def counts(self) -> Counts:
        """Return what has been counted so far; a request is one execution."""
        return self._statistics.snapshot()

    def close(self, timeout: float) -> bool:
        """Refuse new requests, and let those under way end.

        Returns
        -------
        bool
            Whether they ended within `timeout` seconds. If not, they are stopped, with Unavailable.
        """
        self._intake.close()
        with self._idle:
            self._closed = True
            if self._idle.wait_for(lambda: not self._under_way, timeout):
                return True
            left = list(self._under_way)
        error = ModelClosed(f"model '{self.name}' version {self.version} was unloaded meanwhile")
        for job in left:
            job.post(partial(job.stop, error))
        return False

    @abstractmethod
    def _job(self, request: InferRequest, layout: Layout) -> JobT:
        """Return a checked request, queued now."""

    @abstractmethod
    def _begin(self, job: JobT) -> None:
        """Start a request, or let it wait for its turn."""

    @abstractmethod
    def _stop(self, job: JobT) -> None:
        """Cancel what runs of a request, or `_end` it if nothing does. In an event of the job."""

    def _answer(self, job: JobT, outputs: Sequence[Array]) -> None:
        """Complete a request with all outputs of the model; those that nobody asked for may be anything."""
        try:
            checked = self._responder.checked(outputs, job.size)
            computed = monotonic()
            (response,) = self._responder.responses([job], checked)
        except Internal as error:
            job.error = error
            self._end(job)
        else:
            self._succeed(job, response, computed)

    def _succeed(self, job: JobT, response: InferResponse, computed: int) -> None:
        """Complete a request whose outputs were there at `computed`."""
        record = BatchRecord(CloseReason.INSTANCE)
        record.input_start = record.infer_start = job.began
        record.infer_end = computed
        # Noted before anybody can see the answer, so that whoever has it finds it in the statistics.
        self._statistics.record_batch(record.of([job]))
        job.future.set_result(response)
        self._ended(job)

    def _end(self, job: JobT) -> None:
        """Complete a request with its error, or as cancelled."""
        reason = FailureReason.CANCELED if job.error is None else reason_of(job.error)
        self._statistics.record_failure(monotonic() - job.request.received, reason)
        if job.error is None:
            job.future.give_up()  # type: ignore[attr-defined]
        else:
            job.future.set_exception(job.error)
        self._ended(job)

    def _ended(self, job: JobT) -> None:
        with self._idle:
            self._under_way.discard(job)
            if self._closed and not self._under_way:
                self._idle.notify_all()
