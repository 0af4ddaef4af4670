"""A request on its way through an ensemble: which steps are ready, and which tensors are still needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from yais.inference.ensemble_plan import EnsemblePlan, EnsembleRoute

__all__ = ["EnsembleRun"]

TensorT = TypeVar("TensorT")


class EnsembleRun(Generic[TensorT]):
    """A state machine over one route of a plan. Not thread-safe.

    Every step becomes ready once, when all its tensors are there. A tensor is let go with the last that takes
    it.
    """

    __slots__ = ("_left", "_missing", "_plan", "_route", "_tensors", "_uses")

    def __init__(self, plan: EnsemblePlan, route: EnsembleRoute) -> None:
        self._plan = plan
        self._route = route
        self._missing = dict(route.missing)
        self._uses = dict(route.uses)
        self._left = len(route.missing)
        self._tensors: dict[str, TensorT] = {}

    def __repr__(self) -> str:
        steps = len(self._route.missing)
        return f"<EnsembleRun {steps - self._left} of {steps} steps done, {self.held} tensors held>"

    @property
    def held(self) -> int:
        """Tensors that are still needed."""
        return len(self._tensors)

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return not self._left

    def start(self, given: Mapping[str, TensorT]) -> list[int]:
        """Take the ensemble's inputs, but not all optional ones; return the steps that are ready."""
        self._tensors = {name: tensor for name, tensor in given.items() if name in self._uses}
        return self._arrived([spec.name for spec in self._plan.inputs])

    def take(self, step: int) -> dict[str, TensorT]:
        """Return the tensors of a step that is ready, by their names in the ensemble; once."""
        taken = {}
        for name in dict.fromkeys(self._plan.steps[step].inputs.values()):
            if name in self._tensors:
                taken[name] = self._used(name)
        return taken

    def complete(self, step: int, outputs: Sequence[TensorT]) -> list[int]:
        """Take the outputs of a step, as the route has them; return the steps that are ready now."""
        self._left -= 1
        names = [produced.tensor for produced in self._route.produced[step]]
        self._tensors.update(zip(names, outputs, strict=True))
        return self._arrived(names)

    def outputs(self) -> dict[str, TensorT]:
        """Return the outputs wanted, by name, once finished; one that is a missing input is left out."""
        return {name: self._used(name) for name in self._route.outputs if name in self._tensors}

    def _used(self, name: str) -> TensorT:
        self._uses[name] -= 1
        return self._tensors[name] if self._uses[name] else self._tensors.pop(name)

    def _arrived(self, names: Sequence[str]) -> list[int]:
        ready = []
        for name in names:
            for step in self._route.readers.get(name, ()):
                self._missing[step] -= 1
                if not self._missing[step]:
                    ready.append(step)
        return ready
