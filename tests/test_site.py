"""The site of the documentation: what is in it is found in its navigation. scripts/docs looks at the rest."""

from __future__ import annotations

import re
import runpy
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SITE = runpy.run_path(str(ROOT / "docs/site/conf.py"))


def pages() -> list[str]:
    """Everything that is in the site, as it is named there."""
    found = {
        path for pattern in SITE["include_patterns"] for path in ROOT.glob(pattern.replace("**.", "**/*."))
    }
    return sorted(str(path.relative_to(ROOT).with_suffix("")) for path in found)


def test_every_page_is_in_the_navigation_once() -> None:
    shown = SITE["toctrees"]((ROOT / "docs/README.md").read_text(encoding="utf-8"))
    named = Counter(re.findall(r"^(?:.* <)?/([^>\n]+)>?$", shown, re.MULTILINE))
    assert [page for page, count in named.items() if count > 1] == []
    assert [page for page in pages() if page != "README" and page not in named] == []


def test_sections_become_trees() -> None:
    contents = "# Title\n\n## Start\n\n| [What](../README.md) | this |\n| [Serving](serving.md) | that |\n"
    lines = SITE["toctrees"](contents).splitlines()
    assert lines.count("```{toctree}") == 2 == lines.count("```")
    assert ":caption: Start" in lines and lines[-2:] == ["Serving </docs/serving>", "```"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](../examples/models)", f"[a]({SITE['REPOSITORY']}/tree/main/examples/models)"),
        ("[a](serving.md)", "[a](serving.md)"),
        ("[a](serving.md#metrics)", "[a](serving.md#metrics)"),
        ("[a](https://example.com/docs)", "[a](https://example.com/docs)"),
    ],
)
def test_links_to_folders_lead_to_the_repository(text: str, expected: str) -> None:
    assert SITE["folder_links"](ROOT / "docs/core", text) == expected
