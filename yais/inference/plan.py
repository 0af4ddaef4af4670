"""The capacity plan: what a manager's models will take, said before anything is allocated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from yais.core.tensor import TensorSpec
from yais.inference.layout import Signature
from yais.memory.arena import Arena

__all__ = ["CapacityPlan", "ModelPlan", "model_plan", "staging_bytes"]

_SMALLEST = 32 << 10  # bytes of a staging arena at least: what the original rounds its host stacks to


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """What one model needs.

    Attributes
    ----------
    concurrency
        Executions at once.
    batch
        Largest batch.
    staging
        Bytes of staging memory for the inputs of the largest batch, and for its outputs if they come from a
        device.
    scratch, device
        Bytes of activation memory and of device memory of one execution.
    open
        Names of inputs with dimensions of any size and no profile, and of such outputs if they are counted.
        Such dimensions are counted as 1; staging memory grows when inputs need more.
    """

    name: str
    concurrency: int
    batch: int
    staging: int
    scratch: int
    device: int
    open: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CapacityPlan:
    """What a manager takes. All sizes are bytes; `str` is the text that is logged.

    Attributes
    ----------
    models
        What each needs.
    tokens, scratch
        Execution tokens, and the activation memory of each: the largest any model needs.
    lanes, staging, device
        Lanes, and the staging and the device memory of each: the largest any model needs, `staging` rounded
        up to a power of two.
    """

    models: tuple[ModelPlan, ...]
    tokens: int
    scratch: int
    lanes: int
    staging: int
    device: int

    @property
    def host_total(self) -> int:
        """Bytes of host memory in all."""
        return self.lanes * self.staging

    @property
    def device_total(self) -> int:
        """Bytes of device memory in all, without the models' weights."""
        return self.lanes * self.device + self.tokens * self.scratch

    def __str__(self) -> str:
        tokens = f"Creating {_count(self.tokens, 'execution token')}"
        if self.scratch:
            tokens += f", each with {_text(self.scratch)} of activation memory"
        lanes = (
            f"Creating {_count(self.lanes, 'lane')}, each with {_text(self.staging)} of host staging memory"
        )
        if self.device:
            lanes += f" and {_text(self.device)} of device memory"
        lines = [tokens, lanes]
        lines += [_line(model) for model in self.models]
        lines.append(f"Total host memory: {_text(self.host_total)}")
        if self.device_total:
            lines.append(f"Total device memory: {_text(self.device_total)}")
        return "\n".join(lines)


def model_plan(
    signature: Signature, concurrency: int, *, scratch: int, device: int, on_device: bool = False
) -> ModelPlan:
    """Return what a model needs, from what it takes and how often at once."""
    staged = (*signature.inputs, *signature.outputs) if on_device else signature.inputs
    shapes = [_largest(spec, signature) for spec in staged]
    return ModelPlan(
        name=signature.name,
        concurrency=concurrency,
        batch=max(1, signature.max_batch),
        staging=sum(Arena.padded(TensorSpec(s.name, s.datatype, s.shape).nbytes) for s in shapes),
        scratch=scratch,
        device=device,
        open=tuple(spec.name for spec in staged if -1 in spec.shape and spec.name not in signature.profiles),
    )


def staging_bytes(models: Iterable[ModelPlan]) -> int:
    """Return the size of each staging arena: enough for any of the models."""
    needed = max((model.staging for model in models), default=0)
    return max(_SMALLEST, 1 << (needed - 1).bit_length() if needed else 0)


def _largest(spec: TensorSpec, signature: Signature) -> TensorSpec:
    profile = signature.profiles.get(spec.name)
    shape = profile.largest if profile else tuple(1 if size < 0 else size for size in spec.shape)
    batch = (signature.max_batch,) if signature.max_batch else ()
    return TensorSpec(spec.name, spec.datatype, (*batch, *shape))


def _line(model: ModelPlan) -> str:
    line = (
        f"  {model.name}: {model.concurrency} at once, batches of up to {model.batch}, "
        f"{_text(model.staging)} of tensors"
    )
    if model.scratch:
        line += f", {_text(model.scratch)} of activations"
    if model.open:
        line += f"; any size: {', '.join(model.open)}"
    return line


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number > 1 else "")


def _text(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.1f} {unit}" if unit != "B" else f"{count} B"
