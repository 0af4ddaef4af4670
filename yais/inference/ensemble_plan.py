"""Plans of ensembles: which tensors go from which model to which, checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from yais.core.tensor import TensorSpec
from yais.errors import InvalidArgument
from yais.inference.ensemble_check import check_ensemble
from yais.inference.servable import FindModel

__all__ = ["EnsemblePlan", "EnsembleRoute", "Step", "StepOutput"]


@dataclass(frozen=True, slots=True)
class Step:
    """One model of an ensemble.

    Attributes
    ----------
    model, version
        Which; the latest version if that is empty.
    inputs
        For each input of the model that it is to get, the ensemble's tensor.
    outputs
        For each output of the model that is used, the ensemble's tensor.
    """

    model: str
    version: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


class StepOutput(NamedTuple):
    """An output of a step's model, and the ensemble's tensor that it becomes."""

    output: str
    tensor: str


@dataclass(frozen=True, slots=True, eq=False)
class EnsembleRoute:
    """The part of a plan that some of its outputs need.

    Attributes
    ----------
    outputs
        The tensors wanted.
    produced
        For each step that is needed, by its position in the plan, the outputs that are.
    missing
        For each step that is needed, how many different tensors it takes.
    readers
        For each tensor, the needed steps that take it.
    uses
        For each tensor, how often it is taken: by its readers, and as an output.
    """

    outputs: tuple[str, ...]
    produced: Mapping[int, tuple[StepOutput, ...]]
    missing: Mapping[int, int]
    readers: Mapping[str, tuple[int, ...]]
    uses: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class EnsemblePlan:
    """The steps of an ensemble, which make no cycle and lack nothing. Made by `of`.

    Attributes
    ----------
    name
        Of the ensemble.
    steps
        In the order of the configuration, which does not matter.
    inputs, outputs
        The ensemble's own tensors, without the batch dimension.
    max_batch
        Largest batch; 0 for an ensemble without a batch dimension.
    """

    name: str
    steps: tuple[Step, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch: int = 0

    @classmethod
    def of(
        cls,
        name: str,
        steps: Sequence[Step],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        max_batch: int = 0,
    ) -> Self:
        """Check steps and return their plan. The texts of errors begin as Triton's.

        Raises
        ------
        InvalidArgument
            A step is incomplete, a tensor has two sources, none, or no use, or steps wait for each other.
        """
        plan = cls(name, tuple(steps), tuple(inputs), tuple(outputs), max_batch)
        plan._check_steps()
        plan._check_uses(plan._written())
        return plan

    def route(self, outputs: Sequence[str]) -> EnsembleRoute:
        """Return what has to be done for some of the outputs."""
        sources = self._sources()
        readers: dict[str, list[int]] = {}
        uses = dict.fromkeys(outputs, 1)
        needed: dict[int, None] = {}
        tensors = list(outputs)
        while tensors:
            step = sources.get(tensors.pop())
            if step is None or step in needed:
                continue
            needed[step] = None
            taken = dict.fromkeys(self.steps[step].inputs.values())
            for tensor in taken:
                readers.setdefault(tensor, []).append(step)
                uses[tensor] = uses.get(tensor, 0) + 1
            tensors.extend(taken)
        return EnsembleRoute(
            outputs=tuple(outputs),
            produced={step: self._produced(step, uses) for step in sorted(needed)},
            missing={step: len(set(self.steps[step].inputs.values())) for step in needed},
            readers={tensor: tuple(sorted(steps)) for tensor, steps in readers.items()},
            uses=uses,
        )

    def check(self, find: FindModel) -> None:
        """Compare names, types and shapes with the models'. Raises InvalidArgument; see `check_ensemble`."""
        check_ensemble(self, find)

    def _produced(self, step: int, uses: Collection[str]) -> tuple[StepOutput, ...]:
        outputs = self.steps[step].outputs.items()
        return tuple(StepOutput(output, tensor) for output, tensor in outputs if tensor in uses)

    def _sources(self) -> dict[str, int]:
        """Return for each tensor that is no input the step it comes from."""
        return {tensor: number for number, step in enumerate(self.steps) for tensor in step.outputs.values()}

    def _check_steps(self) -> None:
        name = self.name
        if not self.steps:
            raise InvalidArgument(f"must specify 'step' for ensemble '{name}'")
        written = {spec.name for spec in self.inputs}
        given = set(written)
        for number, step in enumerate(self.steps):
            parts = (("model_name", step.model), ("input_map", step.inputs), ("output_map", step.outputs))
            for part, value in parts:
                if not value:
                    raise InvalidArgument(f"must specify '{part}' in step {number} of ensemble '{name}'")
            if step.model == name:
                raise InvalidArgument(
                    f"circular dependency between ensembles: step {number} of ensemble '{name}' is itself"
                )
            for tensor in step.outputs.values():
                if tensor in written:
                    reason = ", and it is an input of the ensemble" if tensor in given else ""
                    raise InvalidArgument(
                        f"ensemble tensor '{tensor}' can appear in an output map only once for ensemble "
                        f"'{name}' step {number}{reason}"
                    )
                written.add(tensor)

    def _written(self) -> set[str]:
        """Return the tensors that get a value: all that come of the inputs alone."""
        written = {spec.name for spec in self.inputs}
        waiting = list(self.steps)
        while ready := [step for step in waiting if written.issuperset(step.inputs.values())]:
            written.update(tensor for step in ready for tensor in step.outputs.values())
            waiting = [step for step in waiting if step not in ready]
        return written

    def _check_uses(self, written: Collection[str]) -> None:
        name = self.name
        taken = {tensor for step in self.steps for tensor in step.inputs.values()}
        outputs = {spec.name for spec in self.outputs}
        for spec in self.inputs:
            if spec.name not in taken | outputs:
                raise InvalidArgument(f"ensemble input '{spec.name}' for ensemble '{name}' is not used")
        sources = self._sources()
        for spec in self.outputs:
            if spec.name not in taken | sources.keys() and spec.name not in written:
                raise InvalidArgument(f"ensemble output '{spec.name}' for ensemble '{name}' is not used")
            if spec.name not in written:
                raise InvalidArgument(
                    f"output '{spec.name}' for ensemble '{name}' is not written: {self._why(written)}"
                )
        for tensor in sorted(taken | sources.keys()):
            if tensor not in written:
                raise InvalidArgument(
                    f"ensemble tensor '{tensor}' is unused in ensemble '{name}': {self._why(written)}"
                )
            if tensor not in taken | outputs:
                raise InvalidArgument(
                    f"ensemble tensor '{tensor}' is unused in ensemble '{name}': no step takes it, and it "
                    "is no output"
                )

    def _why(self, written: Collection[str]) -> str:
        """Say why a tensor is not written, of whose steps some wait for ever."""
        sources = self._sources()
        lacking = sorted(
            {tensor for step in self.steps for tensor in step.inputs.values() if tensor not in written}
        )
        dangling = [tensor for tensor in lacking if tensor not in sources]
        if dangling:
            return f"nothing gives '{dangling[0]}'"
        if not lacking:
            return "no step gives it"
        return f"steps wait for each other in a cycle, for {lacking}"
