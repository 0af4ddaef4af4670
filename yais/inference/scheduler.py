"""The shell around a scheduler's state machine: locks, threads, timers.

Batches form only when a lane and an instance of the model are free, and grow while none is. Where they run
follows from the caller's thread and from how long they take: see `yais.core.dispatcher` and `Pace`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple, cast

from yais.core.clock import monotonic
from yais.core.dispatcher import Dispatcher, current_dispatcher
from yais.core.future import Future
from yais.core.pool import Lease
from yais.core.timer import Timer
from yais.errors import DeadlineExceeded, Unavailable, YaisError
from yais.inference.job import Job
from yais.inference.runner import Runner
from yais.inference.scheduling.queue import Batch, BatchQueue, CloseReason
from yais.lane import Lane, Lanes

__all__ = ["Scheduler"]


# How long a short batch waits for a thread that wants its answer before it is given to another, ns. Such
# threads come at once if they come at all, but a timer that is due slows them down while it waits for the
# interpreter's lock: `infer(...).get()` in a loop by 12 us a request if it is due every millisecond, by 1 us
# every 50. So the time is doubled while they come.
_SOONEST, _LATEST = 1_000_000, 50_000_000


class _Work(NamedTuple):
    """A batch, what it runs on, and how long it waited for that, ns."""

    batch: Batch[Job]
    lane: Lease[Lane]
    blocked: int


class Scheduler:
    """Feeds a runner from a queue. Thread-safe.

    Parameters
    ----------
    queue
        Decides which jobs run together and when.
    runner
        Runs them.
    instances
        Batches the model can run at once.
    lanes
        Lends each batch the threads and the memory to run with. A job that brings its lane along runs
        alone, and before those that need one: when it has run, its holder can give the lane back.
    timer
        Wakes the scheduler when a batch has waited long enough.
    """

    def __init__(
        self, queue: BatchQueue[Job], runner: Runner, *, instances: int, lanes: Lanes, timer: Timer
    ) -> None:
        self._queue = queue
        self._placed: deque[Job] = deque()  # jobs that bring a lane along
        self._runner = runner
        self._lanes = lanes.pool
        # Threads of the user's may be anywhere, and where lanes have their CPUs that is wrong.
        self._may_help = all(place.cpus is None for place in lanes.places)
        self._timer = timer
        self._lock = threading.Lock()
        self._free = instances
        self._instances = instances
        self._unanswered = 0  # batches taken whose answers are not out yet
        self._idle = threading.Condition(self._lock)
        self._flushing: set[Dispatcher] = set()  # those that will call `_flush`
        self._wake_at: int | None = None
        self._blocked_since: int | None = None  # waiting for a lane
        self._soon = False  # `_on_soon` is going to be called
        self._patience = _SOONEST
        self._closed = False

    def __repr__(self) -> str:
        busy = self._instances - self._free
        return f"<Scheduler {self.pending} waiting, {busy} of {self._instances} instances busy>"

    @property
    def pending(self) -> int:
        """Jobs that wait."""
        return len(self._queue) + len(self._placed)

    def submit(self, job: Job) -> bool:
        """Take a job, whose future is completed whatever happens; return False once closed."""
        with self._lock:
            if self._closed:
                return False
            if job.request.lane is None:
                self._queue.push(job)
            else:
                self._placed.append(job)
            full, alone = self._queue.full, self.pending == 1
            if not self._free:  # whoever gives an instance back looks for what waits
                return True
        dispatcher = current_dispatcher()
        if dispatcher is None and alone and job.request.waits and self._helps(job):
            job.future.offer(partial(self._help, job), self._dispatch)
            self._dispatch_soon()
        elif dispatcher is None:
            self._dispatch()
        elif full:
            self._flush()
        elif dispatcher not in self._flushing:
            self._flushing.add(dispatcher)
            dispatcher.when_drained(self._flush)
        return True

    def close(self, timeout: float) -> bool:
        """Take no more jobs, and wait until all are answered.

        Return whether that was so within `timeout` seconds; if not, what still waits fails with Unavailable.
        """
        with self._lock:
            self._closed = True
            self._queue.hurry()
        self._dispatch()
        with self._idle:
            if self._idle.wait_for(self._at_rest, timeout):
                return True
            left = [*self._placed, *self._queue.clear()]
            self._placed.clear()
        self._fail(left, Unavailable, "the model was unloaded while the request was queued")
        return False

    def _at_rest(self) -> bool:
        # An instance is free before its answers are out.
        return not self.pending and not self._unanswered

    def _flush(self) -> None:
        """Run what is ready, on this thread if it is short. Only on a dispatcher's thread."""
        self._flushing.discard(current_dispatcher())
        while self.pending and (work := self._take()) is not None:
            self._perform(work)
        self._set_timer()

    def _helps(self, job: Job) -> bool:
        """Whether a thread that waits for the job may run it."""
        return self._may_help and self._runner.pace.short(job.size)

    def _help(self, job: Job) -> None:
        """Run what is ready until `job` is done, on the thread that waits; leave the rest to others."""
        while not job.future.done() and self.pending and (work := self._take()) is not None:
            self._perform(work)
        self._dispatch()

    def _perform(self, work: _Work) -> None:
        """Run a batch, on this thread if it is short."""
        if self._runner.pace.short(work.batch.size) and self._runner.run(*work):
            self._give_back()
            self._on_answered()
        else:
            self._runner.start(*work, self._on_executed, self._on_answered)

    def _dispatch(self, lane: Lease[Lane] | None = None, blocked: int = 0) -> None:
        """Start what is ready on the lanes' threads; `lane`, if given, was waited for `blocked` ns."""
        while self.pending and (work := self._take(lane, blocked)) is not None:
            if work.lane is lane:
                lane = None
            self._runner.start(*work, self._on_executed, self._on_answered)
        if lane is not None:
            lane.release()
        self._set_timer()

    def _on_executed(self) -> None:
        self._give_back()
        if self.pending:
            self._dispatch()

    def _give_back(self) -> None:
        with self._lock:
            self._free += 1

    def _on_answered(self) -> None:
        with self._lock:
            self._unanswered -= 1
            if self._at_rest():
                self._idle.notify_all()

    def _take(self, lane: Lease[Lane] | None = None, blocked: int = 0) -> _Work | None:
        """Take a batch, a lane (`lane` if it is given) and an instance: all of them or none."""
        work = taken = None
        wait = False
        now = monotonic()
        # In one step: taken apart, a job could be left behind with nobody to wake it.
        with self._lock:
            dead = self._bury_placed(now)
            if self._free and self._placed:
                work = _placed(self._placed.popleft())
            elif self._free and len(self._queue):
                taken = lane or self._lanes.try_acquire()
                if taken is None:
                    wait = self._blocked_since is None
                    self._blocked_since = self._blocked_since or now
                elif (batch := self._queue.take(now)) is not None:
                    work = _Work(batch, taken, blocked)
            if work is not None:
                self._free -= 1
                self._unanswered += 1
            dead += self._queue.reap()
            if dead and self._at_rest():
                self._idle.notify_all()
        # Outside of the lock: both may call back.
        if taken is not None and taken is not lane and work is None:
            taken.release()
        if wait:
            self._lanes.acquire_future().add_done_callback(self._on_lane)
        if dead:
            self._fail(dead, DeadlineExceeded, "the deadline passed while the request was queued")
        return work

    def _bury_placed(self, now: int) -> list[Job]:
        if not self._placed:
            return []
        dead = [job for job in self._placed if job.dead(now)]
        for job in dead:
            self._placed.remove(job)
        return dead

    def _on_lane(self, lent: Future[Lease[Lane]]) -> None:
        with self._lock:
            since, self._blocked_since = self._blocked_since, None
        if lent.cancelled() or lent.exception(0) is not None:  # the lanes are closed: so is everything
            return
        self._dispatch(lent.result(0), monotonic() - (since or 0))

    def _fail(self, jobs: Iterable[Job], kind: type[YaisError], text: str) -> None:
        for job in jobs:
            if job.future.set_running_or_notify_cancel():
                self._runner.fail(job, kind(text))

    def _set_timer(self) -> None:
        if not len(self._queue):
            return
        with self._lock:
            when = self._queue.wake_at() if self._free else None
            if when is None or (self._wake_at is not None and self._wake_at <= when):
                return
            self._wake_at = when
        self._timer.call_at(when, self._on_timer)

    def _dispatch_soon(self) -> None:
        """Start what is ready a moment later, if nobody has by then."""
        if not self._soon:
            self._soon = True
            self._timer.call_at(monotonic() + self._patience, self._on_soon)

    def _on_soon(self) -> None:
        self._soon = False  # before the look at the queue: what comes after that asks again
        self._patience = _SOONEST if self.pending else min(2 * self._patience, _LATEST)
        self._dispatch()

    def _on_timer(self) -> None:
        with self._lock:
            self._wake_at = None
        self._dispatch()


class _Held:
    """A lane that a job brought along, in the place of a lease: its holder gives it back."""

    __slots__ = ("item",)

    def __init__(self, lane: Lane) -> None:
        self.item = lane

    def release(self) -> None:
        pass


def _placed(job: Job) -> _Work:
    held = cast("Lease[Lane]", _Held(cast("Lane", job.request.lane)))
    return _Work(Batch((job,), job.size, CloseReason.IDLE), held, 0)
