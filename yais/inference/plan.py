"""The capacity plan: what a manager's models will take, said before anything is allocated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from yais.core.tensor import TensorSpec
from yais.inference.layout import Signature
from yais.memory.arena import Arena

__all__ = ["CapacityPlan", "ModelPlan", "byte_text", "capacity_plan", "model_plan", "staging_bytes"]

_SMALLEST = 32 << 10  # bytes of a staging arena at least: what the original rounds its host stacks to


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """What one model needs on one site.

    Attributes
    ----------
    concurrency
        Executions at once.
    batch
        Largest batch.
    staging
        Bytes of staging memory for the inputs of the largest batch, and for its outputs if they come from a
        device; as many as on the device where sizes are open.
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
    """What a manager takes, on the host and on GPUs. All sizes are bytes; `str` is the text that is logged.

    Attributes
    ----------
    models
        What each needs on the host.
    tokens, scratch
        Execution tokens, and the activation memory of each: the largest any model needs.
    lanes, staging, device
        Lanes, and the staging and the device memory of each: the largest any model needs, `staging` rounded
        up to a power of two.
    gpus
        The same for each GPU that has models, by its number.
    """

    models: tuple[ModelPlan, ...]
    tokens: int
    scratch: int
    lanes: int
    staging: int
    device: int
    gpus: Mapping[int, CapacityPlan] = field(default_factory=dict)

    @property
    def host_total(self) -> int:
        """Bytes of host memory in all."""
        return self.lanes * self.staging + sum(plan.host_total for plan in self.gpus.values())

    @property
    def device_total(self) -> int:
        """Bytes of device memory in all, without the models' weights."""
        own = self.lanes * self.device + self.tokens * self.scratch
        return own + sum(plan.device_total for plan in self.gpus.values())

    def __str__(self) -> str:
        lines = [*self._lines("")]
        for gpu, plan in self.gpus.items():
            lines += plan._lines(f"GPU {gpu}: ")
        lines.append(f"Total host memory: {byte_text(self.host_total)}")
        if self.device_total:
            lines.append(f"Total device memory: {byte_text(self.device_total)}")
        return "\n".join(lines)

    def _lines(self, where: str) -> Iterator[str]:
        tokens = f"{where}Creating {_count(self.tokens, 'execution token')}"
        if self.scratch:
            tokens += f", each with {byte_text(self.scratch)} of activation memory"
        yield tokens
        staging = byte_text(self.staging)
        lanes = f"{where}Creating {_count(self.lanes, 'lane')}, each with {staging} of host staging memory"
        if self.device:
            lanes += f" and {byte_text(self.device)} of device memory"
        yield lanes
        for model in self.models:
            yield _line(model)


def model_plan(
    signature: Signature,
    concurrency: int,
    *,
    scratch: int,
    device: int,
    on_device: bool = False,
    states: Sequence[TensorSpec] = (),
) -> ModelPlan:
    """Return what a model needs, from what it takes and how often at once.

    Parameters
    ----------
    states
        What comes from a device besides the outputs of the signature; without a batch dimension.
    """
    staged = (*signature.inputs, *signature.outputs, *states) if on_device else signature.inputs
    shapes = [_largest(spec, signature) for spec in staged]
    staging = sum(Arena.padded(TensorSpec(s.name, s.datatype, s.shape).nbytes) for s in shapes)
    unknown = tuple(spec.name for spec in staged if -1 in spec.shape and spec.name not in signature.profiles)
    return ModelPlan(
        name=signature.name,
        concurrency=concurrency,
        batch=max(1, signature.max_batch),
        # The engine knows how large such tensors get: what goes to the device and comes back is all there.
        staging=max(staging, device) if unknown else staging,
        scratch=scratch,
        device=device,
        open=unknown,
    )


def capacity_plan(models: Iterable[ModelPlan], *, tokens: int, lanes: int) -> CapacityPlan:
    """Return what models take that share the lanes and tokens of a site."""
    planned = tuple(models)
    return CapacityPlan(
        models=planned,
        tokens=tokens,
        scratch=max((plan.scratch for plan in planned), default=0),
        lanes=lanes,
        staging=staging_bytes(planned),
        device=max((plan.device for plan in planned), default=0),
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
        f"{byte_text(model.staging)} of tensors"
    )
    if model.scratch:
        line += f", {byte_text(model.scratch)} of activations"
    if model.open:
        line += f"; any size: {', '.join(model.open)}"
    return line


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number > 1 else "")


def byte_text(count: int) -> str:
    """Return a number of bytes as people read it: "1.5 MiB"."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.1f} {unit}" if unit != "B" else f"{count} B"
