"""The runner: takes a batch through its stages, each on its named pool or all on one thread.

    pre      gather the inputs of all requests into the lane's staging memory
    execute  run the engine; the instance is free for the next batch right after
    post     cut the outputs into responses and complete the futures

If a batch fails, its requests run again one by one, so that a request the engine cannot take fails alone.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from yais.core.clock import monotonic
from yais.core.pool import Lease
from yais.core.thread_pool import ThreadPool
from yais.engines.engine import Array, Engine
from yais.errors import Internal, YaisError
from yais.inference.gather import gather, staging_size, views
from yais.inference.job import Job
from yais.inference.layout import Signature
from yais.inference.pace import Pace
from yais.inference.responder import Responder
from yais.inference.scheduling.queue import Batch, CloseReason
from yais.inference.statistics import BatchRecord, ModelStatistics
from yais.lane import Lane
from yais.memory.arena import Arena

__all__ = ["Runner"]

_log = logging.getLogger("yais.inference")

_STAGING_TIMEOUT = 60.0  # seconds; as many arenas as threads make a wait impossible unless one is stuck


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
    lane
        Where.
    statistics
        What to count in.
    """

    def __init__(
        self, signature: Signature, version: str, engine: Engine, lane: Lane, statistics: ModelStatistics
    ) -> None:
        if "execute" not in lane.threads:
            raise ValueError(f"got {lane!r}, expected a lane with 'execute' threads")
        self.pace = Pace()
        self.engine = engine
        self.signature = signature
        self.lane = lane
        self.responder = Responder(signature, version)
        self._statistics = statistics

    def run(self, batch: Batch[Job]) -> None:
        """Take a batch through all stages on this thread. Never raises."""
        run = _Run(self, batch, _nothing)
        run.pre()
        run.execute()
        run.post()

    def start(self, batch: Batch[Job], executed: Callable[[], None]) -> None:
        """Take a batch through the lane's pools. Never raises.

        `executed` is called once the engine is free.
        """
        run = _Run(self, batch, executed)
        threads = self.lane.threads
        pre, execute, post = threads.get("pre"), threads["execute"], threads.get("post")

        def finish() -> None:
            run.execute()
            _hand_on(run.post, post)

        def begin() -> None:
            run.pre()
            _hand_on(finish, execute if pre else None)

        (pre or execute).submit(begin)

    def record(self, record: BatchRecord) -> None:
        """Count a batch that succeeded."""
        self._statistics.record_batch(record)

    def fail(self, job: Job, error: BaseException) -> None:
        """Count a request that failed, and complete its future."""
        self._statistics.record_failure(monotonic() - job.request.received)
        job.future.set_exception(error)


class _Run:
    """One batch on its way."""

    __slots__ = (
        "_batch",
        "_executed",
        "_inputs",
        "_jobs",
        "_outputs",
        "_runner",
        "_size",
        "_staging",
        "_times",
    )

    def __init__(self, runner: Runner, batch: Batch[Job], executed: Callable[[], None]) -> None:
        self._runner = runner
        self._batch = batch
        self._executed = executed
        self._jobs: list[Job] = []
        self._size = 0
        self._inputs: list[Array] = []
        self._outputs: list[Array] | None = None
        self._staging: Lease[Arena] | None = None
        self._times: list[int] = []

    def pre(self) -> None:
        # From here on the jobs can no longer be cancelled.
        self._claim([job for job in self._batch.items if job.future.set_running_or_notify_cancel()])
        self._fetch()

    def _fetch(self) -> None:
        try:
            if self._jobs:
                self._inputs = self._gather()
        except Exception as error:
            self._retry(error)

    def _claim(self, jobs: list[Job]) -> None:
        self._jobs = jobs
        self._size = sum([job.size for job in jobs])
        self._times.append(monotonic())

    def execute(self) -> None:
        try:
            if self._jobs:
                self._execute()
        except BaseException as error:  # SystemExit, too: an engine may run anything
            self._retry(error)
        finally:
            self._inputs = []
            if self._staging is not None:  # outputs share no memory with inputs
                self._staging.release()
            self._executed()

    def _execute(self) -> None:
        runner = self._runner
        start = monotonic()
        try:
            outputs = runner.engine.execute(self._inputs)
        except Internal as error:  # the engine does not know what its model is called
            raise Internal(f"model '{runner.signature.name}' failed: {error}") from None
        end = monotonic()
        self._times += (start, end)
        runner.pace.observe(self._size, end - start)
        self._outputs = runner.responder.checked(outputs, self._size)

    def post(self) -> None:
        try:
            if self._outputs is not None:
                self._respond(self._outputs)
        except Exception as error:
            self._fail(error)

    def _gather(self) -> list[Array]:
        runner, jobs = self._runner, self._jobs
        inputs = runner.signature.inputs
        if len(jobs) == 1:
            return views(inputs, jobs[0])
        self._staging = runner.lane.staging.acquire(_STAGING_TIMEOUT)
        arena = self._staging.item
        arena.reset(staging_size(inputs, jobs))
        return gather(inputs, jobs, arena)

    def _respond(self, outputs: list[Array]) -> None:
        jobs = self._jobs
        responses = self._runner.responder.responses(jobs, outputs)
        # Noted before anybody can see an answer, so that whoever has one finds it in the statistics.
        self._runner.record(self._record(jobs))
        for job, response in zip(jobs, responses, strict=True):
            job.future.set_result(response)

    def _record(self, jobs: list[Job]) -> BatchRecord:
        input_start, infer_start, infer_end = self._times
        return BatchRecord(
            self._size,
            self._batch.reason,
            [job.request.received for job in jobs],
            [job.queued for job in jobs],
            input_start,
            infer_start,
            infer_end,
            monotonic(),
        )

    def _retry(self, error: BaseException) -> None:
        """Run the requests of a failed batch one by one; a single one has failed for good."""
        jobs, self._jobs = self._jobs, []
        if len(jobs) == 1:
            self._jobs = jobs
            self._fail(error)
            return
        for job in jobs:
            single = _Run(self._runner, Batch((job,), job.size, CloseReason.IDLE), _nothing)
            single._claim([job])
            single._fetch()
            single.execute()
            single.post()

    def _fail(self, error: BaseException) -> None:
        if not isinstance(error, YaisError):
            name = self._runner.signature.name
            _log.error("model '%s' failed", name, exc_info=error)
            error = Internal(f"model '{name}' failed: {error}")
        for job in self._jobs:
            if not job.future.done():
                self._runner.fail(job, error)
        self._jobs, self._outputs = [], None


def _hand_on(stage: Callable[[], None], pool: ThreadPool | None) -> None:
    """Run a stage on a pool, or right here if there is none, or if it has been closed meanwhile."""
    if pool is not None:
        with contextlib.suppress(RuntimeError):
            pool.submit(stage)
            return
    stage()


def _nothing() -> None:
    pass
