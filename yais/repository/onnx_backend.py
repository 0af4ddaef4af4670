"""Loads ONNX models as their configurations say."""

from __future__ import annotations

from pathlib import Path

from yais.engines.engine import Engine
from yais.engines.onnx import OnnxEngine
from yais.engines.placed_engine import PlacedEngine
from yais.errors import InvalidArgument
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.devices import Devices
from yais.repository.instances import Placement, places
from yais.repository.onnx_config import onnx_options

__all__ = ["ONNX_PLACEMENT", "load_onnx"]

ONNX_PLACEMENT = Placement(cpu_instances=2, uses_gpus=True)  # 2 as in Triton


def load_onnx(config: ModelConfig, version: str, path: Path, *, auto_complete: bool = True) -> Engine:  # noqa: ARG001 - all take the same
    """Return an engine with a session for each device that has instances; see `Backend.load`."""
    gpus = places(config, ONNX_PLACEMENT, Devices.here())
    used = list(dict.fromkeys(gpus))
    accelerators = config.optimization.execution_accelerators
    if accelerators.gpu_execution_accelerator and used == [None]:
        raise InvalidArgument(
            f"model '{config.name}' is configured with a gpu_execution_accelerator, but none of its "
            "instances is on a GPU"
        )
    if accelerators.cpu_execution_accelerator and None not in used:
        raise InvalidArgument(
            f"model '{config.name}' is configured with a cpu_execution_accelerator, but none of its "
            "instances is on the CPUs"
        )
    engines: list[OnnxEngine] = []
    try:
        for gpu in used:
            engines.append(OnnxEngine(path, onnx_options(config, gpu)))  # noqa: PERF401 - closed if one fails
    except BaseException:
        for engine in engines:
            engine.close()
        raise
    if len(engines) == 1:
        return engines[0]
    return PlacedEngine(engines, [used.index(gpu) for gpu in gpus])
