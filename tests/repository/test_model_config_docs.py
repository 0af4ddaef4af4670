"""The page of the configuration says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from yais.repository.fields import HONOURED, REFUSED
from yais.repository.onnx_config import ONNX_PARAMETERS
from yais.repository.slo_config import SLO_KEYS

PAGE = (Path(__file__).parents[2] / "docs" / "model-configuration.md").read_text(encoding="utf-8")


def rows(heading):
    """Return the cells of the rows of the first table under a heading."""
    section = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ")[0]
    table = re.search(r"\n\|[^\n]*\|\n\|[-|]*\|\n((?:\|[^\n]*\|\n)+)", section)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.group(1).splitlines()]


def test_every_honoured_field_has_a_row():
    named = []
    for cells in rows("What is honoured"):
        first, *others = re.findall(r"`([^`]+)`", cells[0])
        named += [first, *(first + other if other.startswith(".") else other for other in others)]
    assert sorted(named) == sorted(HONOURED)


def test_every_refused_field_has_a_row_with_the_reason():
    assert {cells[0].strip("| `"): cells[1] for cells in rows("What is refused")} == REFUSED


def test_every_parameter_is_named():
    names = re.findall(r"`([^`]+)`", " ".join(cells[0] for cells in rows("Parameters")))
    assert names == [*ONNX_PARAMETERS, "session.*"]
    assert [cells[0].strip("| `") for cells in rows("A latency objective")] == list(SLO_KEYS)
