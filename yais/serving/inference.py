"""Inference, whichever way a request came in: from a decoded message to its model, and what follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from yais.core.future import Future
from yais.core.tensor import DataType
from yais.errors import Internal, Unimplemented
from yais.inference.request import InferRequest, InferResponse, Respond, ResponseForm, TensorData
from yais.inference.servable import ModelClosed, submit_to
from yais.protocol.infer_request import InferMessage, bytes_elements
from yais.protocol.tensor_codec import encode_bytes
from yais.repository.repository import LoadedModel
from yais.serving.caller import Caller
from yais.serving.classification import classify
from yais.serving.infer_form import InferForm, Placement, form_of
from yais.serving.mapped_region import MappedRegion
from yais.serving.request_parameters import request_parameters
from yais.serving.resources import ServingResources
from yais.serving.shared_memory import SystemSharedMemory

__all__ = ["infer"]

_NO_PARAMETERS: Mapping[str, Any] = {}

_MAX_KEPT = 64  # forms of responses kept for a form of requests

_EMPTY = memoryview(b"")

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
    """Submit a request to its model. Thread-safe; returns at once.

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
    memory = resources.system_memory
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
    if form.shared_inputs:
        request.data = _mapped(message, form, memory)
        request.volatile = True
    finish = _finish(form, loaded, memory) if form.classes or form.shared_outputs else None
    if finish is not None and respond is not None:
        request.respond = partial(_respond_finished, respond, finish)
    if message.parameters:
        _apply(message, request)
    if resources.forward is not None:
        request.parameters = {**request.parameters, **resources.forward(caller)}
    tracer = resources.tracer
    trace = tracer.begin(model.name, model.version, request, caller) if tracer.active else None
    future = model.submit(request)
    if future.done() and isinstance(future.exception(0), ModelClosed):  # replaced in this moment
        future = submit_to(resources.find_model, message.model_name, message.model_version, request)
    if trace is not None:
        trace.follow(future)
    return future if finish is None or respond is not None else _finished(future, finish)


def _apply(message: InferMessage, request: InferRequest) -> None:
    """Add what the parameters say."""
    said = request_parameters(message.parameters, repeats=message.repeats)
    request.parameters = said.values
    request.sequence, request.priority, request.timeout = said.sequence, said.priority, said.timeout


def _mapped(message: InferMessage, form: InferForm, memory: SystemSharedMemory) -> list[TensorData]:
    """Return the contents of the inputs, with views of those that are in shared memory."""
    data: list[Any] = list(message.data)
    for index, place in form.shared_inputs.items():
        # No model may write to what is the client's.
        view = memory.view(place.region, place.offset, place.byte_size).toreadonly()
        spec = form.inputs[index]
        of_bytes = spec.datatype is DataType.BYTES
        data[index] = bytes_elements(spec, view, message.model_name) if of_bytes else view
    return data


def _finish(form: InferForm, loaded: LoadedModel, memory: SystemSharedMemory) -> Finish:
    # The regions are taken now: they may be unregistered while the model runs.
    regions = {name: memory.find(place.region) for name, place in form.shared_outputs.items()}
    for name, place in form.shared_outputs.items():
        regions[name].check(place.offset, place.byte_size)  # refused now rather than when the model has run

    def finish(response: InferResponse) -> InferResponse:
        if form.classes:
            response = _classified(response, form, loaded)
        return _placed(response, form, regions) if regions else response

    return finish


def _classified(response: InferResponse, form: InferForm, loaded: LoadedModel) -> InferResponse:
    """Return a response with top classes; those of one form share theirs, as they did before."""
    before = response.form
    response = classify(response, form.classes, loaded)
    if len(form.classified) >= _MAX_KEPT:
        form.classified.clear()
    response.form = form.classified.setdefault(before, response.form)
    return response


def _placed(response: InferResponse, form: InferForm, regions: Mapping[str, MappedRegion]) -> InferResponse:
    """Return a response without the outputs that are written to shared memory here."""
    data: list[Any] = list(response.data)
    sizes = []
    for index, spec in enumerate(response.form.outputs):
        region = regions.get(spec.name)
        if region is None:
            continue
        place = form.shared_outputs[spec.name]
        contents = data[index]
        wire = contents if isinstance(contents, memoryview) else memoryview(encode_bytes(contents))
        size = wire.nbytes
        if size > place.byte_size:
            raise Internal(
                f"shared memory size specified with the request for output '{spec.name}' "
                f"({place.byte_size} bytes) should be at least {size} bytes to hold the results"
            )
        # Checked again: its client may have made it smaller.
        region.view(place.offset, size)[:] = wire
        data[index] = _EMPTY
        sizes.append(size)
    key = (response.form, tuple(sizes))
    placed = form.placed.get(key)
    if placed is None:
        if len(form.placed) >= _MAX_KEPT:
            form.placed.clear()
        placed = form.placed[key] = _placed_form(response.form, form.shared_outputs, sizes)
    return InferResponse(placed, response.id, data)


def _placed_form(form: ResponseForm, places: Mapping[str, Placement], sizes: Sequence[int]) -> ResponseForm:
    names = [spec.name for spec in form.outputs if spec.name in places]
    parameters: dict[str, dict[str, str | int]] = {}
    for name, size in zip(names, sizes, strict=True):
        place = places[name]
        parameters[name] = {"shared_memory_region": place.region, "shared_memory_byte_size": size}
        if place.offset:
            parameters[name]["shared_memory_offset"] = place.offset
    return ResponseForm(form.model_name, form.model_version, form.outputs, parameters)


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
