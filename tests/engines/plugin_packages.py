"""Packages that add kinds of engines, as an installer leaves them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from yais.engines import kinds

SCALE = '''
"""Engines that multiply by the number that is in their file."""

from pathlib import Path

import numpy as np

from yais.core.tensor import DataType, TensorSpec
from yais.engines.kinds import EngineKind

LOADED = []


class ScaleEngine:
    def __init__(self, path, settings):
        self.settings = settings
        self.inputs = settings.inputs or (TensorSpec("x", DataType.FP32, (-1, 2)),)
        self.outputs = settings.outputs or (TensorSpec("y", DataType.FP32, (-1, 2)),)
        self.max_batch = int(settings.parameters.get("most", 0))
        self.closed = False
        if Path(path).is_dir():
            path = Path(path) / "number"
        self.factor = np.float32(path.read_text())
        LOADED.append(self)

    def select(self, inputs, outputs):
        pass

    def execute(self, inputs):
        return [inputs[0] * self.factor]

    def close(self):
        self.closed = True


KIND = EngineKind(
    name="scale",
    platform="scale_number",
    filename="model.scale",
    alternatives=("number.txt",),
    suffixes=(".scale",),
    load=ScaleEngine,
    cpu_instances=3,
    parameters=("most", "colour"),
)
OTHER = EngineKind("other", "scale_number", "model.other", (), ScaleEngine)
NOWHERE = EngineKind("nowhere", "nowhere", "model.nowhere", (), ScaleEngine, uses_cpus=False)
PYTHON = EngineKind("python", "snake", "model.snake", (), ScaleEngine)
NUMBER = 3
'''


def write_package(
    path: Path, entry_points: Mapping[str, str], module: str = "scale_engines", source: str = SCALE
) -> Path:
    """Write a package of one module; return where it lies, which goes to sys.path or PYTHONPATH."""
    info = path / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    lines = "".join(f"{name} = {value}\n" for name, value in entry_points.items())
    (info / "entry_points.txt").write_text(f"[{kinds.GROUP}]\n{lines}")
    (path / f"{module}.py").write_text(source)
    return path


@contextmanager
def installed(path: Path) -> Iterator[None]:
    """Have the packages of a directory, and no kinds that were read before; what they import is forgotten."""
    modules = [file.stem for file in path.glob("*.py")]
    kinds._read.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path)
        for module in modules:
            patch.delitem(sys.modules, module, raising=False)
        try:
            yield
        finally:
            for module in modules:
                sys.modules.pop(module, None)
            kinds._read.cache_clear()
