"""What the tests of ensembles and pipelines have in common: models to compose, and requests to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from modelling import SOON

from yais.core.clock import NEVER, Deadline
from yais.core.future import Future
from yais.core.tensor import DataType, TensorSpec
from yais.errors import InvalidArgument, NotFound
from yais.inference.ensemble import EnsembleModel
from yais.inference.ensemble_plan import EnsemblePlan, Step
from yais.inference.layout import Signature
from yais.inference.request import InferRequest, InferResponse
from yais.inference.servable import ModelClosed, Servable
from yais.testing import FakeEngine


def floats(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name, DataType.FP32, shape or (2,))


def texts(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name, DataType.BYTES, shape or (1,))


class Zoo:
    """Models by name, as a repository has them: a `FindModel`.

    Attributes
    ----------
    asked
        The requests that models were given, in their order: the name, and the request.
    """

    def __init__(self, make_model: Callable[..., Servable]) -> None:
        self._make_model = make_model
        self.models: dict[tuple[str, str], Servable] = {}
        self.asked: list[tuple[str, InferRequest]] = []

    def __call__(self, name: str, version: str = "") -> Servable:
        if version == "0":
            raise InvalidArgument("got version 0, expected a positive number")
        model = self.models.get((name, version))
        if model is None:
            raise NotFound(f"Request for unknown model: '{name}' is not found")
        return _Watched(model, name, self.asked)

    def add(self, model: Servable, version: str = "") -> Servable:
        self.models[model.name, version] = model
        return model

    def engine(
        self,
        name: str,
        function: Callable[..., Sequence[Any]],
        inputs: Sequence[TensorSpec] | None = None,
        outputs: Sequence[TensorSpec] | None = None,
        *,
        max_batch: int = 8,
        optional: Sequence[str] = (),
        **options: Any,
    ) -> FakeEngine:
        """Add a model of a function, from "i" to "o" by default; return its engine."""
        signature = Signature(
            name,
            tuple(inputs or [floats("i")]),
            tuple(outputs or [floats("o")]),
            max_batch,
            optional=frozenset(optional),
        )
        engine = FakeEngine(signature.inputs, signature.outputs, function)
        self.add(self._make_model(engine, signature=signature, batching=bool(max_batch), **options))
        return engine


class _Watched:
    """A model that notes what it is asked."""

    def __init__(self, model: Servable, name: str, asked: list[tuple[str, InferRequest]]) -> None:
        self._model, self._name, self._asked = model, name, asked

    def submit(self, request: InferRequest) -> Future[InferResponse]:
        self._asked.append((self._name, request))
        return self._model.submit(request)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._model, attribute)


class ClosedOnce:
    """A model that has been replaced since it was found: the next look finds the other."""

    def __init__(self, zoo: Zoo, name: str) -> None:
        self._zoo, self._successor = zoo, zoo.models[name, ""]
        self.signature, self.name, self.decoupled = self._successor.signature, name, False
        zoo.models[name, ""] = self  # type: ignore[assignment]

    def submit(self, request: InferRequest) -> Future[InferResponse]:
        self._zoo.models[self.name, ""] = self._successor
        failed: Future[InferResponse] = Future()
        failed.set_exception(ModelClosed(f"model '{self.name}' version 1 is being unloaded"))
        return failed


def step(model: str, takes: str | dict[str, str], gives: str | dict[str, str], version: str = "") -> Step:
    """A step; a text is what the input "i", or the output "o", is mapped to."""
    inputs = {"i": takes} if isinstance(takes, str) else takes
    return Step(model, version, inputs, {"o": gives} if isinstance(gives, str) else gives)


def ensemble(
    zoo: Zoo,
    steps: Sequence[Step],
    inputs: Sequence[TensorSpec] | None = None,
    outputs: Sequence[TensorSpec] | None = None,
    *,
    name: str = "E",
    max_batch: int = 8,
    max_in_flight: int = 0,
    optional: Sequence[str] = (),
    check: bool = True,
) -> EnsembleModel:
    """An ensemble from "x" to "y" by default, checked as when it is loaded, and in the zoo."""
    takes, gives = tuple(inputs or [floats("x")]), tuple(outputs or [floats("y")])
    plan = EnsemblePlan.of(name, steps, takes, gives, max_batch)
    if check:
        plan.check(zoo)
    signature = Signature(name, takes, gives, max_batch, optional=frozenset(optional))
    model = EnsembleModel(signature, "3", plan, find=zoo, max_in_flight=max_in_flight)
    zoo.add(model)
    return model


def ask(
    value: float = 1.0, batch: int = 1, *, name: str = "x", deadline: Deadline = NEVER, **rest: Any
) -> InferRequest:
    """A request of rows of two elements, all `value`; as bytes unless `arrays` is said."""
    array = np.full((batch, 2), value, np.float32)
    data = array if rest.get("arrays") else array.tobytes()
    return InferRequest([floats(name, batch, 2)], [data], deadline=deadline, **rest)


def values(response: InferResponse) -> dict[str, Any]:
    """The outputs of a response as lists, by name."""
    answer = {}
    for spec, data in zip(response.form.outputs, response.data, strict=True):
        array = np.frombuffer(data, spec.datatype.numpy) if isinstance(data, memoryview) else data
        answer[spec.name] = array.reshape(spec.shape).tolist()
    return answer


def eventually(holds: Callable[[], object]) -> None:
    """Wait for what no event announces."""
    deadline = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)
