"""Writes down what comes of requests while a load runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yais.core.clock import NANOSECONDS
from yais.errors import Code
from yais.load.histogram import counts_of, record
from yais.load.recording import Recording, Slice

__all__ = ["LATE", "Recorder"]

LATE = 1_000_000
"""A request that is sent later than this after it was due is late, nanoseconds."""

_SLICES = 300
_SECOND = NANOSECONDS


@dataclass(slots=True)
class _Past:
    """A slice that is over, with its latencies: which counts of the histogram are not zero, and those."""

    slice: Slice
    used: npt.NDArray[np.int64]
    counts: npt.NDArray[np.uint64]


class Recorder:
    """Counts, and keeps latencies in histograms: what it takes does not grow with the number of requests.

    All moments are in nanoseconds from the start of the run. Not thread-safe: the load's lock guards it.
    """

    def __init__(self) -> None:
        self._new = Recording()  # since it was last added to the following
        self._slice = Recording()
        self._window = Recording()
        self._total = Recording()
        self._window_from = 0
        self._length = _SECOND
        self._slice_from = 0
        self._past: list[_Past] = []
        self._outstanding = 0
        self._peak = 0  # of the slice
        self._last_answer = 0
        self._asked: int | None = None

    @property
    def outstanding(self) -> int:
        """Requests in flight."""
        return self._outstanding

    def scheduled(self, now: int, number: int = 1) -> None:
        """Count requests that have become due."""
        if now >= self._slice_from + self._length:
            self._close_slices(now)
        self._new.scheduled += number

    def asked(self, until: int) -> None:
        """Take note that all are due that will be, and of when one more would have been."""
        self._asked = until

    def sent(self, now: int, *, late: bool = False, held_back: bool = False) -> None:
        """Count a request that goes out."""
        if now >= self._slice_from + self._length:
            self._close_slices(now)
        self._outstanding += 1
        self._peak = max(self._peak, self._outstanding)
        new = self._new
        new.sent += 1
        if late:
            new.late += 1
            new.held_back += held_back

    def spent(self, nanoseconds: int) -> None:
        """Add up how long it took to hand a request to the transport."""
        self._new.sending += nanoseconds

    def unsent(self, number: int) -> None:
        """Count requests that were due and never will be sent."""
        self._new.unsent += number

    def answered(self, now: int, due: int, sent: int, code: Code, text: str) -> None:
        """Count a request that has ended, and keep its latency if with OK."""
        if now >= self._slice_from + self._length:
            self._close_slices(now)
        self._outstanding -= 1
        self._last_answer = now
        new = self._new
        if code is Code.OK:
            new.completed += 1
            record(new.latency, now - due)
            record(new.service, now - sent)
        else:
            new.failed[code] += 1
            new.texts.setdefault(code, text)

    def recording(self, now: int, ended: int | None = None) -> Recording:
        """Return the whole run.

        Parameters
        ----------
        ended
            When there was no more to send; None while there is.
        """
        over = ended is not None and not self._outstanding
        until = max(ended or 0, self._last_answer) if over else max(now, ended or 0)
        self._close_slices(until)
        self._gather()
        whole = Recording()
        whole.add(self._total)
        whole.seconds = (now if ended is None else ended) / NANOSECONDS
        whole.drained = until / NANOSECONDS
        if self._asked is not None and self._asked / NANOSECONDS < whole.seconds:
            whole.asked = self._asked / NANOSECONDS
        whole.slices = [past.slice for past in self._past]
        if until > self._slice_from:
            whole.slices = [*whole.slices, self._sliced(until - self._slice_from)]
        return whole

    def take(self, now: int) -> Recording:
        """Return what came since the last call, or the start."""
        self._gather()
        window, self._window = self._window, Recording()
        window.seconds = window.drained = (now - self._window_from) / NANOSECONDS
        self._window_from = now
        return window

    def _gather(self) -> None:
        sums = [_sum(each, self._new) for each in (self._slice, self._window, self._total)]
        # All at once: Ctrl-C, in the thread that looks, must not leave something counted in one of them only.
        self._slice, self._window, self._total, self._new = *sums, Recording()

    def _close_slices(self, now: int) -> None:
        while now >= self._slice_from + self._length:
            self._gather()
            counts = counts_of(self._slice.latency)
            used = np.flatnonzero(counts)
            past = [*self._past, _Past(self._sliced(self._length), used, counts[used])]
            end, length = self._slice_from + self._length, self._length
            if len(past) == _SLICES:
                past = [_joined(*pair) for pair in zip(past[::2], past[1::2], strict=True)]
                length *= 2
            # All at once, as in `_gather`.
            self._past, self._slice, self._slice_from, self._length = past, Recording(), end, length
            self._peak = self._outstanding

    def _sliced(self, length: int) -> Slice:
        """Return the present slice as if it ended now."""
        current = self._slice
        p50, p90, p99, highest = current.percentiles(50, 90, 99, 100)
        return Slice(
            start=self._slice_from / NANOSECONDS,
            seconds=length / NANOSECONDS,
            scheduled=current.scheduled,
            sent=current.sent,
            completed=current.completed,
            failed=current.failed.total(),
            outstanding=self._peak,
            p50=p50,
            p90=p90,
            p99=p99,
            max=highest,
        )


def _sum(first: Recording, second: Recording) -> Recording:
    both = Recording()
    both.add(first)
    both.add(second)
    return both


def _joined(first: _Past, second: _Past) -> _Past:
    both = Recording(completed=first.slice.completed + second.slice.completed)
    counts = counts_of(both.latency)
    for past in (first, second):
        counts[past.used] += past.counts
    both.latency.total_count = both.completed
    p50, p90, p99, highest = both.percentiles(50, 90, 99, 100)
    joined = Slice(
        start=first.slice.start,
        seconds=first.slice.seconds + second.slice.seconds,
        scheduled=first.slice.scheduled + second.slice.scheduled,
        sent=first.slice.sent + second.slice.sent,
        completed=both.completed,
        failed=first.slice.failed + second.slice.failed,
        outstanding=max(first.slice.outstanding, second.slice.outstanding),
        p50=p50,
        p90=p90,
        p99=p99,
        max=highest,
    )
    used = np.flatnonzero(counts)
    return _Past(joined, used, counts[used])
