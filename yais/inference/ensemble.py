"""Ensembles: models composed of others, each of which runs as soon as its inputs are there."""

from __future__ import annotations

from functools import partial

import numpy as np

from yais.core.clock import monotonic
from yais.core.future import Future
from yais.engines.engine import Array
from yais.errors import DeadlineExceeded, InvalidArgument
from yais.inference.composed import ComposedModel
from yais.inference.composed_job import ComposedJob
from yais.inference.ensemble_plan import EnsemblePlan, EnsembleRoute
from yais.inference.ensemble_run import EnsembleRun
from yais.inference.ensemble_step import EnsembleStep, StepCounts
from yais.inference.layout import Layout, Signature
from yais.inference.request import InferRequest, InferResponse
from yais.inference.response_cache import ResponseCache
from yais.inference.servable import FindModel, submit_to
from yais.inference.step_forms import EnsembleTensor, as_array, fitted

__all__ = ["EnsembleModel"]

_MAX_ROUTES = 64  # kept; there is one for each choice of outputs


class _EnsembleJob(ComposedJob):
    """A request on its way through the steps. What it has is only touched in its events."""

    __slots__ = ("in_flight", "route", "run")

    def __init__(
        self, model: EnsembleModel, request: InferRequest, layout: Layout, route: EnsembleRoute
    ) -> None:
        super().__init__(model, request, layout)
        self.route = route
        self.run: EnsembleRun[EnsembleTensor] = EnsembleRun(model.plan, route)
        self.in_flight: dict[int, Future[InferResponse]] = {}


class EnsembleModel(ComposedModel[_EnsembleJob]):
    """One version of an ensemble, ready to take requests; see `Servable`. Thread-safe.

    Runs on no threads of its own: a step is submitted by the thread that completes the one before. Tensors go
    on as they are, and are let go with the last step that takes them. Steps whose outputs nobody asked for do
    not run.

    Parameters
    ----------
    signature
        What it takes and gives.
    version
        As it stands in responses.
    plan
        Its steps.
    find
        Finds their models, for each request anew.
    max_in_flight
        Requests to one step at most at once; 0 for any number. The others wait in their order.
    cache
        Where its answers are kept; None for nowhere.
    """

    def __init__(
        self,
        signature: Signature,
        version: str,
        plan: EnsemblePlan,
        *,
        find: FindModel,
        max_in_flight: int = 0,
        cache: ResponseCache | None = None,
    ) -> None:
        super().__init__(signature, version, find, cache=cache)
        self.plan = plan
        self._steps = [EnsembleStep(number, step, max_in_flight) for number, step in enumerate(plan.steps)]
        self._routes: dict[tuple[int, ...], EnsembleRoute] = {}

    def steps(self) -> tuple[StepCounts, ...]:
        """Return what has been counted of each step, in the plan's order."""
        return tuple(step.counts() for step in self._steps)

    def _job(self, request: InferRequest, layout: Layout) -> _EnsembleJob:
        return _EnsembleJob(self, request, layout, self._route(layout))

    def _begin(self, job: _EnsembleJob) -> None:
        job.began = job.queued
        job.post(partial(self._start, job))

    def _start(self, job: _EnsembleJob) -> None:
        request = job.request
        tensors = zip(request.inputs, request.data, strict=True)
        given = {spec.name: EnsembleTensor(spec, data, request.signature) for spec, data in tensors}
        self._go(job, job.run.start(given))

    def _go(self, job: _EnsembleJob, ready: list[int]) -> None:
        if job.run.finished:
            self._finish(job)
        for number in ready:
            submit = partial(job.post, partial(self._submit, job, number))
            self._steps[number].turns.enter(submit)

    def _submit(self, job: _EnsembleJob, number: int) -> None:
        """Ask a step's model, in its turn."""
        step = self._steps[number]
        start = monotonic()
        if not job.stopped and job.dead(start):
            late = DeadlineExceeded("the deadline passed before it was asked")
            job.stop(step.named(late, self.name, job.request))
        if job.stopped:
            step.turns.leave()
            return
        step.begun()
        try:
            model = self._find(step.step.model, step.step.version)
            request = self._request(job, number, model.signature)
            if job.request.trace is not None:
                job.request.trace.child(model.name, model.version, request)
            future = submit_to(self._find, step.step.model, step.step.version, request)
        except Exception as error:
            step.ended(error, monotonic() - start)
            job.stop(step.named(error, self.name, job.request))
            step.turns.leave()
            return
        job.in_flight[number] = future
        if request.trace is not None:
            request.trace.follow(future)
        future.add_done_callback(partial(self._done, job, number, start))

    def _request(self, job: _EnsembleJob, number: int, signature: Signature) -> InferRequest:
        asked = job.request
        tensors = job.run.take(number)
        form, shared = self._steps[number].forms.form(tensors, job.route, signature)
        return InferRequest(
            form.inputs,
            form.data(tensors),
            form.outputs,
            asked.id,
            asked.parameters,
            asked.deadline,
            signature=form if shared else None,
            sequence=asked.sequence,
            priority=asked.priority,
            timeout=asked.timeout,
            arrays=True,
            volatile=asked.volatile,
        )

    def _done(self, job: _EnsembleJob, number: int, start: int, future: Future[InferResponse]) -> None:
        outcome = _outcome(future)
        self._steps[number].ended(outcome, monotonic() - start)
        job.post(partial(self._on_done, job, number, outcome))

    def _on_done(self, job: _EnsembleJob, number: int, outcome: InferResponse | BaseException) -> None:
        step = self._steps[number]
        del job.in_flight[number]
        try:
            if job.stopped:
                self._stop(job)
            elif isinstance(outcome, BaseException):
                job.stop(step.named(outcome, self.name, job.request))
            else:
                self._go(job, self._completed(job, number, outcome))
        finally:
            step.turns.leave()

    def _completed(self, job: _EnsembleJob, number: int, response: InferResponse) -> list[int]:
        form = response.form
        # Without a signature of the request forms are made for it alone, and not worth to be kept.
        origin = form if job.request.signature is not None else None
        outputs = zip(form.outputs, response.data, strict=True)
        return job.run.complete(number, [EnsembleTensor(spec, data, origin) for spec, data in outputs])

    def _finish(self, job: _EnsembleJob) -> None:
        tensors = job.run.outputs()
        missing = [name for name in job.route.outputs if name not in tensors]
        if missing:
            job.stop(
                InvalidArgument(f"output '{missing[0]}' of ensemble '{self.name}' is an input not given")
            )
            return
        self._answer(job, [self._output(index, tensors, job) for index in range(len(self.signature.outputs))])

    def _output(self, index: int, tensors: dict[str, EnsembleTensor], job: _EnsembleJob) -> Array:
        spec = self.signature.outputs[index]
        tensor = tensors.get(spec.name)
        if tensor is None:  # not asked for
            return np.empty((job.size, 0), spec.datatype.numpy)
        return as_array(tensor, fitted(tensor.spec.shape, spec, batching=bool(self.signature.max_batch)))

    def _stop(self, job: _EnsembleJob) -> None:
        for future in list(job.in_flight.values()):
            future.cancel()
        if not job.in_flight:
            self._end(job)

    def _route(self, layout: Layout) -> EnsembleRoute:
        route = self._routes.get(layout.outputs)
        if route is None:
            if len(self._routes) >= _MAX_ROUTES:
                self._routes.clear()
            wanted = [self.signature.outputs[index].name for index in layout.outputs]
            route = self._routes[layout.outputs] = self.plan.route(wanted)
        return route


def _outcome(future: Future[InferResponse]) -> InferResponse | BaseException:
    try:
        return future.result(0)  # asking for the exception costs several times as much
    except BaseException as error:
        return error
    finally:
        del future  # the error refers to this frame, which must not refer back to the error
