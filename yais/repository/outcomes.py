"""How loading ended: written down in the table of models, in their records and in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

from yais.core.future import Future
from yais.errors import Internal, InvalidArgument, status_of
from yais.repository.entry import UNLOADED, LoadedModel, ModelEntry, ModelState
from yais.repository.records import Record
from yais.repository.retirement import Retirement
from yais.repository.source import Source
from yais.repository.table import ModelTable

__all__ = ["LoadOutcomes", "Progress", "models_of", "reason_of"]

Progress = Callable[[ModelEntry], None]
"""Told the entry of a version when it begins to load and when that has ended."""

_log = logging.getLogger("yais.repository")


class LoadOutcomes:
    """Writes down how loading ended. Only used on one thread.

    Attributes
    ----------
    progress
        What is told of it.
    """

    def __init__(self, table: ModelTable, retirement: Retirement) -> None:
        self._table = table
        self._retirement = retirement
        self.progress: Progress = lambda _entry: None

    def begin(self, name: str, version: str) -> None:
        """Note that a version is being loaded."""
        entry = ModelEntry(name, version, ModelState.LOADING)
        serving = self._table.entry(name, version)
        if serving is None or serving.state is not ModelState.READY:
            self._table.put(entry)
        self._report(entry)

    def unread(self, name: str, record: Record, source: Source | None, error: BaseException) -> bool:
        """Note that there is no source, or that what it says cannot be read."""
        text = reason_of(error)
        record.error = Internal(f"failed to load '{name}', failed to poll from model repository: {text}")
        if source is not None:
            record.source, record.lacking = source, False
            source.discard()
            if source.config is None:  # what a client sends is only the client's affair
                self.fail(name, [("", text)])
        return False

    def failed(
        self, name: str, record: Record, failures: list[tuple[str, str]], *, lacking: bool = False
    ) -> None:
        """Note that versions cannot be loaded. What serves goes on."""
        text = " ".join(
            f"version {version} is at UNAVAILABLE state: {reason};" for version, reason in failures
        )
        record.error = InvalidArgument(f"load failed for model '{name}': {text}")
        record.lacking = lacking
        self.fail(name, failures)

    def fail(self, name: str, failures: list[tuple[str, str]]) -> None:
        """Note why versions are not ready; if others are, that these are not what they should be."""
        serving = [entry for entry in self._table.entries if entry.name == name and entry.loaded is not None]
        for version, reason in failures:
            known = self._table.entry(name, version)
            if known is None or known.reason != reason:
                _log.error("failed to load '%s' version %s: %s", name, version or "?", reason)
            if not any(entry.version == version for entry in serving) and (version or not serving):
                entry = ModelEntry(name, version, ModelState.UNAVAILABLE, reason)
                self._table.put(entry)
                self._report(entry)
        for entry in serving:
            reason = next(
                (reason for version, reason in failures if version == entry.version), failures[0][1]
            )
            self._table.put(replace(entry, reason=reason))

    def lost(self, name: str, record: Record, reason: str) -> bool:
        """Note that a model lacks another; return whether it was loaded: without that it cannot go on."""
        changed = self.withdraw(name, record)
        versions = record.plan.versions if record.plan else ()
        self.failed(name, record, [(str(version), reason) for version in versions], lacking=True)
        return changed

    def withdraw(self, name: str, record: Record) -> bool:
        """Let requests find no version of a model; return whether they have found one."""
        loaded, record.loaded = record.loaded, ()
        gone = self._table.publish(name, [])
        if loaded:
            record.freed = self._retire(loaded, gone)
        return bool(loaded)

    def _retire(self, loaded: Iterable[LoadedModel], gone: list[ModelEntry]) -> Future[None]:
        def note() -> None:
            for entry in gone:
                ended = replace(entry, state=ModelState.UNAVAILABLE, reason=UNLOADED)
                self._table.put(ended, instead=entry)

        return self._retirement.retire(loaded, note)

    def serve(self, name: str, record: Record, made: list[ModelEntry]) -> bool:
        """Let requests find these versions of a model instead of those before; return True."""
        old, record.loaded = record.loaded, models_of(made)
        record.error, record.lacking = None, False
        gone = self._table.publish(name, made)
        for entry in made:
            self._report(entry)
        if old:
            self._retire(old, gone)
        return True

    def known(self, name: str) -> bool:
        """Return whether there is anything to say of a model."""
        return any(entry.name == name for entry in self._table.entries)

    def _report(self, entry: ModelEntry) -> None:
        try:
            self.progress(entry)
        except Exception:
            _log.exception("the progress of loading could not be told")


def reason_of(error: BaseException) -> str:
    """Return what is said of an error as a reason. Never empty."""
    return status_of(error)[1] or type(error).__name__


def models_of(entries: list[ModelEntry]) -> tuple[LoadedModel, ...]:
    """Return the models of entries that are ready."""
    return tuple(entry.loaded for entry in entries if entry.loaded is not None)
