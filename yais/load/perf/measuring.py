"""Taking the windows of a load, one after another."""

from __future__ import annotations

import time

from yais.core.clock import NANOSECONDS, monotonic
from yais.errors import error_of
from yais.load.load import Load
from yais.load.perf.response_count import ResponseCount
from yais.load.perf.server_statistics import ServerStatistics, Snapshot
from yais.load.perf.settings import PerfSettings
from yais.load.perf.window import Window
from yais.load.recording import Recording

__all__ = ["Measuring"]

_LOOK = 0.25  # seconds between two looks at whether requests fail
_COUNT = 1.0  # seconds between two looks at whether there are enough of them


class Measuring:
    """The windows of one load. Not thread-safe.

    Statistics of the server are those at the end of the window before.
    """

    def __init__(
        self,
        load: Load,
        settings: PerfSettings,
        statistics: ServerStatistics | None,
        responses: ResponseCount | None,
    ) -> None:
        self._load = load
        self._settings = settings
        self._statistics = statistics
        self._responses = responses
        self._snapshot: Snapshot | None = None
        self._start, self._cpu = monotonic(), time.process_time_ns()

    def begin(self) -> None:
        """Begin the first window."""
        self._load.take()
        if self._responses is not None:
            self._responses.take()
        self._start, self._cpu = monotonic(), time.process_time_ns()
        if self._statistics is not None:
            self._snapshot = self._statistics.snapshot()

    def wait(self) -> None:
        """Wait until it has run for as long as it should, or a request has failed."""
        wanted = self._settings.window_requests
        seconds = _COUNT if wanted else self._settings.window_ms / 1000
        completed = self._load.recording().completed
        while True:
            end = monotonic() + int(seconds * NANOSECONDS)
            while (left := (end - monotonic()) / NANOSECONDS) > 0:
                if self._load.wait(min(left, _LOOK)) or self._load.recording().failed:
                    return
            if not wanted or self._load.recording().completed - completed >= wanted:
                return

    def end(self, *, ask: bool = True) -> Window:
        """Return the window, and begin the next one. Raises the error of a request that failed.

        Parameters
        ----------
        ask
            Whether to ask the server for its statistics.
        """
        now, cpu = monotonic(), time.process_time_ns()
        recording = self._load.take()
        _check(recording)
        responses = recording.completed if self._responses is None else self._responses.take()
        server = None
        if ask and self._statistics is not None:
            before, self._snapshot = self._snapshot, self._statistics.snapshot()
            server = None if before is None else self._statistics.between(before, self._snapshot)
        window = Window(
            (now - self._start) / NANOSECONDS,
            self._settings.batch,
            recording,
            responses,
            (cpu - self._cpu) / NANOSECONDS,
            server,
        )
        self._start, self._cpu = now, cpu
        return window


def _check(recording: Recording) -> None:
    for code, _ in recording.failed.most_common(1):
        raise error_of(code, recording.texts[code])
