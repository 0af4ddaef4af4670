"""The runner: what a model needs to run batches, and on which threads each runs."""

from __future__ import annotations

from collections.abc import Callable

from yais.core.clock import monotonic
from yais.core.pool import Lease
from yais.engines.engine import Array, Engine, Execution
from yais.inference.batch_run import BatchRun, hand_on
from yais.inference.execution import HostExecution
from yais.inference.job import Job
from yais.inference.layout import Signature
from yais.inference.pace import Pace
from yais.inference.responder import Responder
from yais.inference.scheduling.queue import Batch
from yais.inference.statistics import BatchRecord, ModelStatistics
from yais.inference.tokens import Tokens
from yais.lane import Lane

__all__ = ["Runner"]


class Runner:
    """Runs batches of one version of a model.

    Parameters
    ----------
    signature
        What the model takes and gives, as its requests see it.
    version
        Of the model.
    engine
        Runs it. Its inputs and outputs are in the signature's order.
    tokens
        One is held for each execution.
    statistics
        What to count in.
    """

    def __init__(
        self, signature: Signature, version: str, engine: Engine, tokens: Tokens, statistics: ModelStatistics
    ) -> None:
        self.pace = Pace()
        self.handing_out = Pace()  # of the last stage, the callbacks of its futures included
        self.engine = engine
        self.signature = signature
        self.tokens = tokens.pool
        self.responder = Responder(signature, version)
        self.decoupled: bool = getattr(engine, "decoupled", False)
        begin: Callable[[list[Array], Lane], Execution] | None = getattr(engine, "begin", None)
        self.on_device = begin is not None
        # Its time says nothing of how long it could hold up a thread.
        self.blocks: bool = getattr(engine, "blocks", False)
        self.begin = begin or (lambda inputs, lane: HostExecution(engine, inputs))  # noqa: ARG005
        self._statistics = statistics

    def run(self, batch: Batch[Job], lane: Lease[Lane], blocked: int) -> bool:
        """Take a batch through all stages on this thread; False, and nothing done, if no token is free.

        Never raises. The lane is released.
        """
        token = self.tokens.try_acquire()
        if token is None:
            return False
        run = BatchRun(self, batch, lane, blocked, _nothing, _nothing)
        run.pre()
        run.execute(token)
        run.post()
        return True

    def start(
        self,
        batch: Batch[Job],
        lane: Lease[Lane],
        blocked: int,
        executed: Callable[[], None],
        answered: Callable[[], None],
    ) -> None:
        """Take a batch through the lane's pools. Never raises.

        Parameters
        ----------
        lane
            Is released as soon as its memory is not needed.
        blocked
            Nanoseconds the batch has waited for the lane.
        executed
            Called once, when the engine is free.
        answered
            Called once, afterwards, when all futures are done and nothing of the batch is in use any more.
        """
        threads = lane.item.threads
        pre, execute = threads.get("pre"), threads["execute"]
        run = BatchRun(self, batch, lane, blocked, executed, answered)
        # What is short does not hop from thread to thread; and a request alone is not copied.
        if pre is not None and len(batch.items) > 1 and not self.pace.short(batch.size):
            hand_on(pre, run.prepare, execute)
        else:
            run.asked = monotonic()
            hand_on(execute, run.prepare, None)

    def record(self, record: BatchRecord) -> None:
        """Count a batch that succeeded."""
        self._statistics.record_batch(record)

    def fail(self, job: Job, error: BaseException) -> None:
        """Count a request that failed, and complete its future."""
        self._statistics.record_failure(monotonic() - job.request.received)
        job.future.set_exception(error)


def _nothing() -> None:
    pass
