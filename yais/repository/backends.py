"""Backends: which engine runs a model, and what its configuration says to it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from yais.core.tensor import TensorSpec
from yais.engines.engine import Engine
from yais.engines.onnx import OnnxEngine, OnnxOptions
from yais.engines.python_model import PythonModelConfig, load_python_model
from yais.engines.worker_engine import WorkerEngine
from yais.errors import InvalidArgument
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.tensors import spec_of

__all__ = ["BACKENDS", "Backend", "backend_of", "onnx_options"]

_ONNX_PARAMETERS = ("intra_op_thread_count", "inter_op_thread_count", "execution_mode")
_WORKER_TIMEOUT = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Backend:
    """A kind of model.

    Attributes
    ----------
    name, platform
        What configurations call it.
    filename
        Of the model's file, unless its configuration names another.
    instances
        Batches that may run at once, unless its configuration says otherwise.
    warms_up
        Whether the model may be run before there are requests.
    load
        Makes the engine for a checked configuration, version and file; raises `YaisError`.
    """

    name: str
    platform: str
    filename: str
    instances: int
    warms_up: bool
    load: Callable[[ModelConfig, str, Path], Engine]


def backend_of(config: ModelConfig) -> Backend:
    """Return the backend of a model; without a word of it, that for ONNX."""
    named = config.backend or config.platform
    return next((backend for backend in BACKENDS if named in {backend.name, backend.platform}), BACKENDS[0])


def onnx_options(config: ModelConfig) -> OnnxOptions:
    """Return what a configuration says to ONNX Runtime. Raises InvalidArgument."""
    for key in config.parameters:
        if key not in _ONNX_PARAMETERS:
            expected = ", ".join(_ONNX_PARAMETERS)
            raise InvalidArgument(
                f"got parameter '{key}' for model '{config.name}', expected one of {expected}"
            )
    levels = {-2: -1, -1: 1, 0: 99, 1: 2, 2: 99}  # Triton's: -2 none, -1 basic, 1 extended, 2 all
    level = config.optimization.graph.level
    if level not in levels:
        raise InvalidArgument(f"got optimization.graph.level {level} for '{config.name}', expected -2 to 2")
    return OnnxOptions(
        intra_op_threads=_number(config, "intra_op_thread_count"),
        inter_op_threads=_number(config, "inter_op_thread_count"),
        parallel=bool(_number(config, "execution_mode")),
        graph_level=levels[level],
    )


def _load_onnx(config: ModelConfig, version: str, path: Path) -> Engine:  # noqa: ARG001 - all take the same
    return OnnxEngine(path, onnx_options(config))


def _load_python(config: ModelConfig, version: str, path: Path) -> Engine:
    if not config.input or not config.output:
        raise InvalidArgument(
            f"the configuration of model '{config.name}' lacks 'input' or 'output', which a Python model "
            "does not say itself"
        )
    if config.HasField("optimization"):
        raise InvalidArgument(
            f"model '{config.name}' is configured with 'optimization', a Python model has none"
        )
    batch = (-1,) if config.max_batch_size else ()
    inputs, outputs = (
        tuple(TensorSpec(spec.name, spec.datatype, (*batch, *spec.shape)) for spec in map(spec_of, tensors))
        for tensors in (config.input, config.output)
    )
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    python = PythonModelConfig(config.name, version, path, inputs, outputs, config.max_batch_size, parameters)
    in_worker, timeout = _in_worker(config), _timeout(config)
    if not in_worker:
        return load_python_model(python)
    workers = sum(group.count or _PYTHON.instances for group in config.instance_group)
    return WorkerEngine(python, workers=workers or _PYTHON.instances, timeout=timeout)


def _number(config: ModelConfig, key: str) -> int:
    if key not in config.parameters:
        return 0
    text = config.parameters[key].string_value
    if not text.isdecimal():
        raise InvalidArgument(
            f"got '{text}' for parameter '{key}' of '{config.name}', expected a number from 0"
        )
    return int(text)


def _in_worker(config: ModelConfig) -> bool:
    if "worker_process" not in config.parameters:
        return False
    text = config.parameters["worker_process"].string_value
    if text.lower() not in {"true", "false"}:
        raise InvalidArgument(
            f"got '{text}' for parameter 'worker_process' of '{config.name}', expected 'true' or 'false'"
        )
    return text.lower() == "true"


def _timeout(config: ModelConfig) -> float:
    if "worker_timeout_seconds" not in config.parameters:
        return _WORKER_TIMEOUT
    text = config.parameters["worker_timeout_seconds"].string_value
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise InvalidArgument(
            f"got '{text}' for parameter 'worker_timeout_seconds' of '{config.name}', "
            "expected seconds above 0"
        )
    return seconds


_ONNX = Backend("onnxruntime", "onnxruntime_onnx", "model.onnx", 2, True, _load_onnx)  # 2: as Triton, on CPUs
_PYTHON = Backend("python", "python", "model.py", 1, False, _load_python)

BACKENDS = (_ONNX, _PYTHON)
"""All of them; the first is that of models which name none."""
