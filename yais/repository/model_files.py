"""Files of a model's directory that its configuration names."""

from __future__ import annotations

from pathlib import Path

from yais.errors import InvalidArgument
from yais.repository.limits import MAX_BYTES

__all__ = ["read_model_file"]


def read_model_file(which: str, folder: Path, name: str) -> bytes:
    """Return the contents of a file.

    Parameters
    ----------
    which
        What it is, for messages.
    folder
        Where it must lie.
    name
        As in the configuration.

    Raises
    ------
    InvalidArgument
        It lies elsewhere, is too large, is no file, or cannot be read.
    """
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise InvalidArgument(f"{which}: got the file '{name}', expected one in {folder}")
        if path.exists() and not path.is_file():  # reading a pipe would not end
            raise InvalidArgument(f"{which}: got '{name}', expected a file")
        if (size := path.stat().st_size) > MAX_BYTES:
            raise InvalidArgument(
                f"{which}: got the file '{name}' of {size} bytes, expected at most {MAX_BYTES}"
            )
        return path.read_bytes()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise InvalidArgument(f"{which}: cannot read '{name}': {error}") from None
