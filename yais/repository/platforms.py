"""Names of backends and platforms."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from yais.engines.kinds import GROUP, broken_kinds, engine_kinds
from yais.errors import FailedPrecondition, InvalidArgument
from yais.protocol.model_config_pb2 import ModelConfig

__all__ = ["PLATFORMS", "backend_name", "check_backend", "detect_backend", "is_ensemble"]

PLATFORMS = {"onnxruntime": "onnxruntime_onnx", "python": "python"}
"""The platform of each backend that is no `EngineKind`; the first is that of models which name none."""


def is_ensemble(config: ModelConfig) -> bool:
    """Return whether a model is made of others, so that it has no backend."""
    return config.HasField("ensemble_scheduling") or config.platform == "ensemble"


def backend_name(config: ModelConfig) -> str:
    """Return the backend of a checked configuration that is no ensemble's.

    Where it names none, the name of the file says it, and if that does not either, it is ONNX Runtime's.
    """
    named = config.backend or config.platform
    if named:
        return _backends().get(named, next(iter(PLATFORMS)))
    filename = config.default_model_filename
    if filename == "model.py":
        return "python"
    for kind in engine_kinds().values():
        if filename and (filename == kind.filename or Path(filename).suffix in kind.suffixes):
            return kind.name
    return next(iter(PLATFORMS))


def check_backend(config: ModelConfig) -> None:
    """Check that backend and platform are known, and of one model.

    Raises
    ------
    InvalidArgument
        They are not.
    FailedPrecondition
        An installed package has the backend, and cannot be used.
    """
    if is_ensemble(config):
        return
    for field, value in (("backend", config.backend), ("platform", config.platform)):
        if not value or value in _backends():
            continue
        if value in broken_kinds():
            raise FailedPrecondition(f"{field} '{value}' of model '{config.name}': {broken_kinds()[value]}")
        expected = ", ".join(f"'{name}'" for name in _platforms())
        raise InvalidArgument(
            f"got {field} '{value}' for model '{config.name}', expected one of {expected}, or that of an "
            f"installed package: its entry point in the group '{GROUP}' names it"
        )
    name = backend_name(config)
    platform = _platforms()[name]
    if config.platform and config.platform not in {name, platform}:
        raise InvalidArgument(
            f"got platform '{config.platform}' for model '{config.name}', which has backend "
            f"'{config.backend}', expected '{platform}'"
        )


def detect_backend(config: ModelConfig, names: Collection[str]) -> None:
    """Fill in what a configuration does not say of backend and file, as far as the files tell.

    Parameters
    ----------
    names
        Of what is in the directories of the model's versions.
    """
    if is_ensemble(config) or config.default_model_filename:
        return
    if not (config.backend or config.platform):
        config.backend = _detected(names)
    kind = engine_kinds().get(backend_name(config))
    if kind is not None and kind.filename not in names:
        config.default_model_filename = next((name for name in kind.alternatives if name in names), "")


def _detected(names: Collection[str]) -> str:
    if "model.onnx" in names:
        return ""
    if "model.py" in names:
        return "python"
    for kind in engine_kinds().values():
        if any(name in names for name in (kind.filename, *kind.alternatives)):
            return kind.name
    return ""


def _platforms() -> Mapping[str, str]:
    return PLATFORMS | {kind.name: kind.platform for kind in engine_kinds().values()}


def _backends() -> Mapping[str, str]:
    platforms = _platforms()
    return {name: name for name in platforms} | {platform: name for name, platform in platforms.items()}
