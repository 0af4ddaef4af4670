"""Backends of engine kinds: those of yais itself, and those of installed packages."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from yais.engines.engine import Engine
from yais.engines.kinds import EngineKind, EngineSettings
from yais.engines.placed_engine import load_placed
from yais.errors import InvalidArgument
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.backend import Backend
from yais.repository.devices import Devices
from yais.repository.engine_tensors import engine_tensors
from yais.repository.instances import Placement, group_places, instance_groups
from yais.repository.slo_config import OWN_PREFIX

__all__ = ["kind_backend"]

_OPTIMIZATION = {"cuda", "input_pinned_memory", "output_pinned_memory"}


@functools.cache
def kind_backend(kind: EngineKind) -> Backend:
    """Return the backend of the models whose engines are of a kind."""

    def load(config: ModelConfig, version: str, path: Path, *, auto_complete: bool = True) -> Engine:  # noqa: ARG001 - all take the same
        return _load(kind, placement, config, version, path)

    placement = Placement(kind.cpu_instances, kind.uses_gpus, kind.uses_cpus)
    return Backend(kind.name, kind.platform, kind.filename, placement, kind.warms_up, load)


def _load(kind: EngineKind, placement: Placement, config: ModelConfig, version: str, path: Path) -> Engine:
    """Return an engine for each device that has instances, as one; see `LoadEngine`."""
    _check(kind, config)
    groups = instance_groups(config, placement, Devices.here())
    gpus = [gpu for group in groups for gpu in group_places(group)]

    def load(gpu: int | None) -> Engine:
        profiles = [name for group in groups if gpu in group_places(group) for name in group.profile]
        return kind.load(path, _settings(config, version, path, gpu, gpus.count(gpu), profiles))

    return load_placed(load, gpus)


def _check(kind: EngineKind, config: ModelConfig) -> None:
    for field, _ in config.optimization.ListFields():
        if field.name not in _OPTIMIZATION:
            raise InvalidArgument(
                f"model '{config.name}' is configured with 'optimization.{field.name}', a model of backend "
                f"'{kind.name}' has none"
            )
    for key in config.parameters:
        if kind.parameters is not None and key not in kind.parameters and not key.startswith(OWN_PREFIX):
            expected = ", ".join(kind.parameters) or "none"
            raise InvalidArgument(
                f"got parameter '{key}' for model '{config.name}', expected one of backend '{kind.name}': "
                f"{expected}"
            )


def _settings(
    config: ModelConfig, version: str, path: Path, gpu: int | None, instances: int, profiles: Sequence[str]
) -> EngineSettings:
    directory = next((parent.parent for parent in path.parents if parent.name == version), path.parent)
    inputs, outputs = engine_tensors(config, directory)
    return EngineSettings(
        name=config.name,
        version=version,
        gpu=gpu,
        instances=instances,
        max_batch=config.max_batch_size,
        parameters={
            key: parameter.string_value
            for key, parameter in config.parameters.items()
            if not key.startswith(OWN_PREFIX)
        },
        inputs=inputs,
        outputs=outputs,
        profiles=tuple(dict.fromkeys(profiles)),
        graphs=config.optimization.cuda.graphs,
    )
