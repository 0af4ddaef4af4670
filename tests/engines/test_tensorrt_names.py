"""What is used of TensorRT is in all versions and relatives, and the fake has nothing else."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from yais.engines.tensorrt_tensors import DATATYPES
from yais.testing.cuda import FakeCuda
from yais.testing.tensorrt import FakeTensorRT

ROOT = Path(__file__).parents[2]
SURFACES = sorted((Path(__file__).parent / "surfaces").glob("*.json"))
NATIVE = ("Runtime", "ICudaEngine", "IExecutionContext")
"""Classes of the objects that the engine calls `native`, `engine`, `_native` and `_engine`."""


@pytest.fixture(params=SURFACES, ids=lambda path: path.stem)
def surface(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(json.loads(request.param.read_text()))


def chains(path: Path) -> list[list[str]]:
    """Every chain of names in a file, such as ["self", "_runtime", "trt", "Runtime"]."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        each: ast.AST = node
        while isinstance(each, ast.Attribute):
            names.insert(0, each.attr)
            each = each.value
        if names and isinstance(each, ast.Name):
            found.append([each.id, *names])
    return found


def used() -> tuple[set[tuple[str, ...]], set[str]]:
    """What follows `trt.`, and the attributes of native objects, in the engine's files."""
    of_module, of_objects = set(), set()
    for path in (ROOT / "yais" / "engines").glob("tensorrt*.py"):
        for chain in chains(path):
            if "trt" in chain[:-1] and not chain[chain.index("trt") + 1].startswith("__"):
                of_module.add(tuple(chain[chain.index("trt") + 1 :]))
            for name in ("native", "_native", "engine", "_engine"):
                if name in chain[:-1]:
                    of_objects.add(chain[chain.index(name) + 1])
    return of_module, of_objects


def members(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_there_are_four_surfaces() -> None:
    assert [path.stem for path in SURFACES] == [
        "tensorrt-10.16.1",
        "tensorrt-11.4.0",
        "tensorrt-lean-11.4.0",
        "tensorrt-rtx-1.7.1",
    ]


def test_what_the_engine_uses_is_there(surface: dict[str, Any]) -> None:
    of_module, of_objects = used()
    assert ("ExecutionContextAllocationStrategy", "USER_MANAGED") in of_module
    assert {"execute_async_v3", "deserialize_cuda_engine", "get_tensor_profile_values"} <= of_objects
    for name, *rest in of_module:
        assert name in surface["names"], name
        assert set(rest[:1]) <= {*surface["classes"][name], "__init__"}, (name, rest)
    there = {member for kind in NATIVE for member in surface["classes"][kind]}
    assert of_objects <= there


def test_what_the_engine_uses_is_in_the_fake() -> None:
    of_module, of_objects = used()
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        for name, *rest in of_module:
            assert set(rest[:1]) <= {*dir(getattr(fake.module, name))}
        assert of_objects <= {member for kind in NATIVE for member in members(getattr(fake.module, kind))}


def test_what_the_fake_has_is_there(surface: dict[str, Any]) -> None:
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        names = members(fake.module)
        assert names <= set(surface["names"])
        for name in names:
            assert members(getattr(fake.module, name)) <= set(surface["classes"][name]), name


def test_types_of_elements_are_there(surface: dict[str, Any]) -> None:
    assert set(DATATYPES) <= set(surface["classes"]["DataType"])
