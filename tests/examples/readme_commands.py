"""What the README of an example shows: its commands, and what they print."""

from __future__ import annotations

import re
import shlex

from programs import ROOT


def commands(example: str) -> list[list[str]]:
    """Return the commands, in order, without the program that runs them: "python", "yais" stay."""
    text = (ROOT / "examples" / example / "README.md").read_text(encoding="utf-8")
    return [shlex.split(line) for line in re.findall(r"^    ((?:python|yais) .*)$", text, re.MULTILINE)]


def printed(example: str) -> list[list[str]]:
    """Return the lines of each block that shows what is printed."""
    text = (ROOT / "examples" / example / "README.md").read_text(encoding="utf-8")
    return [block.splitlines() for block in re.findall(r"^```\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)]


def program(command: list[str]) -> tuple[str, ...]:
    """Return what `programs.server` and `programs.lines` take: the path in examples/, and the arguments."""
    python, path, *arguments = command
    assert python == "python" and path.startswith("examples/"), command
    return path.removeprefix("examples/"), *arguments
