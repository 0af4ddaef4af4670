"""Loads Python models as their configurations say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from yais.engines.engine import Engine
from yais.engines.python_model import PythonFile, PythonModelConfig
from yais.engines.worker_engine import WorkerEngine
from yais.engines.worker_process import WorkerProcess
from yais.errors import InvalidArgument
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.config_dict import config_dict
from yais.repository.devices import Devices
from yais.repository.engine_tensors import engine_tensors
from yais.repository.instances import Placement, places
from yais.repository.validation import check

__all__ = ["PYTHON_PLACEMENT", "load_python"]

PYTHON_PLACEMENT = Placement(cpu_instances=1, uses_gpus=False)

_WORKER_TIMEOUT = 60.0  # seconds
_LONGEST_TIMEOUT = 86_400.0
_COMPLETE_SECONDS = 300.0


def load_python(config: ModelConfig, version: str, path: Path, *, auto_complete: bool = True) -> Engine:
    """Return an engine in this process or in workers, or a pipeline; see `Backend.load`."""
    _check_optimization(config)
    in_worker, timeout = _in_worker(config), _timeout(config)
    if in_worker:
        if auto_complete and b"auto_complete_config" in path.read_bytes():
            asked = WorkerProcess(PythonModelConfig(config.name, version, path, (), ()), timeout)
            _fill_in(config, asked.auto_complete(config_dict(config), _COMPLETE_SECONDS))
        workers = len(places(config, PYTHON_PLACEMENT, Devices()))
        pinned = config.HasField("sequence_batching")
        return WorkerEngine(
            _python_config(config, version, path), workers=workers, timeout=timeout, pinned=pinned
        )
    file = PythonFile(path)
    try:
        if auto_complete:
            _fill_in(config, file.auto_complete(config_dict(config)))
        return file.engine(_python_config(config, version, path))
    except BaseException:
        file.close()
        raise


def _check_optimization(config: ModelConfig) -> None:
    for field, _ in config.optimization.ListFields():
        if field.name not in {"input_pinned_memory", "output_pinned_memory"}:
            raise InvalidArgument(
                f"model '{config.name}' is configured with 'optimization.{field.name}', a Python model has "
                "none"
            )


def _fill_in(config: ModelConfig, completed: Mapping[str, Any] | None) -> None:
    """Put what a model says of its configuration in the place of what there was."""
    if completed is None:
        return
    filled = ModelConfig()
    try:
        json_format.ParseDict(dict(completed), filled)
    except json_format.ParseError as error:
        raise InvalidArgument(f"auto_complete_config of model '{config.name}': {error}") from None
    check(filled)
    config.CopyFrom(filled)


def _python_config(config: ModelConfig, version: str, path: Path) -> PythonModelConfig:
    if not config.input or not config.output:
        raise InvalidArgument(
            f"the configuration of model '{config.name}' lacks 'input' or 'output', which a Python model "
            "does not say itself unless it has 'auto_complete_config'"
        )
    directory = next((parent.parent for parent in path.parents if parent.name == version), path.parent)
    inputs, outputs = engine_tensors(config, directory)
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    return PythonModelConfig(config.name, version, path, inputs, outputs, config.max_batch_size, parameters)


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
    if not 0 < seconds <= _LONGEST_TIMEOUT:
        raise InvalidArgument(
            f"got '{text}' for parameter 'worker_timeout_seconds' of '{config.name}', "
            f"expected seconds above 0, at most {_LONGEST_TIMEOUT:.0f}"
        )
    return seconds
