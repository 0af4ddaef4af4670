"""What came of the requests of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from hdrh.histogram import HdrHistogram

from yais.errors import Code
from yais.load.histogram import latency_histogram, moments, values_at

__all__ = ["Recording", "Slice"]


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a run, by the time at which its answers came.

    Attributes
    ----------
    start, seconds
        From the start of the run; length.
    scheduled, sent, completed, failed
        Requests that were due, went out, were answered with OK, were answered otherwise.
    outstanding
        Requests in flight at most: those of a stall within it show.
    p50, p90, p99, max
        Latency of those completed, milliseconds; None where there are none.
    """

    start: float
    seconds: float
    scheduled: int
    sent: int
    completed: int
    failed: int
    outstanding: int
    p50: float | None
    p90: float | None
    p99: float | None
    max: float | None


@dataclass(slots=True)
class Recording:
    """A run, finished or so far, or a window of one, which begins where it was opened and has no slices.

    Attributes
    ----------
    seconds
        From the start to the end of the sending, which of a number of requests at a rate is when one more
        would have been due.
    drained
        From the start to the last answer, and no less than `seconds`.
    asked
        From the start to when one more would have been due, of a number of requests of which some had to
        wait; 0 where that is `seconds`.
    scheduled, sent, completed
        Requests that were due, that went out, that were answered with OK.
    late
        Of those sent: more than 1 ms after they were due.
    held_back
        Of those sent: late because as many were outstanding as may be.
    unsent
        Due, and never sent.
    sending
        Nanoseconds spent handing requests to the transport, in all.
    latency
        Of those completed, nanoseconds, from the moment at which they were due (open loop) or were sent
        (closed loop).
    service
        Of those completed, nanoseconds, from the moment at which they were sent.
    failed, texts
        Answered otherwise, by status, and the first message of each.
    slices
        The run over time.
    interrupted
        Whether somebody ended it early.
    """

    latency: HdrHistogram = field(default_factory=latency_histogram)
    service: HdrHistogram = field(default_factory=latency_histogram)
    seconds: float = 0.0
    drained: float = 0.0
    asked: float = 0.0
    scheduled: int = 0
    sent: int = 0
    completed: int = 0
    late: int = 0
    held_back: int = 0
    unsent: int = 0
    sending: int = 0
    failed: Counter[Code] = field(default_factory=Counter)
    texts: dict[Code, str] = field(default_factory=dict)
    slices: Sequence[Slice] = ()
    interrupted: bool = False

    @property
    def rate_asked(self) -> float:
        """Requests due per second."""
        seconds = self.asked or self.seconds
        return self.scheduled / seconds if seconds else 0.0

    @property
    def rate_sent(self) -> float:
        """Requests sent per second."""
        return self.sent / self.seconds if self.seconds else 0.0

    @property
    def rate_completed(self) -> float:
        """Requests answered with OK per second, until the last answer."""
        return self.completed / self.drained if self.drained else 0.0

    @property
    def outstanding(self) -> int:
        """Requests in flight; means something for whole runs, not for windows."""
        return self.sent - self.completed - self.failed.total()

    def percentile(self, percent: float) -> float | None:
        """Return a percentile of the latencies in milliseconds; None where nothing was completed."""
        return self.percentiles(percent)[0]

    def percentiles(self, *percents: float) -> list[float | None]:
        """Return several, for little more than one costs."""
        if not self.completed:
            return [None] * len(percents)
        return [value / 1e6 for value in values_at(self.latency, percents)]

    @property
    def mean(self) -> float | None:
        """Mean latency in milliseconds; None where nothing was completed."""
        return moments(self.latency)[0] / 1e6 if self.completed else None

    def add(self, other: Recording) -> None:
        """Add a window that came later. Times are added up too; `slices` stays as it is."""
        for own, added in ((self.latency, other.latency), (self.service, other.service)):
            if added.total_count:  # of an empty one the library takes 0 for the least value
                own.add(added)
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.failed.update(other.failed)
        self.texts = {**other.texts, **self.texts}
        self.interrupted |= other.interrupted


_SUMS = ("seconds", "drained", "scheduled", "sent", "completed", "late", "held_back", "unsent", "sending")
