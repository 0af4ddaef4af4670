"""What was measured in a window of time, and when windows agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from yais.load.histogram import moments, values_at
from yais.load.perf.server_times import ServerTimes, merged
from yais.load.perf.settings import PerfSettings
from yais.load.recording import Recording

__all__ = ["NEEDED", "Window", "latency_of", "merge", "stable"]

NEEDED = 3
"""Windows in a row that must agree."""


@dataclass(frozen=True, slots=True)
class Window:
    """A window of time, or several as one.

    Attributes
    ----------
    seconds
        Its length.
    batch
        Items of a request.
    recording
        What came of the requests; their latency is from when they were due, for constant concurrency from
        when they were sent.
    responses
        Answers: to the requests for a decoupled model there may be another number than of these.
    cpu
        Seconds of CPU time that this process used.
    server
        What the server counted; None where it keeps no statistics, or counted nothing.
    """

    seconds: float
    batch: int
    recording: Recording
    responses: int
    cpu: float
    server: ServerTimes | None = None

    @property
    def requests(self) -> int:
        """Requests that were answered."""
        return self.recording.completed

    @property
    def throughput(self) -> float:
        """Inferences per second."""
        return self.requests * self.batch / self.seconds

    @property
    def cpu_share(self) -> float:
        """Share of one CPU that this process used; more than 1 where it used several."""
        return self.cpu / self.seconds

    @property
    def mean(self) -> int:
        """Mean latency, nanoseconds."""
        return int(moments(self.recording.latency)[0])

    @property
    def deviation(self) -> int:
        """Standard deviation of the latency, nanoseconds; 0 for a single request."""
        return int(moments(self.recording.latency)[1])

    @property
    def send_mean(self) -> int:
        """Nanoseconds that sending a request took."""
        return self.recording.sending // self.recording.sent if self.recording.sent else 0

    @property
    def service_mean(self) -> int:
        """Mean time from sending a request to its answer, nanoseconds."""
        return int(moments(self.recording.service)[0])

    def percentile(self, percent: int) -> int:
        """Return a percentile of the latency, nanoseconds."""
        return values_at(self.recording.latency, [percent])[0]


def merge(windows: Sequence[Window]) -> Window:
    """Return windows as one; at least one of them."""
    recording = Recording()
    for window in windows:
        recording.add(window.recording)
    servers = [window.server for window in windows if window.server is not None]
    return Window(
        sum(window.seconds for window in windows),
        windows[0].batch,
        recording,
        sum(window.responses for window in windows),
        sum(window.cpu for window in windows),
        merged(servers) if servers else None,
    )


def latency_of(window: Window, settings: PerfSettings) -> int:
    """Return the latency that counts, the mean or a percentile, nanoseconds."""
    return window.mean if settings.percentile is None else window.percentile(settings.percentile)


def stable(windows: Sequence[Window], settings: PerfSettings) -> bool:
    """Return whether the last three windows agree, in throughput and, for synchronous calls, in latency."""
    last = windows[-NEEDED:]
    if len(last) < NEEDED or not all(window.requests for window in last):
        return False
    if not _agree([window.throughput for window in last], settings.stability):
        return False
    return settings.asynchronous or _agree(
        [latency_of(window, settings) for window in last], settings.stability
    )


def _agree(values: Sequence[float], apart: float) -> bool:
    return max(values) <= (1 + apart) * min(values)
