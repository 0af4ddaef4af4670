"""The life cycle of a stream as a state machine: no threads, no gRPC, no time.

What has happened is told by methods; `next` says which operations are to start now, each of which must then
be started and its completion told. The order in which completions arrive is gRPC's affair and may be any.

    requests    asked for (reading) -> with the user (delivering) -> asked for again ... -> no more
    answers     offered -> unsent -> one at a time on its way (writing) -> sent
    status      wanted -> on its way -> sent: always the last operation, and there always is one

A stream is *dead* when the other side is gone or has been sent away (cancellation, deadline, a broken
connection, shutdown): what is unsent is dropped, nothing is delivered any more, and the status follows once
the user's code has let go. It is *over* when nothing is under way: its context may serve the next call.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, NamedTuple, TypeVar

from yais.errors import Code

__all__ = ["Operations", "Status", "StreamState"]

MessageT = TypeVar("MessageT")


class Status(NamedTuple):
    """How a stream ends."""

    code: Code
    details: str = ""


class Operations(NamedTuple, Generic[MessageT]):
    """What is to start now; `write` and `read` together may be one operation, `write` and `status` too."""

    read: bool = False
    write: MessageT | None = None
    status: Status | None = None


_GONE = Status(Code.CANCELLED, "Cancelled")
_NOTHING: Operations[None] = Operations()


class StreamState(Generic[MessageT]):
    """One stream. Not thread-safe: the owner holds a lock.

    It begins with something being delivered: the news that the stream is open.

    Parameters
    ----------
    max_unsent
        Answers that may be offered while one is on its way. With that many, no further request is read.
    single
        Whether there is exactly one request, so that none is asked for after it.
    lockstep
        Whether an answer is only offered while a request is being delivered. Then answer and next request
        are one operation, which ends when the next request is there; the status does not wait for it.
    """

    __slots__ = (
        "_at_once",
        "_closed",
        "_delivering",
        "_exchanging",
        "_holds",
        "_lockstep",
        "_max_unsent",
        "_no_more",
        "_reading",
        "_single",
        "_status",
        "_status_sent",
        "_status_started",
        "_unsent",
        "_writing",
        "cancelled",
        "dead",
    )

    def __init__(self, *, max_unsent: int = 16, single: bool = False, lockstep: bool = False) -> None:
        self._max_unsent = max_unsent
        self._single = single
        self._lockstep = lockstep
        self._unsent: deque[MessageT] = deque()
        self._reading = self._writing = self._no_more = self._closed = False
        self._exchanging = False  # writing and reading, in one operation
        self._delivering = True
        self._holds = 0
        self._status: Status | None = None
        self._at_once = self._status_started = self._status_sent = False
        self.dead = False
        self.cancelled = False

    def __repr__(self) -> str:
        flags = (self._reading, self._delivering, self._writing, self._status_started, self.dead)
        names = ("reading", "delivering", "writing", "ending", "dead")
        doing = [name for flag, name in zip(flags, names, strict=True) if flag]
        return f"<StreamState: {', '.join(doing) or 'idle'}, {len(self._unsent)} unsent>"

    @property
    def open(self) -> bool:
        """Whether answers are taken: neither finished nor dead."""
        return self._status is None and not self.dead

    @property
    def room(self) -> bool:
        """Whether an answer would be taken now."""
        return self.open and len(self._unsent) < self._max_unsent

    @property
    def roomy(self) -> bool:
        """Whether there is room for a good many answers: the moment to ask for more of them."""
        return len(self._unsent) <= self._max_unsent // 2

    @property
    def deaf(self) -> bool:
        """Whether nothing is delivered any more: dead, or to end at once."""
        return self.dead or (self._status is not None and self._at_once)

    @property
    def over(self) -> bool:
        """Whether nothing is under way and nothing will be."""
        return self._status_sent and self._closed and not self._reading and not self._writing

    def consumed(self) -> None:
        """Note that the user has done with what was delivered."""
        self._delivering = False

    def received(self, *, message: bool) -> bool:
        """Note that a read has ended, with a message or for want of one; return whether to deliver that."""
        self._reading = False
        if not message or self._single:
            self._no_more = True
        self._delivering = not self.deaf
        return self._delivering

    def offer(self, message: MessageT, *, always: bool = False) -> bool:
        """Take an answer if there is room (or `always`, while the stream is open); return whether taken."""
        if not (self.open if always else self.room):
            return False
        self._unsent.append(message)
        return True

    def sent(self) -> None:
        """Note that a write has ended."""
        self._writing = self._exchanging = False

    def finish(self, status: Status, *, at_once: bool = False) -> bool:
        """Take no more answers and end with `status` after those taken; False if it has an end already.

        Requests that still arrive are delivered before, until the other side has no more; not so with
        `at_once`. Until it happens, an end can still be made to happen at once, and a good one made bad.
        """
        if self.dead or self._status_started:
            return False
        first = self._status is None
        if self._status is None or self._status.code is Code.OK:
            self._status = status
        self._at_once = self._at_once or at_once
        return first

    def hold(self) -> None:
        """Put the status, and with it the end of the stream, off until the same number of `release`s."""
        self._holds += 1

    def release(self) -> None:
        """Undo one `hold`."""
        self._holds -= 1

    def kill(self) -> bool:
        """End the stream from this side: it is dead. False if it was, or if its status is on its way."""
        if self.dead or self._status_started:
            return False
        self._die()
        return True

    def close(self, *, cancelled: bool) -> None:
        """GRPC says that the call has ended, and whether that was before its status was sent."""
        self._closed = True
        self.cancelled = self.cancelled or cancelled
        if cancelled:
            self._die()

    def status_sent(self) -> None:
        """Note that the status has gone."""
        self._status_sent = True

    def _die(self) -> None:
        self.dead = True
        self._unsent.clear()
        if not self._status_started:
            self._status = self._status or _GONE

    def next(self) -> Operations[MessageT]:
        """Return the operations to start now; they count as started."""
        if self._status_started:
            return _NOTHING  # type: ignore[return-value]
        if self.dead:
            held = self._delivering or self._holds
            return Operations() if held else Operations(status=self._start_status())
        write = None
        if self._unsent and not self._writing:
            self._writing = True
            write = self._unsent.popleft()
        status = self._start_status() if self._may_end(write is not None) else None
        read = status is None and self._may_read()
        self._reading = self._reading or read
        self._exchanging = self._exchanging or (self._lockstep and read and write is not None)
        return Operations(read, write, status)

    def _start_status(self) -> Status | None:
        self._status_started = True
        return self._status

    def _may_end(self, last_write: bool) -> bool:
        waiting = self._writing and not last_write and not self._exchanging
        return (
            self._status is not None
            and (self._at_once or self._no_more)
            and not (self._unsent or waiting or self._delivering or self._holds)
        )

    def _may_read(self) -> bool:
        return not (
            self._reading
            or self._delivering
            or self._no_more
            or self.deaf
            or len(self._unsent) >= self._max_unsent
        )
