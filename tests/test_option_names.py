"""Options that the pages for operators name are options of a command."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from yais.tools.main import main

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("operations", "troubleshooting", "from-triton", "security")

OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
OTHERS = {"--shm-size"}
"""Docker's."""


def options(command: click.Command, context: click.Context) -> Iterator[str]:
    """Every option of a command and of those below it."""
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from options(below, context)


@pytest.mark.parametrize("page", PAGES)
def test_options_are_there(page: str) -> None:
    named = set(OPTION.findall((DOCS / f"{page}.md").read_text(encoding="utf-8")))
    assert named
    assert named - OTHERS - set(options(main, click.Context(main))) == set()
