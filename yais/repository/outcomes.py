"""How loading ended: written down in the table of models, in their records and in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from yais.errors import Internal, InvalidArgument, status_of
from yais.repository.entry import UNLOADED, LoadedModel, ModelEntry, ModelState
from yais.repository.records import Attempt, Record
from yais.repository.retirement import Retirement
from yais.repository.source import Source
from yais.repository.table import ModelTable

__all__ = ["LoadOutcomes", "Progress", "models_of", "reason_of"]

Progress = Callable[[ModelEntry], None]
"""Told the entry of a version when it begins to load and when that has ended."""

_LONGEST = 2000
"""Characters of a reason: of the metadata of a call, status included, clients take 8 KiB."""

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
        _log.info("loading '%s' version %s", name, version)
        entry = ModelEntry(name, version, ModelState.LOADING)
        serving = self._table.entry(name, version)
        if serving is None or serving.state is not ModelState.READY:
            self._table.put(entry)
        self._report(entry)

    def unread(self, name: str, record: Record, source: Source | None, error: BaseException) -> None:
        """Note that there is no source, or that what it says cannot be read."""
        text = reason_of(error)
        record.error = Internal(f"failed to load '{name}', failed to poll from model repository: {text}")
        if source is not None:
            record.tried = Attempt(source)
            source.discard()
            if source.config is None:  # what a client sends is only the client's affair
                self.fail(name, [("", text)])

    def failed(self, name: str, record: Record, failures: list[tuple[str, str]]) -> None:
        """Note that versions cannot be loaded. What serves goes on."""
        text = " ".join(
            f"version {version} is at UNAVAILABLE state: {reason};" for version, reason in failures
        )
        record.error = InvalidArgument(f"load failed for model '{name}': {_shortened(text)}")
        self.fail(name, failures)

    def settle(self, name: str, record: Record) -> None:
        """Note that what serves is what is wanted, whatever was tried since."""
        record.tried = record.good
        if record.error is not None:
            record.error = None
            serving = [entry for entry in self._table.entries if entry.name == name and entry.loaded]
            self._table.publish(name, [replace(entry, reason="") for entry in serving])

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

    def lost(self, name: str, record: Record, reason: str) -> None:
        """Note that what serves loses a model that it needs: without that it cannot go on."""
        self.withdraw(name, record)
        record.tried = record.good
        versions = record.good.plan.versions if record.good and record.good.plan else ()
        self.failed(name, record, [(str(version), reason) for version in versions])

    def withdraw(self, name: str, record: Record) -> bool:
        """Let requests find no version of a model; return whether they have found one."""
        old, record.loaded = record.loaded, ()
        gone = self._table.publish(name, [])
        self._retire(record, old, gone)
        return bool(old)

    def serve(self, name: str, record: Record, made: list[ModelEntry]) -> bool:
        """Let requests find these versions of a model instead of those before; return True."""
        gone = self._table.publish(name, made)
        for entry in made:
            _log.info("loaded '%s' version %s in %.0f ms", name, entry.version, entry.seconds * 1e3)
            self._report(entry)
        self._retire(record, record.loaded, gone)
        record.loaded, record.good, record.error = models_of(made), record.tried, None
        return True

    def _retire(self, record: Record, old: tuple[LoadedModel, ...], gone: list[ModelEntry]) -> None:
        def note() -> None:
            for entry in gone:
                _log.info("unloaded '%s' version %s", entry.name, entry.version)
                ended = replace(entry, state=ModelState.UNAVAILABLE, reason=UNLOADED)
                self._table.put(ended, instead=entry)

        record.leaving = [(freed, needs) for freed, needs in record.leaving if not freed.done()]
        if old:
            needs = record.good.needs if record.good is not None else frozenset[str]()
            record.leaving.append((self._retirement.retire(old, note), needs))

    def known(self, name: str) -> bool:
        """Return whether there is anything to say of a model."""
        return any(entry.name == name for entry in self._table.entries)

    def _report(self, entry: ModelEntry) -> None:
        try:
            self.progress(entry)
        except Exception:
            _log.exception("the progress of loading could not be told")


def reason_of(error: BaseException) -> str:
    """Return what is said of an error as a reason: not empty, no more than a status can carry, and UTF-8."""
    text = status_of(error)[1] or type(error).__name__
    return _shortened(text.encode(errors="backslashreplace").decode())


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def models_of(entries: list[ModelEntry]) -> tuple[LoadedModel, ...]:
    """Return the models of entries that are ready."""
    return tuple(entry.loaded for entry in entries if entry.loaded is not None)
