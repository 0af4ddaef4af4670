"""Loads ONNX models as their configurations say."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from yais.engines.engine import Engine
from yais.engines.onnx import OnnxEngine
from yais.engines.placed_engine import load_placed
from yais.errors import InvalidArgument
from yais.inference.loading import DEFAULT_MAX_BATCH
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.devices import Devices
from yais.repository.instances import Placement, places
from yais.repository.onnx_config import onnx_options
from yais.repository.tensors import says_shapes

__all__ = ["ONNX_PLACEMENT", "load_onnx"]

ONNX_PLACEMENT = Placement(cpu_instances=2, uses_gpus=True)  # 2 as in Triton


def load_onnx(config: ModelConfig, version: str, path: Path, *, auto_complete: bool = True) -> Engine:  # noqa: ARG001 - all take the same
    """Return an engine with a session for each device that has instances; see `Backend.load`."""
    gpus = places(config, ONNX_PLACEMENT, Devices.here())
    accelerators = config.optimization.execution_accelerators
    if accelerators.gpu_execution_accelerator and set(gpus) == {None}:
        raise InvalidArgument(
            f"model '{config.name}' is configured with a gpu_execution_accelerator, but none of its "
            "instances is on a GPU"
        )
    if accelerators.cpu_execution_accelerator and None not in gpus:
        raise InvalidArgument(
            f"model '{config.name}' is configured with a cpu_execution_accelerator, but none of its "
            "instances is on the CPUs"
        )
    return load_placed(partial(_engine, config, path), gpus)


def _engine(config: ModelConfig, path: Path, gpu: int | None) -> Engine:
    options = onnx_options(config, gpu)
    if gpu is None:
        return OnnxEngine(path, options)
    from yais.engines.onnx_device import load_on_gpu  # what it needs is not there without GPUs

    batch = config.max_batch_size if says_shapes(config) else DEFAULT_MAX_BATCH
    return load_on_gpu(path, options, gpu=gpu, max_batch=batch)
