"""The table of a repository's models: what requests find, and what the index shows."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from yais.errors import NotFound, Unavailable
from yais.repository.entry import UNLOADED, LoadedModel, ModelEntry, ModelState
from yais.repository.versions import version_number

__all__ = ["ModelTable"]


class ModelTable:
    """Versions of models by name. Thread-safe.

    What `find` looks into is replaced as a whole: a request sees a model as it was before a change, or after.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, dict[str, ModelEntry]] = {}
        self._ready: dict[tuple[str, str], LoadedModel] = {}  # by name and version, the latest also as ""

    @property
    def entries(self) -> list[ModelEntry]:
        """All versions, by name and number."""
        with self._lock:
            entries = [entry for versions in self._entries.values() for entry in versions.values()]
        return sorted(entries, key=lambda entry: (entry.name, int(entry.version or 0)))

    def entry(self, name: str, version: str) -> ModelEntry | None:
        """Return what is known of a version."""
        with self._lock:
            return self._entries.get(name, {}).get(version)

    def find(self, name: str, version: str = "") -> LoadedModel:
        """Return a model that takes requests; see `ModelRepository.find`."""
        loaded = self._ready.get((name, version))
        return loaded if loaded is not None else self._missing(name, version)

    def put(self, entry: ModelEntry, instead: ModelEntry | None = None) -> None:
        """Write down what is known of a version. What requests find does not change.

        Parameters
        ----------
        instead
            If given, only while this is what is known of it.
        """
        with self._lock:
            versions = self._entries.setdefault(entry.name, {})
            if instead is None or versions.get(entry.version) is instead:
                if entry.version:
                    versions.pop("", None)
                versions[entry.version] = entry

    def publish(self, name: str, entries: Sequence[ModelEntry]) -> list[ModelEntry]:
        """Let requests find these versions of a model, and no others.

        Parameters
        ----------
        entries
            Those that are ready, ascending.

        Returns
        -------
        list
            What is known now of the versions that were ready and are no more: they are being unloaded.
        """
        with self._lock:
            versions = self._entries.get(name, {})
            wanted = {entry.version for entry in entries}
            gone = [
                replace(entry, state=ModelState.UNLOADING, reason="", loaded=None)
                for entry in versions.values()
                if entry.state is ModelState.READY and entry.version not in wanted
            ]
            others = {
                version: entry
                for version, entry in versions.items()
                if entry.state is ModelState.UNLOADING or entry.reason == UNLOADED
            }
            self._entries[name] = others | {entry.version: entry for entry in (*gone, *entries)}
            ready = {key: loaded for key, loaded in self._ready.items() if key[0] != name}
            for entry in entries:
                if entry.loaded is not None:
                    ready[name, entry.version] = ready[name, ""] = entry.loaded
            self._ready = ready
        return gone

    def clear(self) -> None:
        """Let requests find nothing."""
        with self._lock:
            self._ready = {}

    def _missing(self, name: str, version: str) -> LoadedModel:
        number = version_number(version)
        loaded = self._ready.get((name, str(number) if number else ""))
        if loaded is not None:  # the version was written in another way, such as "01"
            return loaded
        with self._lock:
            versions = self._entries.get(name)
        prefix = f"Request for unknown model: '{name}'"
        if versions is None:
            raise NotFound(f"{prefix} is not found")
        if number is None:
            raise NotFound(f"{prefix} has no available versions")
        if str(number) not in versions:
            raise NotFound(f"{prefix} version {number} is not found")
        raise Unavailable(f"{prefix} version {number} is not at ready state")
