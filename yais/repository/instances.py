"""Instance groups: how many instances a model has, and where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from yais.errors import InvalidArgument
from yais.protocol.model_config_pb2 import ModelConfig, ModelInstanceGroup
from yais.repository.devices import Devices
from yais.repository.platforms import backend_name

__all__ = ["Placement", "group_places", "instance_groups", "least_instances", "places"]


_GPU_INSTANCES = 2
"""On each GPU, unless the configuration says otherwise. Triton has 1; here an instance is taken while inputs
are copied, too, so that the second keeps the GPU busy meanwhile."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where models of a backend may run.

    Attributes
    ----------
    cpu_instances
        Instances on the CPUs, unless the configuration says otherwise.
    uses_gpus, uses_cpus
        Where the backend puts instances.
    """

    cpu_instances: int
    uses_gpus: bool
    uses_cpus: bool = True


def instance_groups(config: ModelConfig, placement: Placement, devices: Devices) -> list[ModelInstanceGroup]:
    """Return the groups of a model with what they do not say: name, kind, count and GPUs.

    Raises
    ------
    InvalidArgument
        A group wants a GPU that is not there or that the backend does not use, or the CPUs where that only
        uses GPUs.
    """
    groups = list(config.instance_group) or [ModelInstanceGroup(name=config.name)]
    return [_completed(config, index, group, placement, devices) for index, group in enumerate(groups)]


def places(config: ModelConfig, placement: Placement, devices: Devices) -> list[int | None]:
    """Return for each instance of a model the GPU that it runs on, or None. Raises as `instance_groups`."""
    groups = instance_groups(config, placement, devices)
    return [gpu for group in groups for gpu in group_places(group)]


def group_places(group: ModelInstanceGroup) -> list[int | None]:
    """Return for each instance of a completed group the GPU that it runs on, or None."""
    gpus: list[int | None] = [*group.gpus] or [None]
    return [gpu for gpu in gpus for _ in range(group.count)]


def least_instances(config: ModelConfig) -> int:
    """Return how many instances a model has; before it is completed, how many at least."""
    return sum((group.count or 1) * max(len(group.gpus), 1) for group in config.instance_group) or 1


def _completed(
    config: ModelConfig, index: int, given: ModelInstanceGroup, placement: Placement, devices: Devices
) -> ModelInstanceGroup:
    group = ModelInstanceGroup()
    group.CopyFrom(given)
    group.name = group.name or f"{config.name}_{index}"
    if group.kind == group.KIND_AUTO:
        usable = placement.uses_gpus and not devices.missing_for(backend_name(config))
        on_gpu = usable or group.gpus or not placement.uses_cpus
        group.kind = group.KIND_GPU if on_gpu else group.KIND_CPU
    if group.kind != group.KIND_GPU and not placement.uses_cpus:
        raise InvalidArgument(
            f"instance group {group.name} of model {config.name} has kind "
            f"{group.Kind.Name(group.kind)} but a model of backend '{backend_name(config)}' runs on GPUs "
            "only, expected KIND_GPU"
        )
    if group.kind == group.KIND_GPU:
        if not placement.uses_gpus:
            raise InvalidArgument(
                f"instance group {group.name} of model {config.name} has kind KIND_GPU but a model of "
                f"backend '{backend_name(config)}' chooses its device itself, expected KIND_CPU or KIND_MODEL"
            )
        for problem in _problems(group, devices, backend_name(config)):
            raise InvalidArgument(f"instance group {group.name} of model {config.name} {problem}")
        group.gpus.extend([] if group.gpus else devices.gpus)
    defaults = {group.KIND_CPU: placement.cpu_instances, group.KIND_GPU: _GPU_INSTANCES}
    group.count = group.count or defaults.get(group.kind, 1)
    return group


def _problems(group: ModelInstanceGroup, devices: Devices, backend: str) -> Iterator[str]:
    if missing := devices.missing_for(backend):
        yield f"has kind KIND_GPU but {missing}"
    for gpu in group.gpus:
        if gpu not in devices.gpus:
            known = ", ".join(map(str, devices.gpus))
            yield f"specifies invalid or unsupported gpu id {gpu}. GPUs are: {known}"
