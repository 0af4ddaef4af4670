"""When an open loop sends: by its schedule, whatever becomes of the requests sent before."""

from __future__ import annotations

import math

from yais.core.clock import NANOSECONDS
from yais.errors import InvalidArgument
from yais.load.recorder import LATE, Recorder
from yais.load.schedule import Schedule

__all__ = ["OpenLoop"]

_GRACE = 100_000_000
"""What was due is still sent this long after the end, by a sender that is a little late; nanoseconds."""


class OpenLoop:
    """Tells which request is to be sent now, and counts those that are held back.

    A state machine: moments are arguments, nanoseconds from the start, which do not go back. Not thread-safe.

    Parameters
    ----------
    recorder
        Is told of what is due, sent, and never sent; it tells how many are in flight.
    duration, count
        Ends after so many seconds, or so many requests; without either, when it is stopped.
    max_outstanding
        Requests in flight at most. The schedule goes on when they are as many.

    Attributes
    ----------
    ended
        When there were no more to send; None until then. With `count`, when one more would have been due.
    back_offs
        How often the loop ran into `max_outstanding`; a time ends when the schedule has been caught up with.

    Raises
    ------
    InvalidArgument
        A number is not positive.
    """

    def __init__(
        self,
        schedule: Schedule,
        recorder: Recorder,
        *,
        duration: float | None,
        count: int | None,
        max_outstanding: int,
    ) -> None:
        for name, number in (("duration", duration), ("count", count), ("max_outstanding", max_outstanding)):
            if number is not None and not number > 0:
                raise InvalidArgument(f"{name}: got {number}, expected more than 0")
        self._recorder = recorder
        self._end = math.inf if duration is None else duration * NANOSECONDS
        self._count = math.inf if count is None else count
        self._max = max_outstanding
        self._to_send = iter(schedule)
        self._due = next(self._to_send)
        self._sent = 0
        # The schedule once more: it goes on where nothing can be sent.
        self._to_reach = iter(schedule)
        self._next_reached = next(self._to_reach)
        self._reached = 0
        self._backing_off = False
        self.ended: int | None = None
        self.back_offs = 0

    @property
    def next(self) -> float:
        """When something happens without an answer: a request is due, or the end is reached."""
        return min(self._due, self._end)

    def take(self, now: int) -> int | None:
        """Return when the request that is to be sent now was due; None where there is none."""
        self._reach(now)
        due = self._due
        if due > now or due >= self._end:
            self._backing_off = False
            if now >= self._end:
                self.stop(now)
            return None
        if self.ended is not None or now >= self._end + _GRACE:
            self.stop(now)
            return None
        if self._recorder.outstanding >= self._max:
            self.back_offs += not self._backing_off
            self._backing_off = True
            return None
        late = now - due > LATE
        self._recorder.sent(now, late=late, held_back=late and self._backing_off)
        self._sent += 1
        self._due = next(self._to_send)
        if self._due > now:
            self._backing_off = False
        if self._sent == self._count:
            self.ended = int(max(now, min(self._due, self._end)))
        return due

    def stop(self, now: int) -> int:
        """Send no more: what was due and is not sent never will be. Return when that was."""
        if self.ended is None:
            self._reach(now)
            self.ended = int(min(now, self._end))
            self._recorder.unsent(self._reached - self._sent)
        return self.ended

    def _reach(self, now: int) -> None:
        last = min(now, self._end - 1)
        if self._next_reached > last or self._reached == self._count or self.ended is not None:
            return
        while self._next_reached <= last and self._reached < self._count:
            self._reached += 1
            self._recorder.scheduled(self._next_reached)
            self._next_reached = next(self._to_reach)
        if self._reached == self._count:
            self._recorder.asked(int(min(self._next_reached, self._end)))
