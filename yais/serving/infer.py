"""ModelInfer: from the wire into `Model.submit`, and back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from yais.core.future import Future
from yais.core.tensor import TensorSpec
from yais.errors import InvalidArgument, NotFound, Unimplemented
from yais.inference.request import InferRequest, InferResponse, ResponseForm, TensorData
from yais.inference.servable import ModelClosed, submit_to
from yais.protocol.infer_request import InferMessage
from yais.protocol.infer_response import ResponseHead, encode_infer_response
from yais.protocol.tensor_codec import encode_bytes
from yais.repository.repository import LoadedModel
from yais.rpc.context import Context
from yais.serving.classification import classify
from yais.serving.request_parameters import request_parameters
from yais.serving.resources import ServingResources

__all__ = ["InferContext", "encode_response"]

_NO_PARAMETERS: Mapping[str, Any] = {}

_MAX_FORMS = 4096  # kept forms of requests, and of responses


@dataclass(frozen=True, slots=True, eq=False)
class _Form:
    """What is the same in all requests of one form, checked; also their `InferRequest.signature`.

    Attributes
    ----------
    classes
        For outputs that are to be classified, how many classes.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    classes: Mapping[str, int]


# Forms of requests, by the objects that stand for their headers (the same bytes give the same object).
_forms: dict[Hashable, _Form] = {}


class InferContext(Context[InferMessage, InferResponse, ServingResources]):
    """Serves ModelInfer."""

    def execute(self, message: InferMessage) -> Future[InferResponse]:
        """Submit the request to its model."""
        loaded = self.resources.models.find(message.model_name, message.model_version)
        model = loaded.model
        if model.decoupled:
            raise Unimplemented("ModelInfer RPC doesn't support models with decoupled transaction policy")
        form = _form(message)
        request = InferRequest(
            form.inputs,
            _present(message.data),
            form.outputs,
            message.id,
            _NO_PARAMETERS,
            self.deadline,
            self.accepted,
            form if message.repeats else None,
            waited=self.waited,
        )
        if message.parameters:
            _apply(message, request)
        future = model.submit(request)
        if future.done() and isinstance(future.exception(0), ModelClosed):  # replaced in this moment
            find, name, version = self.resources.find_model, message.model_name, message.model_version
            future = submit_to(find, name, version, request)
        return _classified(future, form.classes, loaded) if form.classes else future


def _apply(message: InferMessage, request: InferRequest) -> None:
    """Add what the parameters say."""
    said = request_parameters(message.parameters, repeats=message.repeats)
    request.parameters = said.values
    request.sequence, request.priority, request.timeout = said.sequence, said.priority, said.timeout


def encode_response(response: InferResponse) -> bytes:
    """Return a response as a ModelInferResponse on the wire."""
    head = _heads.get(response.form)
    if head is None:
        head = _head(response.form)
    contents = [data if isinstance(data, memoryview) else encode_bytes(data) for data in response.data]
    return encode_infer_response(head, response.id, contents)


_heads: dict[ResponseForm, ResponseHead] = {}


def _head(form: ResponseForm) -> ResponseHead:
    if len(_heads) >= _MAX_FORMS:
        _heads.clear()
    head = _heads[form] = ResponseHead.of(form.model_name, form.model_version, form.outputs)
    return head


def _form(message: InferMessage) -> _Form:
    if not message.repeats:
        return _checked_form(message)
    key = (tuple(message.inputs), tuple(message.outputs))
    form = _forms.get(key)
    if form is None:
        form = _checked_form(message)
        if len(_forms) >= _MAX_FORMS:
            _forms.clear()
        _forms[key] = form
    return form


def _checked_form(message: InferMessage) -> _Form:
    for parameters in (*(i.parameters for i in message.inputs), *(o.parameters for o in message.outputs)):
        if "shared_memory_region" in parameters:
            raise NotFound(f"Unable to find shared memory region: '{parameters['shared_memory_region']}'")
    classes: dict[str, int] = {}
    for output in message.outputs:
        count = output.parameters.get("classification")
        if count is None:
            continue
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise InvalidArgument(
                f"invalid value for 'classification' parameter of output '{output.name}': got {count!r}, "
                "expected an int64_param of at least 1"
            )
        classes[output.name] = count
    return _Form(
        inputs=tuple(header.spec for header in message.inputs),
        outputs=tuple(output.name for output in message.outputs),
        classes=classes,
    )


def _present(data: list[TensorData | None]) -> list[TensorData]:
    # None stands for contents in shared memory, which the check of the form has refused.
    return data  # type: ignore[return-value]


def _classified(
    future: Future[InferResponse], classes: Mapping[str, int], loaded: LoadedModel
) -> Future[InferResponse]:
    """Return a future of the same response with its outputs turned into their top classes."""
    result: Future[InferResponse] = Future()

    def done(source: Future[InferResponse]) -> None:
        if not result.set_running_or_notify_cancel():
            return
        try:
            result.set_result(classify(source.result(0), classes, loaded))
        except BaseException as error:
            result.set_exception(error)

    future.add_done_callback(done)
    result.add_done_callback(lambda result: future.cancel() if result.cancelled() else None)
    return result
