"""Whether the models of an ensemble fit together. The texts of errors are Triton's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from yais.core.tensor import DataType, TensorSpec
from yais.errors import InvalidArgument, YaisError
from yais.inference.layout import Signature
from yais.inference.servable import FindModel, Servable

if TYPE_CHECKING:
    from yais.inference.ensemble_plan import EnsemblePlan, Step

__all__ = ["check_ensemble"]


class _Tensor(NamedTuple):
    """A tensor of an ensemble as one model has it."""

    model: str
    spec: TensorSpec
    batching: bool

    @property
    def full(self) -> tuple[int, ...]:
        """Its shape, with the batch dimension if there is one."""
        return (-1, *self.spec.shape) if self.batching else self.spec.shape


def check_ensemble(plan: EnsemblePlan, find: FindModel) -> None:
    """Compare the tensors of an ensemble with those of its models, which must be ready.

    Raises
    ------
    InvalidArgument
        A model is not available, is decoupled, takes only smaller batches, has no such input or output, or
        needs another input; or two models take a tensor to be of different types or shapes.
    """
    models = _found(plan, find)
    own = plan.inputs + plan.outputs
    tensors = {spec.name: _Tensor(plan.name, spec, bool(plan.max_batch)) for spec in own}
    for step, model in zip(plan.steps, models, strict=True):
        _check_model(plan, step, model)
        _check_names(plan.name, step, model.signature)
        for mapped, specs in (
            (step.inputs, model.signature.inputs),
            (step.outputs, model.signature.outputs),
        ):
            for spec in specs:
                if spec.name in mapped:
                    name = mapped[spec.name]
                    tensor = _Tensor(step.model, spec, bool(model.signature.max_batch))
                    _check_alike(plan.name, name, tensors.setdefault(name, tensor), tensor)


def _found(plan: EnsemblePlan, find: FindModel) -> list[Servable]:
    models = []
    missing: dict[str, None] = {}
    for step in plan.steps:
        try:
            models.append(find(step.model, step.version))
        except YaisError as error:
            missing[f"{step.model} ({error})"] = None
    if missing:
        raise InvalidArgument(
            f"ensemble {plan.name} contains models that are not available: {', '.join(missing)}"
        )
    return models


def _check_model(plan: EnsemblePlan, step: Step, model: Servable) -> None:
    if model.decoupled:
        raise InvalidArgument(
            f"ensemble {plan.name} contains the decoupled model {step.model}, which answers a request any "
            "number of times; an ensemble answers once, so only a pipeline can use it"
        )
    largest = model.signature.max_batch
    if 0 < largest < plan.max_batch:
        raise InvalidArgument(
            f"ensemble {plan.name} allows maximum batch size {plan.max_batch}, but it contains model "
            f"{step.model} which only allows maximum batch size to be {largest}"
        )


def _check_names(ensemble: str, step: Step, signature: Signature) -> None:
    inputs, outputs = _names(signature.inputs), _names(signature.outputs)
    for name, tensor in step.inputs.items():
        if name not in inputs:
            raise InvalidArgument(
                f"in ensemble {ensemble}, ensemble tensor {tensor} is mapping to non-existing input {name} "
                f"in model {step.model}"
            )
    for name in inputs:
        if name not in step.inputs and name not in signature.optional:
            raise InvalidArgument(
                f"in ensemble {ensemble}, input {name} in model {step.model} is not mapped to any ensemble "
                "tensors"
            )
    for name, tensor in step.outputs.items():
        if name not in outputs:
            raise InvalidArgument(
                f"in ensemble {ensemble}, ensemble tensor {tensor} is mapped from non-existing output "
                f"{name} in model {step.model}"
            )


def _check_alike(ensemble: str, name: str, one: _Tensor, other: _Tensor) -> None:
    where = f"in ensemble {ensemble}, ensemble tensor {name}: inconsistent"
    one_type, other_type = one.spec.datatype, other.spec.datatype
    if one_type is not other_type:
        raise InvalidArgument(
            f"{where} data type: {_type(one_type)} is inferred from model {one.model} while "
            f"{_type(other_type)} is inferred from model {other.model}"
        )
    # A model without a batch dimension may have the batch as its first one.
    if not _fit(one.spec.shape, other.spec.shape) and not _fit(one.full, other.full):
        raise InvalidArgument(
            f"{where} shape: {_text(one.full)} is inferred from model {one.model} while "
            f"{_text(other.full)} is inferred from model {other.model}"
        )


def _fit(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return len(one) == len(other) and all(a == b or -1 in {a, b} for a, b in zip(one, other, strict=True))


def _names(specs: Iterable[TensorSpec]) -> list[str]:
    return [spec.name for spec in specs]


def _type(datatype: DataType) -> str:
    return "TYPE_STRING" if datatype is DataType.BYTES else f"TYPE_{datatype.value}"


def _text(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"
