"""Measuring a level of load: window after window, until three in a row agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from yais.errors import FailedPrecondition
from yais.load.load import Load
from yais.load.perf.measuring import Measuring
from yais.load.perf.response_count import ResponseCount
from yais.load.perf.server_statistics import ServerStatistics
from yais.load.perf.settings import PerfSettings
from yais.load.perf.window import NEEDED, Window, latency_of, merge, stable

__all__ = ["LevelResult", "NothingMeasured", "Profiler"]

_LAST = 5.0  # seconds that requests in flight have at the end, where all went well
_LAST_ANSWERS = 1.0  # seconds that they have after Ctrl-C


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
        The last three windows as one; with what came after them where somebody ended it before.
    stable
        Whether the last three agree.
    over
        Whether the latency reached the limit.
    interrupted
        Whether somebody did.
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
    drain
        Seconds that the requests of a level have to end before the next one begins.
    """

    def __init__(
        self,
        load_of: Callable[[float], Load],
        settings: PerfSettings,
        statistics: ServerStatistics | None = None,
        responses: ResponseCount | None = None,
        on_pass: Callable[[int, Window], None] | None = None,
        drain: float = 30.0,
    ) -> None:
        self._load_of = load_of
        self._settings = settings
        self._statistics = statistics
        self._responses = responses
        self._on_pass = on_pass
        self._drain = drain
        self._before: Load | None = None

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
        if self._before is not None:
            self._before.wait(self._drain)  # of a slow model there may be requests in flight
        load = self._before = self._load_of(level)
        windows: list[Window] = []
        over = interrupted = False
        last = 0.0
        measuring = Measuring(load, self._settings, self._statistics, self._responses)
        try:
            load.start()
            measuring.begin()
            for number in range(1, self._settings.trials + 1):
                measuring.wait()
                windows = [*windows[1 - NEEDED :], measuring.end()]
                if self._on_pass is not None:
                    self._on_pass(number, windows[-1])
                over = self._is_over(windows)
                if over or stable(windows, self._settings):
                    break
            if not all(window.requests for window in windows):
                raise NothingMeasured(
                    "No valid requests recorded within time interval. Please use a larger time window."
                )
            last = _LAST
        except KeyboardInterrupt:
            interrupted = True
            answered = not load.stop(_LAST_ANSWERS).outstanding
            windows.append(measuring.end(ask=answered))  # of a server that hangs there would be no answer
        finally:
            load.stop(last)
        return self._result(level, windows, interrupted=interrupted)

    def _is_over(self, windows: list[Window]) -> bool:
        limit = self._settings.limit_ms
        return (
            bool(limit)
            and len(windows) == NEEDED
            and not all(latency_of(window, self._settings) < limit * 10**6 for window in windows)
        )

    def _result(self, level: float, windows: list[Window], *, interrupted: bool) -> LevelResult:
        settled = stable(windows, self._settings) and not interrupted
        window = merge(windows)
        limit = self._settings.limit_ms
        over = bool(limit) and latency_of(window, self._settings) >= limit * 10**6
        return LevelResult(level, window, settled, over, interrupted)
