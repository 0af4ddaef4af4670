"""Measuring a level of load: window after window, until three in a row agree."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from yais.core.clock import NANOSECONDS, monotonic
from yais.errors import FailedPrecondition, error_of
from yais.load.load import Load
from yais.load.perf.response_count import ResponseCount
from yais.load.perf.server_statistics import ServerStatistics, Snapshot
from yais.load.perf.settings import PerfSettings
from yais.load.perf.window import NEEDED, Window, latency_of, merge, stable
from yais.load.recording import Recording

__all__ = ["LevelResult", "NothingMeasured", "Profiler"]

_LOOK = 0.25  # seconds between two looks at whether requests fail
_COUNT = 1.0  # seconds between two looks at whether there are enough of them
_LAST = 5.0  # seconds that requests in flight have at the end


class NothingMeasured(FailedPrecondition):
    """Expected: no request was answered in a window."""


@dataclass(frozen=True, slots=True)
class LevelResult:
    """What came of a level.

    Attributes
    ----------
    level
        Requests in flight, or requests per second.
    window
        The last three windows as one; all, where they were never stable.
    stable
        Whether these agree.
    over
        Whether the latency reached the limit.
    interrupted
        Whether somebody ended it before.
    """

    level: float
    window: Window
    stable: bool
    over: bool
    interrupted: bool = False

    @property
    def met(self) -> bool:
        """Whether it is a result, and no higher level is ruled out by it."""
        return self.stable and not self.over


class Profiler:
    """Measures one level after another. Not thread-safe.

    Parameters
    ----------
    load_of
        Makes the load of a level.
    statistics
        Where there are statistics of the server.
    responses
        What counts the answers to a request, for a decoupled model.
    on_pass
        Told of each window, with its number from 1.
    """

    def __init__(
        self,
        load_of: Callable[[float], Load],
        settings: PerfSettings,
        statistics: ServerStatistics | None = None,
        responses: ResponseCount | None = None,
        on_pass: Callable[[int, Window], None] | None = None,
    ) -> None:
        self._load_of = load_of
        self._settings = settings
        self._statistics = statistics
        self._responses = responses
        self._on_pass = on_pass

    def __repr__(self) -> str:
        return f"<Profiler: {self._settings}>"

    def measure(self, level: float) -> LevelResult:
        """Measure a level. After a KeyboardInterrupt the result is what was measured so far.

        Raises
        ------
        YaisError
            A request failed, with its status and message, or the statistics cannot be had.
            NothingMeasured if a window is over before a request is.
        """
        load = self._load_of(level)
        windows: list[Window] = []
        over = interrupted = False
        measuring = _Measuring(load, self._settings, self._statistics, self._responses)
        try:
            load.start()
            measuring.begin()
            while len(windows) < self._settings.trials and not over and not stable(windows, self._settings):
                measuring.wait()
                windows.append(measuring.end())
                if self._on_pass is not None:
                    self._on_pass(len(windows), windows[-1])
                over = self._is_over(windows)
        except KeyboardInterrupt:
            interrupted = True
            windows.append(measuring.end())
        finally:
            load.stop(_LAST)
        if not all(window.requests for window in windows[-NEEDED:]) and not interrupted:
            raise NothingMeasured(
                "No valid requests recorded within time interval. Please use a larger time window."
            )
        return self._result(level, windows, interrupted=interrupted)

    def _is_over(self, windows: list[Window]) -> bool:
        limit = self._settings.limit_ms
        return (
            bool(limit)
            and len(windows) >= NEEDED
            and not all(latency_of(window, self._settings) < limit * 10**6 for window in windows[-NEEDED:])
        )

    def _result(self, level: float, windows: list[Window], *, interrupted: bool) -> LevelResult:
        settled = stable(windows, self._settings) and not interrupted
        window = merge(windows if interrupted else windows[-NEEDED:])
        limit = self._settings.limit_ms
        over = bool(limit) and latency_of(window, self._settings) >= limit * 10**6
        return LevelResult(level, window, settled, over, interrupted)


class _Measuring:
    """The windows of one load. Statistics of the server are those at the end of the last window."""

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
        self._snapshot: Snapshot = {}
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

    def end(self) -> Window:
        """Return the window, and begin the next one. Raises the error of a request that failed."""
        now, cpu = monotonic(), time.process_time_ns()
        recording = self._load.take()
        _check(recording)
        responses = recording.completed if self._responses is None else self._responses.take()
        server = None
        if self._statistics is not None:
            before, self._snapshot = self._snapshot, self._statistics.snapshot()
            server = self._statistics.between(before, self._snapshot)
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
