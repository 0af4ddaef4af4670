"""Snapshots of model directories, and what has changed between two."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Changes", "Item", "Snapshot", "changes", "snapshot"]

Item = tuple[str, int, int, int]
"""Of a file its path, when it was modified and when its inode was (ns), and its size; of directories zeros.

The time of the inode cannot be set: it tells apart what was copied with its times.
"""

Snapshot = frozenset[Item]


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
    seen: set[tuple[int, int]] = set()
    return frozenset(item for path in paths for item in _walk(path, seen))


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


def _walk(directory: str | Path, seen: set[tuple[int, int]]) -> Iterator[Item]:
    try:
        status = os.stat(directory)
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError:
        return
    if (identity := (status.st_dev, status.st_ino)) in seen:
        return  # links may go in a circle, or by many ways to one place
    seen.add(identity)
    for entry in entries:
        if entry.name.startswith((".", "__pycache__")):
            continue
        try:
            status, is_directory = entry.stat(), entry.is_dir()
        except OSError:
            continue
        if is_directory:
            # Without its times: they change with files that do not count.
            yield entry.path, 0, 0, 0
            yield from _walk(entry.path, seen)
        else:
            yield entry.path, status.st_mtime_ns, status.st_ctime_ns, status.st_size
