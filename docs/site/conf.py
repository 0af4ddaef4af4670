"""The site of the documentation: its files, their order, and how they look. scripts/docs builds it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CONTENTS = "docs/README"
REPOSITORY = "https://github.com/yais/yais"

project = "yais"
extensions = ["myst_nb"]
# The files lie where they lie in the repository, so that links between them are the same in both.
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "docs/**.md",
    "benchmarks/README.md",
    "examples/*/README.md",
    "examples/notebooks/*.ipynb",
]
root_doc = "README"
nitpicky = True

myst_heading_anchors = 4
nb_execution_mode = "off"
# What is no language that pygments knows is shown as it is.
highlight_language = "text"

html_theme = "furo"
html_title = "yais"
html_static_path = ["style.css"]
html_css_files = ["style.css"]
templates_path = ["templates"]
html_additional_pages = {"index": "index.html"}
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False

_SECTION = re.compile(r"^## (.+)$")
_ENTRY = re.compile(r"^\| \[([^\]]+)\]\(([^)#]+)\) \|")
_LINK = re.compile(r"(?<=\]\()[^():#\s]+(?=\))")


def toctrees(contents: str) -> str:
    """Return the navigation: a section for each heading of the table of contents, an entry for each row."""
    lines: list[str] = []
    for line in contents.splitlines():
        if section := _SECTION.match(line):
            lines += ["```", "", "```{toctree}", ":hidden:", f":caption: {section[1]}", ""]
        elif entry := _ENTRY.match(line):
            page = (ROOT / CONTENTS).parent.joinpath(entry[2]).resolve().relative_to(ROOT)
            # The page itself is at the top.
            lines += [] if str(page) == "README.md" else [f"{entry[1]} </{page.with_suffix('')}>"]
    return "\n".join(["```{toctree}", ":hidden:", "", f"/{CONTENTS}", *lines, "```", ""])


def folder_links(page: Path, text: str) -> str:
    """Return a page whose links to folders lead to the repository, since a site has no such thing."""

    def elsewhere(link: re.Match[str]) -> str:
        target = page.parent.joinpath(link[0]).resolve()
        return f"{REPOSITORY}/tree/main/{target.relative_to(ROOT)}" if target.is_dir() else link[0]

    return _LINK.sub(elsewhere, text)


def adapt(_app: object, name: str, source: list[str]) -> None:
    """Make of a page what the site needs; the files themselves are as they are read elsewhere."""
    source[0] = folder_links(ROOT / name, source[0])
    if name == root_doc:
        source[0] += "\n\n" + toctrees((ROOT / f"{CONTENTS}.md").read_text(encoding="utf-8"))


def setup(app: Any) -> dict[str, bool]:
    """Let Sphinx know."""
    app.connect("source-read", adapt)
    return {"parallel_read_safe": True}
