"""Optimization profiles: the ranges of shapes that a plan was built for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from yais.engines.engine import Array
from yais.engines.tensorrt_tensors import PlanTensor
from yais.errors import InvalidArgument
from yais.memory.device_array import DeviceArray

__all__ = ["Form", "PlanProfile", "Shape", "admitting", "plan_profiles"]

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Form:
    """What the shapes within an execution follow from. Hashable.

    Attributes
    ----------
    profile
        Number of the profile to use.
    shapes
        Of each input on the device, by name.
    values
        Contents of each input on the host, by name, with the shape.
    """

    profile: int
    shapes: tuple[tuple[str, Shape], ...]
    values: tuple[tuple[str, Shape, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class PlanProfile:
    """One profile of a plan.

    Attributes
    ----------
    index
        Its number in the plan.
    ranges
        Smallest, usual and largest shape of each input by name, all with the batch dimension.
    values
        Smallest, usual and largest values of each input on the host, in row-major order.
    """

    index: int
    ranges: Mapping[str, tuple[Shape, Shape, Shape]]
    values: Mapping[str, tuple[Shape, Shape, Shape]]

    def __str__(self) -> str:
        ranges = [
            f"{name} {list(low)} to {list(high)}"
            for name, (low, _, high) in {**self.ranges, **self.values}.items()
        ]
        return f"profile {self.index} ({', '.join(ranges)})"

    def admits(self, inputs: Mapping[str, Array | DeviceArray]) -> bool:
        """Whether the shapes of inputs, and the values of those on the host, are within its ranges."""
        return all(_within(array.shape, self.ranges[name]) for name, array in inputs.items()) and all(
            _within(tuple(_on_host(inputs[name]).ravel().tolist()), bounds)
            for name, bounds in self.values.items()
        )

    def form(self, inputs: Mapping[str, Array | DeviceArray]) -> Form:
        """Return the form of an execution with these inputs."""
        shapes = tuple([(name, array.shape) for name, array in inputs.items() if name not in self.values])
        values = tuple([(name, inputs[name].shape, _on_host(inputs[name]).tobytes()) for name in self.values])
        return Form(self.index, shapes, values)

    def corner(self, which: int, tensors: Sequence[PlanTensor]) -> Form:
        """Return the form with all inputs at the smallest (0), usual (1) or largest (2) of their ranges."""
        shapes = tuple(
            [(name, bounds[which]) for name, bounds in self.ranges.items() if name not in self.values]
        )
        kinds = {tensor.name: tensor.datatype.numpy for tensor in tensors}
        values = tuple(
            [
                (name, self.ranges[name][which], np.array(bounds[which], kinds[name]).tobytes())
                for name, bounds in self.values.items()
            ]
        )
        return Form(self.index, shapes, values)


def plan_profiles(
    engine: Any, tensors: Sequence[PlanTensor], wanted: Sequence[int]
) -> tuple[PlanProfile, ...]:
    """Return the profiles that may be used, in the order of the plan.

    Parameters
    ----------
    engine, tensors
        Of the plan.
    wanted
        Their numbers; none for all.

    Raises
    ------
    InvalidArgument
        There is no such profile.
    """
    count = engine.num_optimization_profiles
    unknown = [index for index in wanted if not 0 <= index < count]
    if unknown:
        raise InvalidArgument(f"got profile {unknown[0]}, expected 0 to {count - 1}: the plan has {count}")
    return tuple([_profile(engine, tensors, index) for index in sorted(set(wanted)) or range(count)])


def admitting(profiles: Sequence[PlanProfile], inputs: Mapping[str, Array | DeviceArray]) -> PlanProfile:
    """Return the first profile that admits inputs. Raises InvalidArgument."""
    for profile in profiles:
        if profile.admits(inputs):
            return profile
    on_host = profiles[0].values
    got = ", ".join(
        f"{name} {_on_host(array).tolist() if name in on_host else list(array.shape)}"
        for name, array in inputs.items()
    )
    raise InvalidArgument(f"got {got}, expected them within {' or '.join(map(str, profiles))}")


def _profile(engine: Any, tensors: Sequence[PlanTensor], index: int) -> PlanProfile:
    inputs = [tensor for tensor in tensors if tensor.is_input]
    ranges = {each.name: _three(engine.get_tensor_profile_shape(each.name, index)) for each in inputs}
    # By position: the bindings have the names of these two arguments the wrong way round.
    values = {
        each.name: _three(engine.get_tensor_profile_values(index, each.name))
        for each in inputs
        if each.on_host
    }
    return PlanProfile(index, ranges, values)


def _on_host(array: Array | DeviceArray) -> Array:
    """Return an input that shapes are computed from. Raises InvalidArgument."""
    if isinstance(array, DeviceArray):
        raise InvalidArgument(f"got {array!r}, expected an array on the host: shapes are computed from it")
    return array


def _three(given: Sequence[Sequence[int]]) -> tuple[Shape, Shape, Shape]:
    if not given:
        raise InvalidArgument("an input of the plan that shapes are computed from has no range in a profile")
    low, usual, high = given
    return tuple(low), tuple(usual), tuple(high)


def _within(shape: Shape, bounds: tuple[Shape, Shape, Shape]) -> bool:
    low, _, high = bounds
    return len(shape) == len(low) and all(
        least <= size <= most for least, size, most in zip(low, shape, high, strict=True)
    )
