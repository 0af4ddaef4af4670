"""Bundles: requests that came in together, as one request to their model.

The frontend puts them together, so that the engine process has work per batch rather than per request. Only
where nothing tells the difference: see `Bundles.limit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from yais.core.future import Future
from yais.errors import YaisError
from yais.inference.model import Model
from yais.inference.request import InferRequest, InferResponse
from yais.inference.scheduling.batching_policy import BatchingPolicy
from yais.inference.servable import submit_to
from yais.protocol.infer_request import InferMessage
from yais.serving.caller import Caller
from yais.serving.frontends.link_messages import RequestForm
from yais.serving.infer_form import form_of
from yais.serving.resources import ServingResources

__all__ = ["Bundles", "bundle_form", "item_count", "parts_of", "without_meaning"]

_SAYS_NOTHING = "triton_enable_empty_final_response"  # of a model that answers once


class Bundles:
    """Says what may be bundled, and submits it. Thread-safe."""

    def __init__(self, resources: ServingResources) -> None:
        self._resources = resources

    def limit(self, model: str, version: str) -> int:
        """Return how many items may be in a bundle for a model; 0 if there may be no bundles.

        There may be where a dynamic batcher takes whatever waits, and each request is nothing but its
        inputs: no priorities, limits or preferred sizes, no cache, no trace, no headers.
        """
        resources = self._resources
        if resources.tracer.active or resources.forward is not None:
            return 0
        try:
            servable = resources.find_model(model, version)
        except YaisError:
            return 0
        if not isinstance(servable, Model) or servable.decoupled or servable.options.cache:
            return 0
        policy = servable.options.batching
        return policy.max_batch if policy is not None and _takes_whatever_waits(policy) else 0

    def submit(
        self, message: InferMessage, caller: Caller, moments: Sequence[tuple[int, int]]
    ) -> Future[InferResponse]:
        """Submit a bundle; see `InferRequest.bundle` for its moments. Raises `YaisError`."""
        form = form_of(message)
        request = InferRequest(
            form.inputs,
            message.data,  # type: ignore[arg-type]
            form.outputs,
            deadline=caller.deadline,
            received=caller.accepted,
            signature=form,
            waited=caller.waited,
            bundle=moments,
        )
        if message.parameters:
            request.parameters = {each.key: each.value for each in message.parameters}
        return submit_to(self._resources.find_model, message.model_name, message.model_version, request)


def item_count(form: RequestForm) -> int:
    """Return the batch size of requests of a form; 0 if they cannot be in a bundle."""
    said = [each.parameters for each in form.inputs] + [each.parameters for each in form.outputs]
    if not form.repeats or form.streams or not form.inputs or any(said):
        return 0
    shapes = [each.spec.shape for each in form.inputs]
    count = shapes[0][0] if shapes[0] else 0
    same = all(shape and shape[0] == count for shape in shapes)
    return count if same and count > 0 and all(each.spec.nbytes for each in form.inputs) else 0


def without_meaning(parameters: Sequence[Any]) -> bool:
    """Return whether parameters say nothing of how a request is to be run."""
    return all(each.key == _SAYS_NOTHING for each in parameters)


def bundle_form(form: RequestForm, requests: int) -> RequestForm:
    """Return the form of a bundle of so many requests of a form."""
    inputs = [
        replace(each, spec=replace(each.spec, shape=(each.spec.shape[0] * requests, *each.spec.shape[1:])))
        for each in form.inputs
    ]
    return replace(form, inputs=inputs)


def parts_of(tensor: Any, requests: int) -> list[Any]:
    """Return what each request of a bundle has of a tensor."""
    size = len(tensor) // requests
    return [tensor[index * size : (index + 1) * size] for index in range(requests)]


def _takes_whatever_waits(policy: BatchingPolicy) -> bool:
    plain = not policy.priority_levels and not any(
        each.times_out or each.max_size for each in policy.all_policies
    )
    return plain and not set(policy.preferred) - {policy.max_batch}
