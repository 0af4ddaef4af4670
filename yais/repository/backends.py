"""Backends: which engine runs a model."""

from __future__ import annotations

from yais.engines.kinds import engine_kinds
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.backend import Backend
from yais.repository.kind_backend import kind_backend
from yais.repository.onnx_backend import ONNX_PLACEMENT, load_onnx
from yais.repository.platforms import PLATFORMS, backend_name
from yais.repository.python_backend import PYTHON_PLACEMENT, load_python

__all__ = ["backend_of"]

_BACKENDS = {
    backend.name: backend
    for backend in (
        Backend("onnxruntime", PLATFORMS["onnxruntime"], "model.onnx", ONNX_PLACEMENT, True, load_onnx),
        Backend("python", PLATFORMS["python"], "model.py", PYTHON_PLACEMENT, False, load_python),
    )
}


def backend_of(config: ModelConfig) -> Backend:
    """Return the backend of a checked configuration, which is no ensemble's."""
    name = backend_name(config)
    return _BACKENDS.get(name) or kind_backend(engine_kinds()[name])
