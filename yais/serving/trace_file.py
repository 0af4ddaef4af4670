"""Trace files: where traces go in mode "triton"."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

from yais.serving.call_trace import CallTrace
from yais.serving.trace_json import rendered
from yais.serving.trace_settings import TraceSetting

__all__ = ["TraceFiles"]

_log = logging.getLogger("yais.serving")

_MOST_KEPT = 16 << 20
"""Characters of traces that wait for the others of their file; more are written before they are complete."""


@dataclass(slots=True)
class _Kept:
    """What waits to be written, of the traces of one setting."""

    texts: list[str] = field(default_factory=list)
    size: int = 0
    taken: int = 0


class TraceFiles:
    """Writes traces as Triton does: a `TraceSink`. Not thread-safe.

    Traces of a setting with a log frequency or a count go to files of their own, FILE.0, FILE.1 and so on, as
    soon as there are so many; all others to FILE, at once. What is left of a log frequency when the setting
    is replaced gets a file of its own, too; what is left of a count goes to FILE. Each is a JSON array at any
    time. What was there under their names before is overwritten.

    A write that fails is logged, once in a row, and what should have been written is lost.

    Parameters
    ----------
    path
        FILE.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._kept: dict[TraceSetting, _Kept] = {}
        self._next = 0
        self._file: FileIO | None = None
        self._end = 0
        self._failing = False

    def __repr__(self) -> str:
        return f"<TraceFiles {self._path}: {self._next} more, {len(self._kept)} not complete>"

    def write(self, call: CallTrace) -> None:
        """Take a trace."""
        setting = call.setting
        kept = self._kept.setdefault(setting, _Kept())
        text = rendered(call)
        kept.texts.append(text)
        kept.size += len(text)
        kept.taken += 1
        alone = not setting.log_frequency and setting.remaining < 0
        full = 0 < setting.log_frequency <= len(kept.texts)
        if alone or full or kept.size > _MOST_KEPT:
            self._flush(setting, kept)
        self.settle(setting)

    def settle(self, setting: TraceSetting) -> None:
        """Write what is left of a setting if it makes no more traces and all that it made are here."""
        kept = self._kept.get(setting)
        if kept is not None and setting.ended and kept.taken == setting.created:
            self._flush(setting, kept)
            del self._kept[setting]

    def close(self) -> None:
        """Write all that is left."""
        for setting, kept in self._kept.items():
            self._flush(setting, kept)
        self._kept.clear()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _flush(self, setting: TraceSetting, kept: _Kept) -> None:
        if not kept.texts:
            return
        text = ",".join(kept.texts)
        kept.texts, kept.size = [], 0
        try:
            if setting.log_frequency or setting.remaining == 0:
                self._write_whole(text)
            else:
                self._append(text)
        except OSError as error:
            if not self._failing:
                _log.error("cannot write traces to '%s': %s", self._path, error)
            self._failing = True
        else:
            self._failing = False

    def _write_whole(self, text: str) -> None:
        path = Path(f"{self._path}.{self._next}")
        self._next += 1
        path.write_text(f"[{text}]")

    def _append(self, text: str) -> None:
        """Write to the array in FILE; what cannot be written as a whole leaves it as it was."""
        if self._file is None:
            self._file = FileIO(self._path, "wb")
        end = self._end
        try:
            last = _write(self._file, f"{text}]" if end else f"[{text}]", at=end)
            if end:
                _write(self._file, ",", at=end - 1)
        except OSError:
            self._file.truncate(end)
            raise
        self._end = last


def _write(file: FileIO, text: str, *, at: int) -> int:
    """Write at an offset; return where the text ends."""
    file.seek(at)
    rest = memoryview(text.encode())
    while rest:
        rest = rest[file.write(rest) :]
    return file.tell()
