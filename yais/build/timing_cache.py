"""Measurements of kernels, kept from build to build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yais.build.replaced_file import replace_file
from yais.errors import InvalidArgument

__all__ = ["read_timing_cache", "write_timing_cache"]


def read_timing_cache(config: Any, path: Path | None) -> None:
    """Give a builder's configuration the cache in a file, or an empty one if there is no such file.

    Raises
    ------
    InvalidArgument
        It cannot be read, or is of another GPU or another version of TensorRT.
    """
    if path is None:
        return
    try:
        contents = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise InvalidArgument(f"cannot read the timing cache {path}: {error.strerror}") from None
    cache = config.create_timing_cache(contents)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        raise InvalidArgument(
            f"{path} is no timing cache for this GPU and this version of TensorRT: name another file, or "
            "delete it"
        )


def write_timing_cache(config: Any, path: Path | None) -> None:
    """Write the cache, with what the build has added. Raises InvalidArgument if it cannot be written."""
    if path is None:
        return
    try:
        replace_file(path, bytes(memoryview(config.get_timing_cache().serialize())))
    except OSError as error:
        raise InvalidArgument(f"cannot write the timing cache {path}: {error.strerror}") from None
