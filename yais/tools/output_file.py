"""Files that a command writes when it is done."""

from __future__ import annotations

import os
from pathlib import Path

import click

__all__ = ["output_file"]


def output_file(text: str) -> Path:
    """Return the path of a file that can be written: checked now, not after a long measurement.

    Raises
    ------
    click.BadParameter
        It cannot be written, or is a directory.
    """
    path = Path(text)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise click.BadParameter(f"got {text}, expected a file that can be written")
    return path
