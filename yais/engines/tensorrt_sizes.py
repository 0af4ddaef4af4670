"""How large the tensors of a plan become."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from yais.core.tensor import TensorSpec
from yais.engines.device_tensors import DeviceTensors
from yais.engines.tensorrt_context import PlanContext
from yais.engines.tensorrt_profiles import PlanProfile, Shape
from yais.engines.tensorrt_tensors import PlanTensor
from yais.memory.arena import Arena
from yais.memory.cuda.stream import CudaStream

__all__ = ["PlanSizes", "plan_sizes"]


@dataclass(frozen=True, slots=True)
class PlanSizes:
    """The sizes of a plan's tensors, over the profiles that may be used.

    Attributes
    ----------
    smallest, largest
        Shape of each tensor, dimension by dimension, by name.
    device, staging
        Bytes of device memory, and of staging memory for the outputs, that an execution takes at most.
    """

    smallest: Mapping[str, Shape]
    largest: Mapping[str, Shape]
    device: int
    staging: int

    def spec(self, tensor: PlanTensor) -> TensorSpec:
        """Return what a tensor looks like: -1 where its size is not the same in all."""
        low, high = self.smallest[tensor.name], self.largest[tensor.name]
        shape = tuple(least if least == most else -1 for least, most in zip(low, high, strict=True))
        return TensorSpec(tensor.name, tensor.datatype, shape)


def plan_sizes(
    context: PlanContext, tensors: Sequence[PlanTensor], profiles: Sequence[PlanProfile], stream: CudaStream
) -> PlanSizes:
    """Ask TensorRT for the outputs at both ends of each profile.

    Raises
    ------
    InvalidArgument
        An output has a size that depends on the data.
    Internal
        TensorRT refuses the shapes of its own profile.
    """
    results = [tensor for tensor in tensors if not tensor.is_input]
    corners = [(profile, which) for profile in profiles for which in (0, 2)]
    found: dict[str, list[Shape]] = {tensor.name: [] for tensor in tensors}
    device = staging = 0
    for profile, which in corners:
        outputs = context.outputs(profile.corner(which, tensors), stream)
        shapes = {**{name: bounds[which] for name, bounds in profile.ranges.items()}, **outputs}
        for name, shape in shapes.items():
            found[name].append(shape)
        device = max(device, DeviceTensors.size(_bytes(tensors, shapes)))
        staging = max(staging, sum(map(Arena.padded, _bytes(results, shapes))))
    return PlanSizes(
        {name: tuple(map(min, zip(*shapes, strict=True))) for name, shapes in found.items()},
        {name: tuple(map(max, zip(*shapes, strict=True))) for name, shapes in found.items()},
        device,
        staging,
    )


def _bytes(tensors: Sequence[PlanTensor], shapes: Mapping[str, Shape]) -> list[int]:
    """Return the sizes of those on the device."""
    return [math.prod(shapes[tensor.name]) * tensor.datatype.size for tensor in tensors if not tensor.on_host]
