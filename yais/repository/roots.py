"""Roots: the directories that a repository consists of, looked at again and again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from yais.errors import Unavailable
from yais.repository.directory import find_models

__all__ = ["Roots"]


class Roots:
    """Directories of model directories. Not thread-safe."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._devices: dict[Path, int] = {}

    def look(self) -> dict[str, tuple[Path, ...]]:
        """Return what `find_models` finds, if that is to be believed.

        Raises
        ------
        NotFound
            One is no directory.
        Unavailable
            One is empty and on another file system than when it was not: nothing is mounted there.
        OSError
            One cannot be read.
        """
        found: dict[str, tuple[Path, ...]] = {}
        for path in self._paths:
            here = find_models([path])
            device = path.stat().st_dev
            if here:
                self._devices[path] = device
            elif self._devices.get(path, device) != device:
                raise Unavailable(
                    f"model repository {path} is empty and on another file system than before: is it mounted?"
                )
            for name, directories in here.items():
                found[name] = (*found.get(name, ()), *directories)
        return found
