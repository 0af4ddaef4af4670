"""The runner: what a model needs to run batches, and on which threads each runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from yais.core.clock import monotonic
from yais.core.pool import Lease
from yais.engines.engine import Array, DeviceEngine, Engine, Execution
from yais.inference.adapter import Adapter
from yais.inference.batch_record import BatchRecord
from yais.inference.batch_run import BatchRun, hand_on
from yais.inference.execution import HostExecution
from yais.inference.failure import FailureReason, reason_of
from yais.inference.job import Job
from yais.inference.layout import Signature
from yais.inference.ordering import Turn
from yais.inference.pace import Pace
from yais.inference.responder import Responder
from yais.inference.response_times import ResponseTimes
from yais.inference.scheduling.queue import Batch
from yais.inference.site import Site
from yais.inference.statistics import ModelStatistics
from yais.lane import Lane

__all__ = ["Runner", "engines_of", "gpu_of"]


class Runner:
    """Runs batches of one version of a model.

    Parameters
    ----------
    signature
        What the model takes and gives, as its requests see it.
    version
        Of the model.
    engine
        Runs it. Its inputs and outputs are in the signature's order, unless adapters make them so.
    site_of
        The site of a GPU, by its number, or for None the host's. A `DeviceEngine` runs on that of its `gpu`,
        all others on the host's.
    statistics
        What to count in.
    instances
        Batches that may run at once.
    adapters
        Between the tensors of requests and the engine's.
    stateful
        Whether a batch leaves something for the next one of its instance: then every request runs that was
        taken, and none twice.

    Attributes
    ----------
    engines, sites
        For each instance, what runs its batches, and where.
    on_device
        For each instance, whether its engine works on a device while threads do other things.
    gpus
        GPUs of the engines, if all of them take inputs that are there already; else none.
    """

    def __init__(
        self,
        signature: Signature,
        version: str,
        engine: Engine,
        site_of: Callable[[int | None], Site],
        statistics: ModelStatistics,
        *,
        instances: int = 1,
        adapters: Sequence[Adapter] = (),
        stateful: bool = False,
    ) -> None:
        self.pace = Pace()
        self.handing_out = Pace()  # of the last stage, the callbacks of its futures included
        self.engine = engine
        self.signature = signature
        self.responder = Responder(signature, version)
        self.decoupled: bool = getattr(engine, "decoupled", False)
        self.adapters = adapters
        self.stateful = stateful
        self.engines = engines_of(engine, instances)
        self.on_device = [hasattr(engine, "begin") for engine in self.engines]
        self.gpus = _gpus_of_inputs(self.engines) if not adapters else frozenset()
        self.sites = [site_of(gpu_of(engine)) for engine in self.engines]
        self.tokens = [site.tokens.pool for site in self.sites]
        # Its time says nothing of how long it could hold up a thread.
        self.blocks: bool = getattr(engine, "blocks", False)
        self._statistics = statistics

    def begin(self, inputs: list[Array], lane: Lane, instance: int) -> Execution:
        """Return an execution of an instance."""
        engine = self.engines[instance]
        if self.on_device[instance]:
            return cast("DeviceEngine", engine).begin(inputs, lane)
        return HostExecution(engine, inputs)

    def run(self, batch: Batch[Job], lane: Lease[Lane], blocked: int, turn: Turn | None) -> bool:
        """Take a batch through all stages on this thread, and release the lane. Never raises.

        Returns
        -------
        bool
            False, and nothing is done, if no token is free, or if it would have to wait for a device.
        """
        if self.on_device[batch.instance]:
            return False
        token = self.tokens[batch.instance].try_acquire()
        if token is None:
            return False
        run = BatchRun(self, batch, lane, blocked, turn, _nothing, _nothing)
        run.pre()
        run.execute(token)
        run.post()
        return True

    def start(
        self,
        batch: Batch[Job],
        lane: Lease[Lane],
        blocked: int,
        turn: Turn | None,
        executed: Callable[[int], None],
        answered: Callable[[], None],
    ) -> None:
        """Take a batch through the lane's pools. Never raises.

        Parameters
        ----------
        lane
            Is released as soon as its memory is not needed.
        blocked
            Nanoseconds the batch has waited for the lane.
        turn
            When its answers may leave; None for as soon as they are there.
        executed
            Called once with the batch's instance, when that is free.
        answered
            Called once, afterwards, when all futures are done and nothing of the batch is in use any more.
        """
        threads = lane.item.threads
        pre, execute = threads.get("pre"), threads["execute"]
        run = BatchRun(self, batch, lane, blocked, turn, executed, answered)
        # What is short does not hop from thread to thread; and a request alone is not copied.
        if pre is not None and len(batch.items) > 1 and not self.pace.short(batch.size):
            hand_on(pre, run.prepare, execute)
        else:
            run.asked = monotonic()
            hand_on(execute, run.prepare, None)

    def record(self, record: BatchRecord) -> None:
        """Count a batch that succeeded."""
        self._statistics.record_batch(record)

    def record_failure(self, job: Job, reason: FailureReason) -> None:
        """Count a request that failed; not a bundle, whose requests come again."""
        if job.request.bundle:
            return
        self._statistics.record_failure(monotonic() - job.request.received, reason)

    def record_cancelled(self, job: Job) -> None:
        """Count a request that was cancelled before it could run."""
        self.record_failure(job, FailureReason.CANCELED)

    def response_times(self, job: Job) -> ResponseTimes:
        """Return what counts the responses to a request, of a decoupled model."""
        return ResponseTimes(self._statistics, job.request.received)

    def fail(self, job: Job, error: BaseException) -> None:
        """Count a request that failed before it ran, and complete its future."""
        self.record_failure(job, reason_of(error))
        job.future.set_exception(error)


def engines_of(engine: Engine, instances: int) -> list[Engine]:
    """Return for each instance the engine that runs its batches; see `Engine` on `at`."""
    at: Callable[[int], Engine] | None = getattr(engine, "at", None)
    return [at(instance) if at else engine for instance in range(instances)]


def gpu_of(engine: Engine) -> int | None:
    """Return the GPU on whose site an engine runs; None for the host's, where all but `DeviceEngine` run."""
    gpu: int | None = getattr(engine, "gpu", None) if hasattr(engine, "begin") else None
    return gpu


def _gpus_of_inputs(engines: Sequence[Engine]) -> frozenset[int]:
    gpus = [gpu_of(engine) for engine in engines if getattr(engine, "takes_device_arrays", False)]
    return frozenset(gpu for gpu in gpus if gpu is not None) if len(gpus) == len(engines) else frozenset()


def _nothing(*_: int) -> None:
    pass
