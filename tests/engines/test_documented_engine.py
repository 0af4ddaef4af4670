"""The engine of docs/engines.md, on a stand-in for TensorFlow."""

from __future__ import annotations

import contextlib
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yais.core.tensor import DataType
from yais.engines.kinds import EngineKind, EngineSettings
from yais.errors import FailedPrecondition, Internal, InvalidArgument
from yais.inference.manager import InferenceManager

PAGE = (Path(__file__).parents[2] / "docs/engines.md").read_text(encoding="utf-8")


class OpError(Exception):
    """What TensorFlow raises."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Shape:
    """As tf.TensorShape."""

    def __init__(self, sizes: list[int | None] | None) -> None:
        self.sizes = sizes
        self.rank = None if sizes is None else len(sizes)

    def as_list(self) -> list[int | None]:
        """Return the sizes."""
        assert self.sizes is not None
        return self.sizes


def spec(kind: str, sizes: list[int | None] | None) -> Any:
    """Return a tf.TensorSpec."""
    return types.SimpleNamespace(dtype=types.SimpleNamespace(name=kind), shape=Shape(sizes))


class Signature:
    """A concrete function: the sum and the first of two inputs."""

    def __init__(self, kind: str = "float32") -> None:
        tensors = {"b": spec(kind, [None, 2]), "a": spec("float32", [None, 2])}
        self.structured_input_signature = ((), tensors)
        self.structured_outputs = {"total": spec("float32", [None, 2]), "first": spec("float32", [None, 2])}

    def __call__(self, a: Any, b: Any) -> dict[str, Any]:
        if (a < 0).any():
            raise OpError("negative")
        return {
            "total": types.SimpleNamespace(numpy=lambda: a + b),
            "first": types.SimpleNamespace(numpy=lambda: a),
        }


@pytest.fixture
def kind(monkeypatch: pytest.MonkeyPatch) -> EngineKind:
    """Return the kind that the page shows."""

    def load(path: str) -> Any:
        if not Path(path).is_dir():
            raise OSError(f"SavedModel file does not exist at: {path}")
        return types.SimpleNamespace(
            signatures={"serving_default": Signature(), "odd": Signature("complex64")}
        )

    module: Any = types.ModuleType("tensorflow")
    module.saved_model = types.SimpleNamespace(load=load)
    module.device = contextlib.nullcontext
    module.constant = np.array
    module.errors = types.SimpleNamespace(OpError=OpError)
    monkeypatch.setitem(sys.modules, "tensorflow", module)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (code,) = [block for block in blocks if "KIND = " in block]
    names: dict[str, Any] = {}
    exec(compile(code, "docs/engines.md", "exec"), names)
    return names["KIND"]


def test_the_engine_of_the_page(kind: EngineKind, tmp_path: Path) -> None:
    engine = kind.load(tmp_path, EngineSettings("m"))
    assert [str(each) for each in engine.inputs] == ["a: FP32[-1, 2]", "b: FP32[-1, 2]"]
    assert engine.inputs[0].datatype is DataType.FP32
    engine.select(["b", "a"], ["total"])
    ones, twos = np.ones((3, 2), np.float32), np.full((3, 2), 2, np.float32)
    (total,) = engine.execute([ones, twos])
    assert (total == 3).all()
    with pytest.raises(Internal, match="negative"):
        engine.execute([ones, -twos])
    engine.close()
    engine.close()
    with pytest.raises(FailedPrecondition, match="closed"):
        engine.execute([ones, twos])
    with InferenceManager() as manager:
        manager.register("m", kind.load(tmp_path, EngineSettings("m")))
        manager.allocate()
        answer = manager.infer_runner("m").infer(a=ones, b=twos).result(20)
        assert (answer["first"] == 1).all()


def test_what_it_refuses(kind: EngineKind, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"cannot load 'serving_default' of .*does not exist"):
        kind.load(tmp_path / "missing", EngineSettings("m"))
    with pytest.raises(InvalidArgument, match="cannot load 'other'"):
        kind.load(tmp_path, EngineSettings("m", parameters={"SIGNATURE": "other"}))
    with pytest.raises(InvalidArgument, match="for 'b', expected a known rank and one of bool"):
        kind.load(tmp_path, EngineSettings("m", parameters={"SIGNATURE": "odd"}))


def test_the_entry_point_of_the_page(kind: EngineKind) -> None:
    assert f'{kind.name} = "yais_tensorflow:KIND"' in PAGE
    assert '[project.entry-points."yais.engines"]' in PAGE
