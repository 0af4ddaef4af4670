"""The libraries of CUDA that ONNX Runtime's providers for GPUs need."""

from __future__ import annotations

import contextlib
import functools
import io
import logging

import onnxruntime as ort

__all__ = ["CUDA_PROVIDERS", "load_cuda_libraries"]

CUDA_PROVIDERS = frozenset({"CUDAExecutionProvider", "TensorrtExecutionProvider"})

_log = logging.getLogger("yais.engines")


@functools.cache
def load_cuda_libraries() -> None:
    """Load them at the first call, from NVIDIA's Python packages where those are installed. Raises nothing.

    The providers look for them where the system does only. What lacks is logged.
    """
    load = getattr(ort, "preload_dlls", None)  # since 1.21
    if load is None:
        return
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):  # it prints what it does not find
            load()
    except Exception:
        _log.exception("ONNX Runtime cannot load the libraries of CUDA")
    if said.getvalue().strip():
        _log.warning("ONNX Runtime: %s", said.getvalue().strip())
