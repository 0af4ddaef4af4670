"""The requests of an ensemble to one of its models, as far as they are alike."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from yais.core.tensor import TensorSpec
from yais.engines.engine import Array
from yais.inference.ensemble_plan import EnsembleRoute, Step
from yais.inference.layout import Signature
from yais.inference.request import TensorData

__all__ = ["EnsembleTensor", "StepForm", "StepForms", "as_array", "fitted"]

_MAX_FORMS = 1024  # forms of requests kept per step


class EnsembleTensor(NamedTuple):
    """A tensor on its way through an ensemble.

    Attributes
    ----------
    spec
        Its shape and type; the name means nothing.
    data
        Its contents.
    origin
        Tensors of one name and equal origins have equal shapes; None when that is not known.
    """

    spec: TensorSpec
    data: TensorData
    origin: Hashable | None


@dataclass(frozen=True, slots=True, eq=False)
class StepForm:
    """What requests to a step's model have in common; also their `InferRequest.signature`.

    Attributes
    ----------
    sources
        For each input, the ensemble's tensor.
    inputs
        As the model sees them.
    outputs
        The names of those that are needed.
    """

    sources: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]

    def data(self, tensors: Mapping[str, EnsembleTensor]) -> list[TensorData]:
        """Return the contents of the inputs: nothing is copied."""
        contents: list[TensorData] = []
        for source, spec in zip(self.sources, self.inputs, strict=True):
            data = tensors[source].data
            if isinstance(data, np.ndarray) and spec.datatype.size and data.shape != spec.shape:
                data = data.reshape(spec.shape)
            contents.append(data)
        return contents


class StepForms:
    """Makes the forms of one step's requests, each once. Thread-safe."""

    def __init__(self, number: int, step: Step) -> None:
        self._number = number
        self._step = step
        # Together, so that a request which has still found the model before puts no form among the new one's.
        self._kept: tuple[Signature | None, dict[Hashable, StepForm]] = (None, {})

    def form(
        self, tensors: Mapping[str, EnsembleTensor], route: EnsembleRoute, signature: Signature
    ) -> tuple[StepForm, bool]:
        """Return the form of a request, and whether it is the same object for all of the same form."""
        origins = [tensor.origin for tensor in tensors.values()]
        if None in origins:
            return self._made(tensors, route, signature), False
        of, forms = self._kept
        if of is not signature:  # the model was loaded again
            forms = {}
            self._kept = (signature, forms)
        key = (route, *tensors, *origins)
        form = forms.get(key)
        if form is None:
            if len(forms) >= _MAX_FORMS:
                forms.clear()
            form = forms[key] = self._made(tensors, route, signature)
        return form, True

    def _made(
        self, tensors: Mapping[str, EnsembleTensor], route: EnsembleRoute, signature: Signature
    ) -> StepForm:
        expected = {spec.name: spec for spec in signature.inputs}
        given = [(name, source) for name, source in self._step.inputs.items() if source in tensors]
        specs = []
        for name, source in given:
            spec = tensors[source].spec
            shape = spec.shape
            if name in expected:
                shape = fitted(shape, expected[name], batching=bool(signature.max_batch))
            specs.append(TensorSpec(name, spec.datatype, shape))
        return StepForm(
            sources=tuple(source for _, source in given),
            inputs=tuple(specs),
            outputs=tuple(produced.output for produced in route.produced[self._number]),
        )


def fitted(shape: Sequence[int], expected: TensorSpec, *, batching: bool) -> tuple[int, ...]:
    """Return a shape with or without a batch of one, if that is what keeps it from a tensor's rank.

    Parameters
    ----------
    expected
        The tensor, without the batch dimension.
    batching
        Whether it has one.
    """
    rank = len(expected.shape) + batching
    if batching and len(shape) == rank - 1:
        return (1, *shape)
    if not batching and len(shape) == rank + 1 and shape[0] == 1:
        return tuple(shape[1:])
    return tuple(shape)


def as_array(tensor: EnsembleTensor, shape: tuple[int, ...]) -> Array:
    """Return a tensor's contents as an array over the same memory."""
    data, datatype = tensor.data, tensor.spec.datatype
    if not datatype.size:
        return np.asarray(data, np.object_).reshape(shape)
    if isinstance(data, np.ndarray):
        return data.reshape(shape)
    return np.frombuffer(data, datatype.numpy).reshape(shape)  # type: ignore[arg-type]
