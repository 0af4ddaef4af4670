"""Small files of `/proc` and `/sys`. What is not there, or may not be read, is left out and no error."""

from __future__ import annotations

import re
from pathlib import Path

from yais.core.cpu_set import CpuSet

__all__ = ["numbered", "read_cpus", "read_number", "read_text"]


def read_text(path: Path) -> str:
    """Return the text of a file without the white space around it; "" if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def read_number(path: Path) -> int | None:
    """Return the number in a file; None if there is none, or one below 0: the kernel's word for unknown."""
    text = read_text(path)
    return int(text) if text.isdecimal() else None


def read_cpus(path: Path) -> CpuSet:
    """Return the CPU list in a file."""
    return CpuSet(read_text(path))


def numbered(directory: Path, prefix: str) -> list[tuple[int, Path]]:
    """Return the entries named `prefix` and a number, in the order of the numbers."""
    try:
        names = [path.name for path in directory.iterdir()]
    except OSError:
        return []
    numbers = [int(name.removeprefix(prefix)) for name in names if re.fullmatch(rf"{prefix}[0-9]+", name)]
    return [(number, directory / f"{prefix}{number}") for number in sorted(numbers)]
