"""Files that a command writes when it is done."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

__all__ = ["output_file", "writing"]


def output_file(text: str) -> Path:
    """Return the path of a file that can be written: checked now, not after a long measurement.

    Raises
    ------
    click.BadParameter
        It cannot be written, or is a directory.
    """
    path = Path(text)
    place = path if path.exists() else path.parent
    if path.is_dir() or not os.access(place, os.W_OK) or not (path.exists() or place.is_dir()):
        raise click.BadParameter(f"got {text}, expected a file that can be written")
    return path


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of writing a file, such as of a full disk, into "Error: FILE: text" and exit status 1.

    Raises
    ------
    click.ClickException
        In place of an OSError in the block.
    """
    try:
        yield
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from None
