"""Rehearsals: running a model before it takes requests, on the way that these will take."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from yais.core.clock import Deadline, monotonic
from yais.core.tensor import TensorSpec
from yais.engines.engine import Array
from yais.inference.batch_record import BatchRecord
from yais.inference.batch_run import BatchRun
from yais.inference.job import Job
from yais.inference.request import InferRequest, SequenceStep
from yais.inference.runner import Runner
from yais.inference.scheduling.queue import Batch, CloseReason
from yais.inference.scheduling.sequence import LiveSequence
from yais.inference.statistics import ModelStatistics

__all__ = ["Rehearsal"]


class _LastBatch(ModelStatistics):
    """Notes a batch, and counts none."""

    def __init__(self) -> None:
        super().__init__()
        self.record: BatchRecord | None = None

    def record_batch(self, record: BatchRecord) -> None:
        self.record = record


class Rehearsal:
    """Runs requests one after the other, and counts nothing. Not thread-safe.

    Parameters
    ----------
    make_runner
        Returns a runner of the model that counts in the statistics given.
    timeout
        Seconds that each may wait for a lane and for a token.
    """

    def __init__(self, make_runner: Callable[[ModelStatistics], Runner], timeout: float) -> None:
        self._last = _LastBatch()
        self._runner = make_runner(self._last)
        self._timeout = timeout

    def run(self, inputs: Sequence[Array | None], instance: int = 0) -> BatchRecord:
        """Run one request on an instance, and return how long its stages took.

        Parameters
        ----------
        inputs
            In the order of the signature, with the batch dimension if there is one; None for an optional one
            that is left out. A sequence begins and ends with the request.

        Raises
        ------
        DeadlineExceeded
            There was no lane or no token in time.
        Exception
            What the engine raised, as requests see it.
        """
        job = self._job(inputs)
        batch = Batch((job,), job.size, CloseReason.INSTANCE, instance)
        deadline = Deadline.after(self._timeout)
        lane = self._runner.sites[instance].lanes.pool.acquire(deadline.remaining() or 0.0)
        run = BatchRun(self._runner, batch, lane, 0, None, _nothing, _nothing)
        try:
            token = self._runner.tokens[instance].acquire(deadline.remaining() or 0.0)
        except BaseException:
            lane.release()
            raise
        run.pre()
        run.execute(token)
        run.post()
        job.future.result(0)
        assert self._last.record is not None
        return self._last.record

    def _job(self, inputs: Sequence[Array | None]) -> Job:
        signature = self._runner.signature
        given = [
            (TensorSpec(spec.name, spec.datatype, array.shape), array)
            for spec, array in zip(signature.inputs, inputs, strict=True)
            if array is not None
        ]
        request = InferRequest(
            [spec for spec, _ in given],
            [array for _, array in given],
            id="warm-up",
            sequence=SequenceStep(1, start=True, end=True) if self._runner.stateful else None,
            respond=(lambda _response: False) if self._runner.decoupled else None,
        )
        job = Job(request, signature.layout(request), monotonic())
        if self._runner.stateful:
            job.sequence = LiveSequence(1)
        return job


def _nothing(*_: int) -> None:
    pass
