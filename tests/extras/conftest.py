"""Tests of what the extras of pyproject.toml bring (scripts/extras); with none of it, none are collected."""

from __future__ import annotations

import sys
from importlib.util import find_spec

NEEDS = {
    "test_build_*": "tensorrt_rtx_bindings",
    "test_cuda_*": "cuda.core",
    "test_nvml_*": "pynvml",
    "test_tensorrt_*": "tensorrt_rtx_bindings",
    "test_torch_*": "torch",
}

# PyTorch would take the directory tests/triton, which is on the path, for Triton.
if "triton" not in sys.modules and getattr(find_spec("triton"), "origin", "") is None:
    sys.modules["triton"] = None  # type: ignore[assignment]


def is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of what it is in
        return False


collect_ignore_glob = [pattern for pattern, package in NEEDS.items() if not is_there(package)]
