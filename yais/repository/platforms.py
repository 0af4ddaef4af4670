"""Names of backends and platforms."""

from __future__ import annotations

from yais.errors import InvalidArgument
from yais.protocol.model_config_pb2 import ModelConfig

__all__ = ["PLATFORMS", "backend_name", "check_backend", "is_ensemble"]

PLATFORMS = {"onnxruntime": "onnxruntime_onnx", "python": "python"}
"""The platform of each backend; the first is the backend of models which name none."""

_BACKENDS = {name: name for name in PLATFORMS} | {platform: name for name, platform in PLATFORMS.items()}


def is_ensemble(config: ModelConfig) -> bool:
    """Return whether a model is made of others, so that it has no backend."""
    return config.HasField("ensemble_scheduling") or config.platform == "ensemble"


def backend_name(config: ModelConfig) -> str:
    """Return the backend of a checked configuration that is no ensemble's.

    Where it names none, a file `model.py` means Python, and anything else ONNX Runtime.
    """
    named = config.backend or config.platform
    if not named and config.default_model_filename == "model.py":
        return "python"
    return _BACKENDS.get(named, next(iter(PLATFORMS)))


def check_backend(config: ModelConfig) -> None:
    """Check that backend and platform are known, and of one model. Raises InvalidArgument."""
    if is_ensemble(config):
        return
    for field, value in (("backend", config.backend), ("platform", config.platform)):
        if value and value not in _BACKENDS:
            expected = " or ".join(f"'{name}'" for name in PLATFORMS)
            raise InvalidArgument(f"got {field} '{value}' for model '{config.name}', expected {expected}")
    platform = PLATFORMS[backend_name(config)]
    if config.platform and config.platform not in {backend_name(config), platform}:
        raise InvalidArgument(
            f"got platform '{config.platform}' for model '{config.name}', which has backend "
            f"'{config.backend}', expected '{platform}'"
        )
