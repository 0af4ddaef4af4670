"""The package onnx, which is imported where a model is read."""

from __future__ import annotations

import importlib
from typing import Any

from yais.errors import FailedPrecondition

__all__ = ["onnx_package"]


def onnx_package() -> Any:
    """Return the package, with the modules of it that are used here.

    Raises
    ------
    FailedPrecondition
        It is not installed.
    """
    try:
        onnx = importlib.import_module("onnx")
        for module in (
            "defs",
            "external_data_helper",
            "helper",
            "inliner",
            "numpy_helper",
            "shape_inference",
        ):
            importlib.import_module(f"onnx.{module}")
    except ImportError as error:
        raise FailedPrecondition(
            f"reading an ONNX model needs the package onnx ({error}): pip install 'yais[tensorrt-rtx]' or "
            "'yais[tensorrt]' brings it, and so does pip install onnx"
        ) from None
    return onnx
