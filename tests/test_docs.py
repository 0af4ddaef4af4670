"""The documentation: its links lead somewhere, and its Python is Python."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "benchmarks/README.md",
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/*/README.md"),
    ]
)

FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE_CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(([^()\s]+)\)")
SECTION = re.compile(r"\]\(([^()\s#]+\.md)\),\s+\"([A-Z][^\"]+)\"")
TITLE = re.compile(r"^#+ (.+)$|\*\*([^*]+)\*\*", re.MULTILINE)
ELSEWHERE = ("https://", "http://", "mailto:", "#")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def links(text: str) -> list[str]:
    """The links of a page to files of the repository, without what they name inside of these."""
    prose = INLINE_CODE.sub("", FENCED.sub("", text))
    return [link.partition("#")[0] for link in LINK.findall(prose) if not link.startswith(ELSEWHERE)]


def blocks(text: str) -> list[tuple[int, str]]:
    """The Python blocks of a page, each with the line before its first."""
    return [(text.count("\n", 0, match.start(1)), match[1]) for match in PYTHON.finditer(text)]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    targets = links(page.read_text(encoding="utf-8"))
    assert [link for link in targets if not (page.parent / link).exists()] == []


def sections(text: str) -> list[tuple[str, str]]:
    """What a page says another has: the other, and the title of a section or a paragraph of it."""
    return [(link, " ".join(title.split()).rstrip(",.")) for link, title in SECTION.findall(text)]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_sections_that_are_named_are_there(page: Path) -> None:
    for link, wanted in sections(page.read_text(encoding="utf-8")):
        other = (page.parent / link).read_text(encoding="utf-8")
        titles = [" ".join("".join(found).split()) for found in TITLE.findall(other)]
        assert any(wanted in title for title in titles), f'{link} has no "{wanted}"'


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_python_compiles(page: Path) -> None:
    for line, code in blocks(page.read_text(encoding="utf-8")):
        # As in a notebook, since what is shown may belong into a coroutine.
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        compile("\n" * line + code, named(page), "exec", flags=flags, dont_inherit=True)


def test_links_and_blocks_are_found() -> None:
    assert links("See [a](b.md#c), [`d`](../e.md), [f](https://g), `h](i)`.\n```\n[j](k.md)\n```\n") == [
        "b.md",
        "../e.md",
    ]
    assert blocks("x\n```python\ny = 1\n```\n```\nno\n```\n") == [(2, "y = 1\n")]


def test_sections_are_found() -> None:
    assert sections('See [a](b.md), "A\nsection", and [c](d.md).') == [("b.md", "A section")]


def test_every_page_is_in_the_table_of_contents() -> None:
    contents = ROOT / "docs/README.md"
    listed = {(contents.parent / link).resolve() for link in links(contents.read_text(encoding="utf-8"))}
    assert [named(page) for page in ROOT.glob("docs/**/*.md") if page not in {*listed, contents}] == []
