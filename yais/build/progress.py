"""How far a build is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["BuildProgress", "Cancelling", "Reporting", "progress_monitor"]

Reporting = Callable[[str, float], None]
"""Takes what is being done, and the part of the whole that is, from 0 to 1; called on a builder's thread."""

Cancelling = Callable[[], bool]
"""Whether the build is to end early; called on a builder's thread."""


@dataclass(slots=True)
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class BuildProgress:
    """The phases of a build, each a part of a step of another. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._phases: dict[str, _Phase] = {}
        self._done = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> float:
        """Begin a phase; return the part of the whole that is done, from 0 to 1, which never gets less."""
        with self._lock:
            self._phases[name] = _Phase(parent, max(1, steps))
            return self._part(name)

    def step(self, name: str, number: int) -> float:
        """End step `number` of a phase, from 0; return the part of the whole that is done."""
        with self._lock:
            if name in self._phases:
                self._phases[name].done = number + 1
            return self._part(name)

    def finish(self, name: str) -> None:
        """End a phase."""
        with self._lock:
            self._phases.pop(name, None)

    def _part(self, name: str | None) -> float:
        part = 0.0
        seen: set[str] = set()
        while name is not None and name in self._phases and name not in seen:
            seen.add(name)
            phase = self._phases[name]
            part = min(1.0, (phase.done + part) / phase.steps)
            name = phase.parent
        self._done = max(self._done, part)
        return self._done


def progress_monitor(module: Any, report: Reporting, cancelled: Cancelling) -> Any:
    """Return an `IProgressMonitor` of a builder's module; it has to live as long as the builder.

    If `report` or `cancelled` raises, the build ends, and the monitor's `error` is what was raised.
    """

    class Monitor(module.IProgressMonitor):  # type: ignore[misc]  # as in builder_log
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)
            self.error: BaseException | None = None
            self._progress = BuildProgress()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._told(phase_name, self._progress.start(phase_name, parent_phase, num_steps))

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._told(phase_name, self._progress.step(phase_name, step))
            return self.error is None and not self._is_cancelled()

        def phase_finish(self, phase_name: str) -> None:
            self._progress.finish(phase_name)

        def _told(self, name: str, part: float) -> None:
            try:
                report(name, part)
            except BaseException as error:  # must not reach the builder, which cannot take it
                self.error = self.error or error

        def _is_cancelled(self) -> bool:
            try:
                return cancelled()
            except BaseException as error:
                self.error = self.error or error
                return True

    return Monitor()
