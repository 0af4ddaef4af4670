"""A batch on its way through its stages, each on its named pool of a lane or all on one thread.

    pre      gather the inputs of all requests into the lane's staging memory; begin copies to a device
    execute  take an execution token, launch
    post     wait for a device; cut the outputs into responses and complete the futures

The token goes back when the engine is done, before outputs are copied or handed out, and with it the model's
instance. Nobody blocks a thread while waiting for a token: the batch goes on when one is lent to it. What is
taken is always taken in one order, lane, instance, token, so that no two batches wait for each other.

If a batch fails, its requests run again one by one, so that a request the engine cannot take fails alone.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from yais.core.clock import monotonic
from yais.core.dispatcher import current_dispatcher
from yais.core.future import Future
from yais.core.pool import Lease
from yais.core.thread_pool import ThreadPool
from yais.engines.engine import Array, DecoupledEngine, Execution
from yais.errors import DeadlineExceeded, Internal, YaisError
from yais.inference.batch_record import BatchRecord
from yais.inference.device_contents import DeviceContents
from yais.inference.execution import HostExecution
from yais.inference.failure import reason_of
from yais.inference.gather import gather, staging_size, views
from yais.inference.job import Job
from yais.inference.log_fields import log_fields
from yais.inference.ordering import Answer, Turn, deliver
from yais.inference.request import InferResponse, Respond
from yais.inference.request_trace import trace_batch
from yais.inference.scheduling.queue import Batch, CloseReason
from yais.inference.site import Site
from yais.inference.tokens import Token
from yais.lane import Lane
from yais.memory.device_array import DeviceArray

if TYPE_CHECKING:
    from yais.inference.runner import Runner

__all__ = ["BatchRun", "hand_on"]

_log = logging.getLogger("yais.inference")


class BatchRun:
    """One batch on its way. No method raises.

    Parameters
    ----------
    runner
        Of its model.
    lane, blocked, turn, executed, answered
        See `Runner.start`.

    Attributes
    ----------
    asked
        When it was given to the threads that execute, which may be fewer than tokens; ns. To be set before
        `prepare`: that wait counts as one for the token.
    """

    __slots__ = (
        "_answered",
        "_answers",
        "_batch",
        "_claimed",
        "_contents",
        "_error",
        "_executed",
        "_execution",
        "_jobs",
        "_lane",
        "_on_device",
        "_outputs",
        "_record",
        "_runner",
        "_size",
        "_threads",
        "_token",
        "_turn",
        "asked",
    )

    def __init__(
        self,
        runner: Runner,
        batch: Batch[Job],
        lane: Lease[Lane],
        blocked: int,
        turn: Turn | None,
        executed: Callable[[int], None],
        answered: Callable[[], None],
    ) -> None:
        self._runner = runner
        self._batch = batch
        self._lane: Lease[Lane] | None = lane
        self._threads = lane.item.threads
        self._on_device = runner.on_device[batch.instance]
        self._turn = turn
        self._executed = executed
        self._answered = answered
        self._answers: list[Answer] = []  # that wait for the turn
        self._jobs: list[Job] = []
        self._claimed = False
        self._contents: Sequence[DeviceContents] = ()  # that the device reads
        self._size = 0
        self._execution: Execution | None = None
        self._outputs: list[Array] | None = None
        self._error: BaseException | None = None
        self._token: Lease[Token] | None = None
        self._record = BatchRecord(batch.reason, buffers_wait=blocked)
        self.asked: int | None = None

    # --- From thread to thread ------------------------------------------------------------------------

    def prepare(self, execute: ThreadPool | None) -> None:
        """Run the first stage here, and the others on `execute`, or here too, once there is a token."""
        if self.asked is not None:
            self._record.token_wait = monotonic() - self.asked
        self.pre()
        if not self._jobs:  # all were cancelled
            self._executed(self._batch.instance)
            self._free_lane()
            self._end()
            return
        tokens = self._runner.tokens[self._batch.instance]
        token = tokens.try_acquire()
        if token is not None:
            hand_on(execute, self.go, token)
            return
        wanted = monotonic()
        threads = self._threads["execute"]

        def lent(future: Future[Lease[Token]]) -> None:
            self._record.token_wait += monotonic() - wanted
            hand_on(threads, self.go, future.result(0))

        tokens.acquire_future().add_done_callback(lent)

    def go(self, token: Lease[Token]) -> None:
        """Run the second stage here, and the third on its own threads if it is worth it."""
        runner = self._runner
        self.execute(token)
        here = not self._on_device and runner.handing_out.short(self._size)
        hand_on(None if here else self._threads.get("post"), self.post)

    # --- The stages -----------------------------------------------------------------------------------

    def pre(self) -> None:
        """Run the first stage: gather, and begin."""
        runner, taken = self._runner, self._batch.items
        self._jobs = [job for job in taken if runner.stateful or not job.future.done()]
        if len(self._jobs) < len(taken):
            for job in taken:
                if job not in self._jobs:
                    runner.record_cancelled(job)
        # Who brought a lane along gives it away once the request is cancelled: not while a device uses it.
        if self._on_device and self._jobs and self._jobs[0].request.lane is self._held_lane():
            self._claimed = True
            if not self._claim():
                self._jobs = []
        self._size = sum([job.size for job in self._jobs])
        self._record.input_start = monotonic() - self._record.token_wait
        try:
            if self._jobs:
                self._execution = self._begin(self._jobs)
        except BaseException as error:  # SystemExit, too: an engine may run anything
            self._error = error

    def execute(self, token: Lease[Token]) -> None:
        """Run the second stage, which takes the token over."""
        self._token = token
        runner, record = self._runner, self._record
        try:
            if not (self._claimed or self._claim()) and not runner.stateful:
                self._jobs = []
                self._abandon()
            if self._execution is not None:
                if runner.decoupled and len(self._jobs) > 1:  # their responses end at different times
                    self._run_singly()
                else:
                    self._launch(self._execution, token.item)
        except BaseException as error:
            self._error = error
        if self._error is not None:
            raised, self._error = self._error, None  # its traceback keeps this run, and so the lane's memory
            self._split(raised)
        elif self._execution is not None and not self._on_device and not runner.blocks:
            took = record.infer_end - record.infer_start
            runner.pace.observe(self._size, took, here=current_dispatcher() is not None)
        if self._outputs is not None or self._execution is None:
            self._free_engine()
            self._free_lane()  # outputs are in memory of their own

    def post(self) -> None:
        """Run the third stage: all futures are done when it returns."""
        try:
            if self._execution is not None and self._outputs is None:
                self._fetch(self._execution)
            if self._outputs is not None:
                start = monotonic()
                self._respond(self._outputs)
                took = monotonic() - start
                self._runner.handing_out.observe(self._size, took, here=current_dispatcher() is not None)
        except BaseException as error:
            self._split(error)
        finally:
            self._execution = None
            self._free_engine()
            self._free_lane()
            self._end()

    # --- Their parts ----------------------------------------------------------------------------------

    def _claim(self) -> bool:
        """Take the jobs, which can no longer be cancelled then; return whether anybody wants an answer.

        Those cancelled since `pre` stay where they are in the batch, and nobody is answered.
        """
        wanted = False
        for job in self._jobs:
            if job.future.set_running_or_notify_cancel():
                wanted = True
            else:
                self._runner.record_cancelled(job)
        return wanted

    def _begin(self, jobs: list[Job]) -> Execution:
        runner, lane = self._runner, self._held_lane()
        if self._on_device:
            self._site.check()
        inputs = runner.signature.inputs
        # A device copies from the lane's memory, where a job that brings its lane along has its inputs.
        if len(jobs) == 1 and (not self._on_device or jobs[0].request.lane is lane):
            arrays = views(inputs, jobs[0])
        else:
            lane.staging.reset(staging_size(inputs, jobs))
            left = self._left(jobs[0]) if len(jobs) == 1 else {}
            arrays = cast("list[Array | None]", gather(inputs, jobs, lane.staging, left))
        for adapter in runner.adapters:
            arrays = adapter.inputs(arrays, jobs, self._batch)
        return runner.begin(cast("list[Array]", arrays), lane, self._batch.instance)

    def _left(self, job: Job) -> dict[int, DeviceArray]:
        """Return the inputs of a request that are on the engine's GPU; they stay as long as the lane."""
        runner, lane = self._runner, self._held_lane()
        gpu = getattr(runner.engines[self._batch.instance], "gpu", None)
        arrays: dict[int, DeviceArray] = {}
        for index, spec in enumerate(runner.signature.inputs):
            position = job.layout.order[index]
            contents = job.request.data[position] if position >= 0 else None
            if type(contents) is DeviceContents and contents.gpu == gpu:
                contents.acquire()
                self._contents = (*self._contents, contents)
                arrays[index] = contents.array(spec.datatype, job.layout.shapes[index], lane.stream)
        return arrays

    def _launch(self, execution: Execution, token: Token) -> None:
        runner, record = self._runner, self._record
        record.infer_start = monotonic()
        late = record.token_wait and all(job.dead(record.infer_start) for job in self._jobs)
        if late and not runner.stateful:
            raise DeadlineExceeded("the deadline passed while the request waited for an execution token")
        if runner.decoupled:
            engine = runner.engines[self._batch.instance]
            self._stream(cast("DecoupledEngine", engine), cast("HostExecution", execution))
            return
        try:
            execution.launch(token.scratch)
        except Internal as error:  # the engine does not know what its model is called
            raise Internal(f"model '{runner.signature.name}' failed: {error}") from None
        if not self._on_device:
            record.infer_end = monotonic()
            self._outputs = self._checked(execution.outputs())

    def _fetch(self, execution: Execution) -> None:
        """Wait for the device."""
        record = self._record
        execution.wait()
        record.infer_end = monotonic()
        if not self._runner.stateful:
            self._free_engine()
        outputs = execution.outputs()
        record.stream_wait = monotonic() - record.infer_end
        self._outputs, self._execution = self._kept(outputs), None
        self._free_engine()
        self._free_lane()

    def _kept(self, outputs: Sequence[Array]) -> list[Array]:
        """Return checked copies of a device's outputs: the lane goes back before anybody has read them."""
        return [array.copy() for array in self._checked(outputs)]

    def _checked(self, outputs: Sequence[Array]) -> list[Array]:
        """Return the requests' outputs of what the engine gave, checked."""
        runner = self._runner
        if runner.adapters:
            for adapter in reversed(runner.adapters):
                outputs = adapter.outputs(outputs, self._jobs, self._batch)
        return runner.responder.checked(outputs, self._size)

    def _respond(self, outputs: list[Array]) -> None:
        """Complete the futures."""
        runner, jobs = self._runner, self._jobs
        responses = runner.responder.responses(jobs, outputs)
        # Noted before anybody can see an answer, so that whoever has one finds it in the statistics.
        runner.record(self._record.of(jobs))
        trace_batch(jobs, self._record)
        for job, response in zip(jobs, responses, strict=True):
            self._answer(job, response)
        self._jobs = []

    def _answer(self, job: Job, answer: InferResponse | BaseException) -> None:
        """Complete the future of a job, or note what it is to be completed with."""
        if job.future.cancelled():
            return
        if self._turn is None:
            deliver(job.future, answer)
        else:
            self._answers.append((job.future, answer))

    def _end(self) -> None:
        """Let the answers go that waited for their turn, and be done."""
        if self._turn is not None:
            self._turn.finish(self._answers)
        self._answered()

    def _stream(self, engine: DecoupledEngine, execution: HostExecution) -> None:
        """Hand out the responses to the one request of a batch as they come."""
        runner, record = self._runner, self._record
        (job,) = self._jobs
        respond = cast("Respond", job.request.respond)
        times = runner.response_times(job)
        with contextlib.closing(engine.stream(execution.inputs)) as stream, times:
            for outputs in stream:
                if job.dead(monotonic()):
                    raise DeadlineExceeded("the deadline passed between two responses")
                checked = self._checked(outputs)
                times.computed()
                wanted = respond(runner.responder.responses([job], checked)[0])
                times.handed_out(wanted=wanted)
                if not wanted:
                    break
        record.infer_end = monotonic()
        runner.record(record.of(self._jobs))
        trace_batch(self._jobs, record)
        self._answer(job, runner.responder.nothing(job))
        self._jobs, self._execution = [], None

    @property
    def _site(self) -> Site:
        return self._runner.sites[self._batch.instance]

    def _held_lane(self) -> Lane:
        assert self._lane is not None
        return self._lane.item

    def _free_engine(self) -> None:
        """Give token and instance back, once."""
        token, self._token = self._token, None
        if token is not None:
            token.release()
            self._executed(self._batch.instance)

    def _free_lane(self) -> None:
        """Give the lane back, once, and what its stream has read."""
        lane, self._lane = self._lane, None
        if lane is not None:
            lane.release()
        if self._contents:
            contents, self._contents = self._contents, ()
            for each in contents:
                each.release()

    def _split(self, error: BaseException) -> None:
        """Run the requests of a failed batch one by one; a single one has failed for good."""
        late = isinstance(error, DeadlineExceeded)  # alone they would be later still
        if len(self._jobs) > 1 and self._token is not None and not late and not self._runner.stateful:
            self._run_singly()
            return
        jobs, self._jobs = self._jobs, []
        self._abandon()
        for job in jobs:
            self._fail(job, error)

    def _run_singly(self) -> None:
        """Run each request as a batch of its own, with the lane and the token of this one."""
        jobs, self._jobs = self._jobs, []
        self._abandon()
        for job in jobs:
            if job.future.cancelled():
                continue
            self._jobs, self._size, self._outputs = [job], job.size, None
            self._record = BatchRecord(CloseReason.INSTANCE)
            self._record.input_start = monotonic()
            try:
                self._run_one(job)
            except BaseException as error:
                self._abandon()
                self._fail(job, error)
        self._jobs, self._outputs = [], None

    def _run_one(self, job: Job) -> None:
        runner = self._runner
        assert self._token is not None
        self._held_lane().staging.reset()  # the batch's; a job that brought its lane along is alone
        execution = self._begin([job])
        self._launch(execution, self._token.item)
        if runner.decoupled:  # has been answered
            return
        if self._outputs is None:
            execution.wait()
            self._record.infer_end = monotonic()
            self._outputs = self._kept(execution.outputs())
        (response,) = runner.responder.responses([job], self._outputs)
        runner.record(self._record.of([job]))
        trace_batch([job], self._record)
        self._answer(job, response)

    def _abandon(self) -> None:
        """Forget an execution that is not over, once its copies no longer use the lane and the inputs."""
        self._execution = self._outputs = None
        if self._on_device and self._lane is not None:
            site = self._site
            try:
                self._held_lane().settle()
            except Exception as error:  # whoever has the lane next is told, too
                if not site.lost:
                    _log.warning("the stream of lane '%s' failed: %s", self._held_lane(), error)
                site.note(error)

    def _fail(self, job: Job, error: BaseException) -> None:
        name = self._runner.signature.name
        if not isinstance(error, YaisError):
            _log.error("model '%s' failed", name, exc_info=error, extra=log_fields(name, job.request))
            error = Internal(f"model '{name}' failed: {error}")
        if not job.future.done():
            self._runner.record_failure(job, reason_of(error, ran=True))
            trace_batch([job], self._record)
            self._answer(job, error)


def hand_on(pool: ThreadPool | None, stage: Callable[..., None], *arguments: Any) -> None:
    """Run a stage on a pool, or right here if there is none, or if it has been closed meanwhile."""
    if pool is not None:
        with contextlib.suppress(RuntimeError):
            pool.submit(stage, *arguments)
            return
    stage(*arguments)
