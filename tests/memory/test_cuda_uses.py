"""What `yais.memory.cuda` uses of CUDA is in the fake, so that the tests with it cover all calls."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import yais.memory.cuda
from yais.testing.cuda import _PROPERTIES, FakeCuda

FILES = sorted(Path(yais.memory.cuda.__file__).parent.glob("*.py"))
BEFORE = {"cuInit"}
"""What is called before there is a toolkit."""


def used(tree: ast.AST) -> tuple[set[str], set[str], set[str]]:
    """What is used of the driver, of cuda.core, and of a GPU's properties."""
    driver, core, properties = set(), set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "call":
            driver |= {arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)}
        if isinstance(node, ast.Attribute):
            match node.value:
                case ast.Name(id=name) | ast.Attribute(attr=name):
                    {"driver": driver, "core": core, "properties": properties}.get(name, set()).add(node.attr)
    return driver, core, properties


def test_the_fake_has_all_that_is_used():
    found = [used(ast.parse(path.read_text())) for path in FILES]
    driver, core, properties = (set().union(*kind) for kind in zip(*found, strict=True))
    toolkit = FakeCuda().toolkit
    core -= {"name", "properties"}  # of the device, in a variable of that name
    assert {
        name for name in driver - BEFORE if not hasattr(toolkit.driver, name) and name != "__name__"
    } == set()
    assert {name for name in core if not hasattr(toolkit.core, name)} == set()
    assert properties == set(_PROPERTIES)
    assert len(driver) > 30
    assert {"Device", "PinnedMemoryResource", "ManagedBuffer", "Stream"} <= core


def test_the_fake_has_no_more_than_that():
    driver = set().union(*(used(ast.parse(path.read_text()))[0] for path in FILES))
    functions = {name for name in dir(FakeCuda().toolkit.driver) if name.startswith("cu")}
    assert functions - driver == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_packages_are_imported_in_one_place(path):
    imported = {
        (node.module or "").partition(".")[0]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
    }
    assert ("cuda" in imported) == (path.name == "toolkit.py")
