"""The page on troubleshooting quotes what is really said."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/troubleshooting.md"

BLANK = "…"
OTHERS = {"failed to connect to all addresses", "too_many_pings", "Received message larger than max"}
"""Texts of gRPC's."""

FIRST_CELL = re.compile(r"^\| (.*?) \|", re.MULTILINE)
QUOTED = re.compile(r"`([^`]+)`")


def quotes(page: str) -> list[str]:
    """The texts of several words in the first columns of tables, and in the prose those with a blank."""
    cells = [quote for cell in FIRST_CELL.findall(page) for quote in QUOTED.findall(cell)]
    prose = [quote for quote in QUOTED.findall(page) if BLANK in quote and not quote.startswith("yais_")]
    return sorted({quote for quote in cells if quote.count(" ") > 1} | set(prose))


def said(code: str) -> Iterator[str]:
    """Every text in some code, with blanks for what is put into it."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else BLANK for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"%[.\d]*[sdrf]", BLANK, node.value)


@functools.cache
def texts() -> str:
    paths = sorted((ROOT / "yais").rglob("*.py"))
    return "\n".join(text for path in paths for text in said(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("quote", quotes(PAGE.read_text(encoding="utf-8")))
def test_what_is_quoted_is_said(quote: str) -> None:
    # What follows the last blank is said by whatever fills it.
    assert quote in OTHERS or quote.removesuffix(BLANK) in texts()


def test_quotes_are_found() -> None:
    page = "See `a … b`.\n\n| it says | do |\n|---|---|\n| `x is … of y` | `no quote at all` |\n"
    assert quotes(page) == ["a … b", "x is … of y"]


def test_what_is_said_is_found() -> None:
    code = 'log.error("a %s b %.0f", 1, 2)\nraise E(f"c {d!r} "\n f"e {f:.1f}")\n'
    assert {"a … b …", "c … e …"} <= set(said(code))
