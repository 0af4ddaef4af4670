"""The notebooks: they run, and what they keep as their outputs is what comes of them, but for the numbers."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from programs import ROOT, module

NOTEBOOKS = sorted((ROOT / "examples/notebooks").glob("*.ipynb"))

NUMBER = re.compile(r"\d+(\.\d*)?")


def without_numbers(text: str) -> str:
    return re.sub(r"[ \t]+", " ", NUMBER.sub("0", text)).strip()


def shape(kind: str, content: str) -> Any:
    """What is the same whenever a cell is run, of content of some media type."""
    if kind == "image/png":
        return base64.b64decode(content)[16:24]  # width and height
    if kind == "image/svg+xml":
        return set(re.findall(r"<\w+", content))
    return without_numbers(content)


def outputs(notebook: Any) -> Iterator[Any]:
    """The shape of each output, with the source of its cell."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            given = {output.name: output.text} if output.output_type == "stream" else output.data
            yield cell.source, {kind: shape(kind, content) for kind, content in given.items()}


def named(path: Path) -> str:
    return path.stem


@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_a_notebook_gives_what_it_keeps(path: Path) -> None:
    kept = nbformat.read(path, as_version=4)
    assert list(outputs(module("notebooks", "execute").execute(path))) == list(outputs(kept))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_what_is_kept_is_complete_small_and_of_no_particular_machine(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    text = path.read_text(encoding="utf-8")
    assert len(text) < 100_000
    assert re.findall(r"/(?:home|tmp|root|usr|work)/\S+|\b127\.0\.0\.1:[1-9]\d*", text) == []


def test_shapes_tell_outputs_apart() -> None:
    assert without_numbers("p99   7.1 ms\n") == without_numbers("p50 12.25 ms\n") == "p0 0 ms"
    assert shape("text/plain", "kept 1") != shape("text/plain", "not kept 1")
    assert shape("image/svg+xml", "<svg><path/></svg>") != shape("image/svg+xml", "<svg><rect/></svg>")
