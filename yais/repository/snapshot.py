"""Snapshots of model directories, and what has changed between two."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Changes", "Snapshot", "changes", "snapshot"]

Snapshot = frozenset[tuple[str, int, int]]
"""Of every file its path, when it was modified (ns), and its size; of directories the path, and zeros."""

_DEPTH = 16  # directories in directories; links may go in a circle


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be done to models.

    Attributes
    ----------
    load
        Those that are new, or have changed.
    unload
        Those that are gone.
    """

    load: frozenset[str]
    unload: frozenset[str]


def snapshot(paths: Iterable[Path]) -> Snapshot:
    """Return the snapshot of some directories together. Hidden files and bytecode do not count.

    What vanishes meanwhile is not in it; no error is raised.
    """
    return frozenset(item for path in paths for item in _walk(path, _DEPTH))


def changes(tried: Mapping[str, Snapshot], found: Mapping[str, Snapshot]) -> Changes:
    """Return what makes the models what their directories say.

    Parameters
    ----------
    tried
        Models that are loaded, or could not be, as they were when that was tried.
    found
        All that are there now.
    """
    return Changes(
        load=frozenset(name for name, now in found.items() if tried.get(name) != now),
        unload=frozenset(tried.keys() - found.keys()),
    )


def _walk(directory: Path, depth: int) -> Iterator[tuple[str, int, int]]:
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith((".", "__pycache__")):
            continue
        try:
            status, is_directory = entry.stat(), entry.is_dir()
        except OSError:
            continue
        if is_directory:
            # Without its time: that changes with files that do not count.
            yield entry.path, 0, 0
            if depth:
                yield from _walk(Path(entry.path), depth - 1)
        else:
            yield entry.path, status.st_mtime_ns, status.st_size
