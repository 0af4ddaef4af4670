"""Inference, whichever way a request came in: from a decoded message to its model, and what follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from yais.core.future import Future
from yais.errors import Unimplemented
from yais.inference.device_contents import DeviceContents
from yais.inference.request import InferRequest, InferResponse, Respond
from yais.inference.servable import ModelClosed, submit_to
from yais.protocol.infer_request import InferMessage
from yais.repository.repository import LoadedModel
from yais.serving.caller import Caller
from yais.serving.classification import classify
from yais.serving.client_region import ClientRegion
from yais.serving.infer_form import InferForm, form_of
from yais.serving.request_parameters import request_parameters
from yais.serving.shared_tensors import mapped, on_gpus, on_host, placed, release, taken

if TYPE_CHECKING:
    from yais.serving.resources import ServingResources

__all__ = ["infer"]

_NO_PARAMETERS: Mapping[str, Any] = {}

_MAX_KEPT = 64  # forms of responses kept for a form of requests

Finish = Callable[[InferResponse], InferResponse]
"""What is done to a response before it is encoded. Raises `YaisError`."""


def infer(
    resources: ServingResources,
    message: InferMessage,
    caller: Caller,
    *,
    respond: Respond | None = None,
    decoupled: str = "",
) -> Future[InferResponse]:
    """Submit a request to its model. Thread-safe; returns at once, but for copies of inputs on a GPU.

    Parameters
    ----------
    respond
        Takes the responses of a decoupled model, see `InferRequest`; the future's response has then no
        outputs and says that there are no more. Other models answer by the future alone.
    decoupled
        What to say of such a model where it cannot be served, without `respond`.

    Raises
    ------
    YaisError
        There is no such model, or the request is none. Other errors are the future's.
    """
    loaded = resources.models.find(message.model_name, message.model_version)
    model = loaded.model
    if not model.decoupled:
        respond = None
    elif respond is None:
        raise Unimplemented(decoupled)
    form = form_of(message)
    data: Sequence[Any] = message.data  # but for what is in shared memory
    request = InferRequest(
        form.inputs,
        data,
        form.outputs,
        message.id,
        _NO_PARAMETERS,
        caller.deadline,
        caller.accepted,
        form if message.repeats else None,
        respond,
        waited=caller.waited,
    )
    kept: Sequence[DeviceContents] = ()
    if form.shared_inputs:
        request.data = mapped(message, form, resources, model.gpus)
        request.volatile = True
        if model.gpus:
            kept = on_gpus(request.data)
    if message.parameters:
        _apply(message, request)
    if resources.forward is not None:
        request.parameters = {**request.parameters, **resources.forward(caller)}
    if not form.classes and not form.shared_outputs and not kept:
        return _submitted(resources, message, request, loaded, caller)
    regions = taken(form, resources, kept)
    finish = _finish(form, loaded, regions)
    if respond is not None:
        request.respond = partial(_respond_finished, respond, finish)
    try:
        future = _submitted(resources, message, request, loaded, caller)
    except BaseException:
        release(regions, kept)
        raise
    result = future if respond is not None else _finished(future, finish)
    if regions or kept:
        future.add_done_callback(lambda _: release(regions, kept))  # after what finishes it
    return result


def _submitted(
    resources: ServingResources,
    message: InferMessage,
    request: InferRequest,
    loaded: LoadedModel,
    caller: Caller,
) -> Future[InferResponse]:
    """Submit a request, traced if any are; to the model that comes after, if this one was replaced now."""
    model, tracer = loaded.model, resources.tracer
    trace = tracer.begin(model.name, model.version, request, caller) if tracer.active else None
    future = model.submit(request)
    if future.done() and isinstance(future.exception(0), ModelClosed):
        if model.gpus:  # the other may be elsewhere
            request.data = on_host(request.data)
        future = submit_to(resources.find_model, message.model_name, message.model_version, request)
    if trace is not None:
        trace.follow(future)
    return future


def _apply(message: InferMessage, request: InferRequest) -> None:
    """Add what the parameters say."""
    said = request_parameters(message.parameters, repeats=message.repeats)
    request.parameters = said.values
    request.sequence, request.priority, request.timeout = said.sequence, said.priority, said.timeout


def _finish(form: InferForm, loaded: LoadedModel, regions: Mapping[str, ClientRegion]) -> Finish:
    def finish(response: InferResponse) -> InferResponse:
        if form.classes:
            response = _classified(response, form, loaded)
        return placed(response, form, regions) if regions else response

    return finish


def _classified(response: InferResponse, form: InferForm, loaded: LoadedModel) -> InferResponse:
    """Return a response with top classes; those of one form share theirs, as they did before."""
    before = response.form
    response = classify(response, form.classes, loaded)
    if len(form.classified) >= _MAX_KEPT:
        form.classified.clear()
    response.form = form.classified.setdefault(before, response.form)
    return response


def _respond_finished(respond: Respond, finish: Finish, response: InferResponse) -> bool:
    return respond(finish(response))


def _finished(future: Future[InferResponse], finish: Finish) -> Future[InferResponse]:
    """Return a future of the same response, finished."""
    result: Future[InferResponse] = Future()

    def done(source: Future[InferResponse]) -> None:
        if not result.set_running_or_notify_cancel():
            return
        try:
            result.set_result(finish(source.result(0)))
        except BaseException as error:
            result.set_exception(error)

    future.add_done_callback(done)
    result.add_done_callback(lambda result: future.cancel() if result.cancelled() else None)
    return result
