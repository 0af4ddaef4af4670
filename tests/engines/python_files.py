"""Files of Python models, written where a test needs one."""

from __future__ import annotations

import textwrap
from pathlib import Path

from yais.core.tensor import DataType, TensorSpec
from yais.engines.python_model import PythonModelConfig


def model_file(folder: Path, source: str, datatype: DataType = DataType.FP32, **fields) -> PythonModelConfig:
    """Write a `model.py` that takes x: [-1] and gives y: [-1]; return the configuration of its model."""
    path = folder / "model.py"
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    x, y = TensorSpec("x", datatype, (-1,)), TensorSpec("y", datatype, (-1,))
    return PythonModelConfig(
        **{"name": "m", "version": "1", "path": path, "inputs": (x,), "outputs": (y,), **fields}
    )
