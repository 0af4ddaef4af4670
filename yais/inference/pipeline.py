"""Pipelines: models composed of others by a coroutine."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, cast

from yais.core.clock import monotonic
from yais.core.future import Future
from yais.core.loop_thread import LoopThread
from yais.core.tensor import TensorSpec
from yais.engines.engine import Array
from yais.engines.python_outputs import checked_outputs
from yais.errors import Cancelled, DeadlineExceeded, Internal, InvalidArgument, YaisError
from yais.inference.composed import ComposedModel
from yais.inference.composed_job import ComposedJob
from yais.inference.gather import views
from yais.inference.in_flight import InFlight
from yais.inference.layout import Layout, Signature
from yais.inference.log_fields import log_fields
from yais.inference.pipeline_models import PipelineModels
from yais.inference.request import InferRequest, Respond
from yais.inference.request_trace import BatchMoments
from yais.inference.response_cache import ResponseCache
from yais.inference.response_times import ResponseTimes
from yais.inference.servable import FindModel

__all__ = ["PipelineFunction", "PipelineModel"]

_log = logging.getLogger("yais.inference")

PipelineFunction = Callable[[dict[str, Array], PipelineModels], Any]
"""`async def pipeline(inputs, models)`: takes read-only arrays by input name, and what it can ask; returns a
mapping of output names to arrays, or to what `numpy.asarray` takes, or yields any number of them."""


class _PipelineJob(ComposedJob):
    """A request that a coroutine answers."""

    __slots__ = ("task",)

    def __init__(self, model: PipelineModel, request: InferRequest, layout: Layout) -> None:
        super().__init__(model, request, layout)
        self.task: Future[list[Array] | None] | None = None


class PipelineModel(ComposedModel[_PipelineJob]):
    """One version of a pipeline, ready to take requests; see `Servable`. Thread-safe.

    While it waits for other models it holds no thread, lane, token or instance of them.

    Parameters
    ----------
    signature
        What it takes and gives.
    version
        As it stands in responses.
    function
        Answers a request; see `PipelineFunction`. What it raises ends the request, with its own status if it
        is a `YaisError`. It is cancelled when the request is, and when its deadline passes. One that yields
        makes the model decoupled.
    find
        Finds the other models, whenever one is asked.
    loop
        What it runs on. Stays open.
    instances
        Requests at most at once; the others wait in their order.
    on_close
        Called once when the model is closed and nothing is under way. What it raises is logged.
    cache
        Where its answers are kept; None for nowhere.

    Raises
    ------
    InvalidArgument
        `function` is neither a coroutine function nor an asynchronous generator.
    """

    def __init__(
        self,
        signature: Signature,
        version: str,
        function: PipelineFunction,
        *,
        find: FindModel,
        loop: LoopThread,
        instances: int = 1,
        on_close: Callable[[], object] | None = None,
        cache: ResponseCache | None = None,
    ) -> None:
        decoupled = inspect.isasyncgenfunction(function)
        super().__init__(signature, version, find, decoupled=decoupled, cache=cache)
        if not self.decoupled and not inspect.iscoroutinefunction(function):
            raise InvalidArgument(
                f"got {function!r} as the pipeline of model '{signature.name}', expected a function as in "
                "'async def pipeline(inputs, models)'"
            )
        self._function = function
        self._loop = loop
        self._turns = InFlight(instances)
        self._on_close = on_close
        # Handing out a response waits for whoever reads it. The loop's own threads, which all its pipelines
        # share, are too few for that: as many slow readers would stop them all.
        self._responding = ThreadPoolExecutor(instances, f"yais-{self.name}") if decoupled else None
        batch = (-1,) if signature.max_batch else ()
        self._outputs = [
            TensorSpec(spec.name, spec.datatype, (*batch, *spec.shape)) for spec in signature.outputs
        ]

    def close(self, timeout: float) -> bool:
        """Refuse new requests, and let those under way end; see `ComposedModel.close`."""
        drained = super().close(timeout)
        if drained and self._responding is not None:
            self._responding.shutdown(wait=False)
        if drained and self._on_close is not None:
            on_close, self._on_close = self._on_close, None
            try:
                on_close()
            except Exception:
                _log.exception("%r: on_close raised", self)
        return drained

    def _job(self, request: InferRequest, layout: Layout) -> _PipelineJob:
        return _PipelineJob(self, request, layout)

    def _begin(self, job: _PipelineJob) -> None:
        self._turns.enter(partial(job.post, partial(self._start, job)))

    def _start(self, job: _PipelineJob) -> None:
        job.began = monotonic()
        if not job.stopped and job.dead(job.began):
            job.stop(DeadlineExceeded("the deadline passed while the request was queued"))
        if job.stopped:
            self._turns.leave()
            return
        try:
            job.task = self._loop.spawn(self._run(job))
        except YaisError as error:  # the loop is closed
            job.stop(error)
            self._turns.leave()
            return
        job.task.add_done_callback(lambda task: job.post(partial(self._on_done, job, task)))

    async def _run(self, job: _PipelineJob) -> list[Array] | None:
        """Return the outputs, or None if they were handed out one by one."""
        given = zip(self.signature.inputs, views(self.signature.inputs, job), strict=True)
        inputs = {spec.name: _read_only(array) for spec, array in given if array is not None}
        models = PipelineModels(self._find, job.request)
        deadline = asyncio.timeout(job.request.deadline.remaining())
        try:
            async with deadline:
                if self.decoupled:
                    await self._stream(job, inputs, models)
                    return None
                return self._checked(await self._function(inputs, models), inputs)
        except TimeoutError:
            if deadline.expired():
                raise DeadlineExceeded(f"the deadline passed while model '{self.name}' ran") from None
            raise

    async def _stream(self, job: _PipelineJob, inputs: dict[str, Array], models: PipelineModels) -> None:
        respond, loop = cast("Respond", job.request.respond), asyncio.get_running_loop()
        times = ResponseTimes(self._statistics, job.request.received)
        async with contextlib.aclosing(self._function(inputs, models)) as results:
            with times:
                async for result in results:
                    outputs = self._responder.checked(self._checked(result, inputs), job.size)
                    times.computed()
                    (response,) = self._responder.responses([job], outputs)
                    wanted = await loop.run_in_executor(self._responding, respond, response)
                    times.handed_out(wanted=wanted)
                    if not wanted:
                        break

    def _checked(self, result: object, inputs: dict[str, Array]) -> list[Array]:
        outputs = checked_outputs(result, self._outputs, list(inputs.values()))
        return [outputs[spec.name] for spec in self._outputs]

    def _on_done(self, job: _PipelineJob, task: Future[list[Array] | None]) -> None:
        job.task = None
        if job.request.trace is not None:
            now = monotonic()
            job.request.trace.batch(BatchMoments(job.size, job.began, job.began, job.began, now, now))
        try:
            error = task.exception(0)
            if job.stopped:
                self._end(job)
            elif error is not None:
                job.error = self._named(error, job.request)
                self._end(job)
            elif (outputs := task.result(0)) is not None:
                self._answer(job, outputs)
            else:
                self._succeed(job, self._responder.nothing(job), monotonic())
        finally:
            self._turns.leave()

    def _stop(self, job: _PipelineJob) -> None:
        if job.task is None:
            self._end(job)
        else:
            job.task.cancel()

    def _named(self, error: BaseException, request: InferRequest) -> YaisError:
        if isinstance(error, asyncio.CancelledError):
            return Cancelled(f"model '{self.name}' was cancelled while it ran")
        if not isinstance(error, YaisError):
            _log.error("model '%s' failed", self.name, exc_info=error, extra=log_fields(self.name, request))
        elif not isinstance(error, Internal):
            return error
        return Internal(f"model '{self.name}' failed: {error}")


def _read_only(given: Array) -> Array:
    array = given.view()
    array.flags.writeable = False
    return array
