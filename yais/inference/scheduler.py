"""The shell around a scheduler's state machine: locks, threads, timers.

Batches form only when a lane and an instance of the model are free, and grow while none is. Where they run
follows from the caller's thread and from how long they take: see `yais.core.dispatcher` and `Pace`.

A batch takes lane, instance and token of one site. Sites do not wait for each other: where instances of one
lack a lane, those of another run what there is.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import NamedTuple, cast

from yais.core.clock import monotonic
from yais.core.dispatcher import Dispatcher, current_dispatcher
from yais.core.future import Future
from yais.core.pool import Lease
from yais.core.timer import Timer
from yais.inference.homes import Home, Homes, Lent
from yais.inference.job import Job
from yais.inference.ordering import ResponseOrder, Turn
from yais.inference.rate_limiter import Permits
from yais.inference.runner import Runner
from yais.inference.scheduling.queue import Batch, BatchQueue, CloseReason, Refused, expired
from yais.inference.servable import ModelClosed
from yais.lane import Lane

__all__ = ["Scheduler"]


# How long a short batch waits for a thread that wants its answer before it is given to another, ns. Such
# threads come at once if they come at all, but a timer that is due slows them down while it waits for the
# interpreter's lock: `infer(...).get()` in a loop by 12 us a request if it is due every millisecond, by 1 us
# every 50. So the time is doubled while they come.
_SOONEST, _LATEST = 1_000_000, 50_000_000


class _Work(NamedTuple):
    """A batch, what it runs on, how long it waited for that (ns), and when its answers may leave."""

    batch: Batch[Job]
    lane: Lease[Lane]
    blocked: int
    turn: Turn | None


_Found = tuple[_Work | None, Sequence[Lease[Lane]], Sequence[Home]]
"""What was taken from the queue, lanes taken for nothing, and sites where one is to be waited for."""


class Scheduler:
    """Feeds a runner from a queue. Thread-safe.

    Parameters
    ----------
    queue
        Decides which jobs run together and when.
    runner
        Runs them, as many at once as it has instances, and knows the site of each: that lends a batch the
        threads and the memory to run with. A job that brings a lane along runs alone, on the site of that
        lane, and before those that need one: when it has run, its holder can give the lane back. If the
        lane is of no site of the model's, the job gets another one as any job does.
    timer
        Wakes the scheduler when a batch has waited long enough.
    orders
        For each instance, in which order the answers of its batches leave; empty for any.
    """

    def __init__(
        self,
        queue: BatchQueue[Job],
        runner: Runner,
        *,
        timer: Timer,
        orders: Sequence[ResponseOrder] = (),
    ) -> None:
        self._queue = queue
        self._placed: deque[Job] = deque()  # jobs that bring a lane along
        self._bundled = 0  # requests that wait in bundles, but for one of each
        self._runner = runner
        self._instances = len(runner.sites)
        self._free = list(range(self._instances))
        self._homes = Homes(runner.sites, bound=runner.stateful)
        # Threads of the user's may be anywhere, and where lanes have their CPUs that is wrong.
        helped = [site for site, device in zip(runner.sites, runner.on_device, strict=True) if not device]
        self._may_help = all(place.cpus is None for site in helped for place in site.lanes.places)
        self._timer = timer
        self._lock = threading.Lock()
        self._orders = orders
        self._permits: Sequence[Permits] = ()
        self._unanswered = 0  # batches taken whose answers are not out yet
        self._idle = threading.Condition(self._lock)
        self._flushing: set[Dispatcher] = set()  # those that will call `_flush`
        self._wake_at: int | None = None
        self._lacking: Sequence[int] = ()  # free instances that got no lane or no permits when last tried
        self._soon = False  # `_on_soon` is going to be called
        self._patience = _SOONEST
        self._closed = False

    def __repr__(self) -> str:
        busy = self._instances - len(self._free)
        return f"<Scheduler {self.pending} waiting, {busy} of {self._instances} instances busy>"

    @property
    def pending(self) -> int:
        """Jobs that wait."""
        return len(self._queue) + len(self._placed)

    @property
    def pending_requests(self) -> int:
        """Requests that wait: those of a bundle are one job."""
        return self.pending + self._bundled

    def limit(self, permits: Sequence[Permits]) -> None:
        """Let each instance run only with its permits. Before the first job.

        To be called by them: `granted`.
        """
        self._permits = permits

    def granted(self) -> None:
        """Note that permits are worth another try. Only notes it: may be called under any lock."""
        self._timer.call_at(monotonic(), self._on_granted)

    def submit(self, job: Job) -> bool:
        """Take a job, whose future is completed whatever happens; return False once closed.

        Raises
        ------
        YaisError
            The queue refuses it.
        """
        with self._lock:
            if self._closed:
                return False
            home = None if job.request.lane is None else self._homes.holding(job.request.lane)
            if home is None or self._homes.avoided(home):
                self._queue.push(job, job.queued)
                if job.request.bundle:
                    self._bundled += len(job.request.bundle) - 1
            else:
                self._placed.append(job)
            full = self._queue.full
            busy = not self._free
        dispatcher = current_dispatcher()
        if busy:  # whoever gives an instance back looks for what waits
            if dispatcher is not None and self._runner.pace.near(job.size):
                self._flush_later(dispatcher)
            if self._queue.expires:
                self._set_timer()
            return True
        if dispatcher is None and job.request.waits and self.pending == 1 and self._helps(job):
            job.future.offer(partial(self._help, job), self._dispatch)
            self._dispatch_soon()
        elif dispatcher is None:
            self._dispatch()
        elif full:
            self._flush()
        else:
            self._flush_later(dispatcher)
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
            self._bundled = 0
        error = ModelClosed("the model was unloaded while the request was queued")
        self._fail(Refused(job, error) for job in left)
        return False

    def at_rest(self) -> bool:
        """Whether nothing waits, and everything that has run is answered."""
        with self._lock:  # or a batch that is being taken would neither wait nor run
            return self._at_rest()

    def _at_rest(self) -> bool:
        # An instance is free before its answers are out.
        return not self.pending and not self._unanswered

    def _flush_later(self, dispatcher: Dispatcher) -> None:
        """Have `_flush` called on the dispatcher's thread, which this is, if it is not going to be."""
        if dispatcher not in self._flushing:
            self._flushing.add(dispatcher)
            dispatcher.when_drained(self._flush)

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
        if self._runner.pace.short(work.batch.size, len(work.batch.items)) and self._runner.run(*work):
            self._give_back(work.batch.instance)
            self._on_answered()
        else:
            self._runner.start(*work, self._on_executed, self._on_answered)

    def _dispatch(self, lent: Lent | None = None) -> None:
        """Start what is ready on the lanes' threads, with the lane that was waited for, if there is one."""
        while self.pending and (work := self._take(lent)) is not None:
            if lent is not None and work.lane is lent.lane:
                lent = None
            self._runner.start(*work, self._on_executed, self._on_answered)
        if lent is not None:
            lent.lane.release()
        self._set_timer()

    def _on_executed(self, instance: int) -> None:
        self._give_back(instance)
        if self.pending:
            # What is short goes back to the thread that takes requests, if that is going to look. Or else
            # one batch that was found to be long, as by a thread that was interrupted in it, would keep all
            # that follow from it for as long as something waits.
            if not (self._flushing and self._runner.pace.short(self.pending, self.pending)):
                self._dispatch()
        elif self._queue.expires:
            self._set_timer()

    def _give_back(self, instance: int) -> None:
        with self._lock:
            if self._permits:
                self._permits[instance].release(again=self.pending > 0)
            self._free.append(instance)
            if self._queue.expires:
                self._queue.released(instance, monotonic())

    def _on_answered(self) -> None:
        with self._lock:
            self._unanswered -= 1
            if self._closed and self._at_rest():
                self._idle.notify_all()

    def _take(self, lent: Lent | None = None) -> _Work | None:
        """Take a batch, and a lane (`lent` if it can be that) and an instance of a site: all or none."""
        work: _Work | None = None
        spare: Sequence[Lease[Lane]] = ()
        wanting: Sequence[Home] = ()
        now = monotonic()
        # In one step: taken apart, a job could be left behind with nobody to wake it.
        with self._lock:
            refused: Sequence[Refused[Job]] = self._bury_placed(now) if self._placed else ()
            if self._free and (self._placed or len(self._queue)):
                self._lacking = ()
                work, kept = self._take_placed() if self._placed else (None, ())
                if work is None and len(self._queue):
                    sole = None if kept else self._homes.sole
                    if sole is not None:
                        work, spare, wanting = self._take_at(sole, self._free, lent, now)
                    else:
                        work, spare, wanting = self._take_queued(lent, now, kept)
            if work is not None:
                self._free.remove(work.batch.instance)
                self._unanswered += 1
            if reaped := self._queue.reap(now):
                refused = [*refused, *reaped]
            if self._bundled:
                self._unbundle(() if work is None else work.batch.items)
                self._unbundle([each.item for each in reaped])
            if refused and self._closed and self._at_rest():
                self._idle.notify_all()
            if self._permits:
                self._let_go()
        # Outside of the lock: both may call back.
        for lane in spare:
            lane.release()
        for home in wanting:
            home.lanes.acquire_future().add_done_callback(partial(self._on_lane, home))
        if refused:
            self._fail(refused)
        return work

    def _unbundle(self, left: Sequence[Job]) -> None:
        """Note that jobs have left the queue."""
        self._bundled -= sum(len(job.request.bundle) - 1 for job in left if job.request.bundle)

    def _take_queued(self, lent: Lent | None, now: int, kept: Collection[Home]) -> _Found:
        """Take a batch from the queue for the first site that can run one, and is not kept for others."""
        spare: list[Lease[Lane]] = []
        wanting: list[Home] = []
        if avoided := self._homes.avoiding(self._free):
            self._lacking = (*self._lacking, *avoided)
        for home, free in self._homes.idle(self._free, lent):
            if home in kept:
                continue
            work, more, waiting = self._take_at(home, free, lent, now)
            if work is not None:
                return work, spare, wanting
            spare += more
            wanting += waiting
        return None, spare, wanting

    def _take_at(self, home: Home, free: Sequence[int], lent: Lent | None, now: int) -> _Found:
        """Take a batch from the queue for free instances of one site."""
        waited = lent is not None and lent.home is home
        lane = lent.lane if lent is not None and waited else home.lanes.try_acquire()
        if lane is None:
            self._lacking = (*self._lacking, *free)
            if home.blocked_since is not None:
                return None, (), ()
            home.blocked_since = now
            return None, (), (home,)
        batch = self._take_batch(now, free)
        if batch is None:
            return None, () if waited else (lane,), ()
        turn = self._orders[batch.instance].turn() if self._orders else None
        blocked = lent.blocked if lent is not None and waited else 0
        return _Work(batch, lane, blocked, turn), (), ()

    def _take_batch(self, now: int, free: Sequence[int]) -> Batch[Job] | None:
        if not self._permits:
            return self._queue.take(now, free)
        wanted = self._queue.startable(now, free)
        # What an instance has no use for now, others may need: the model's own among them.
        for instance in free:
            if instance not in wanted:
                self._permits[instance].release(ran=False)
        for instance in reversed(wanted):
            if not self._permits[instance].try_acquire():
                self._lacking = (*self._lacking, instance)
                continue
            batch = self._queue.take(now, [instance])
            if batch is not None:
                return batch
            self._permits[instance].release(ran=False)  # something was cancelled just now
        return None

    def _let_go(self) -> None:
        """Give back what was granted to instances, or is waited for, once there is nothing to run."""
        if not self.pending:
            for instance in self._free:
                self._permits[instance].release(ran=False)

    def _take_placed(self) -> tuple[_Work | None, Collection[Home]]:
        """Take the first job that brings its lane along and can run; else return the sites such jobs wait at.

        There their turn is the next, whatever waits in the queue.
        """
        kept: list[Home] = []
        for job in self._placed:
            home = self._homes.holding(job.request.lane)
            if home is None or home in kept:
                continue
            kept.append(home)
            for instance in reversed(self._free):
                if self._homes.of(instance) is not home:
                    continue
                if self._permits and not self._permits[instance].try_acquire():
                    self._lacking = (*self._lacking, instance)
                    continue
                self._placed.remove(job)
                held = cast("Lease[Lane]", _Held(cast("Lane", job.request.lane)))
                turn = self._orders[instance].turn() if self._orders else None
                return _Work(Batch((job,), job.size, CloseReason.INSTANCE, instance), held, 0, turn), ()
        return None, kept

    def _bury_placed(self, now: int) -> list[Refused[Job]]:
        dead = [job for job in self._placed if job.dead(now)]
        for job in dead:
            self._placed.remove(job)
        return [expired(job) for job in dead]

    def _on_granted(self) -> None:
        self._dispatch()
        with self._lock:
            self._let_go()

    def _on_lane(self, home: Home, lane: Future[Lease[Lane]]) -> None:
        with self._lock:
            since, home.blocked_since = home.blocked_since, None
            self._lacking = ()
        if lane.cancelled() or lane.exception(0) is not None:  # the lanes are closed: so is everything
            return
        self._dispatch(Lent(home, lane.result(0), monotonic() - (since or 0)))

    def _fail(self, refused: Iterable[Refused[Job]]) -> None:
        for job, error in refused:
            if job.future.set_running_or_notify_cancel():
                self._runner.fail(job, error)
            else:
                self._runner.record_cancelled(job)

    def _set_timer(self) -> None:
        if not (len(self._queue) or self._queue.expires):
            return
        with self._lock:
            lacking = self._lacking
            free = any(instance not in lacking for instance in self._free) if lacking else bool(self._free)
            when = self._queue.wake_at(free=free, lacking=lacking)
            if when is None or (self._wake_at is not None and self._wake_at <= when):
                return
            self._wake_at = when
        self._timer.call_at(when, partial(self._on_timer, when))

    def _dispatch_soon(self) -> None:
        """Start what is ready a moment later, if nobody has by then."""
        if not self._soon:
            self._soon = True
            self._timer.call_at(monotonic() + self._patience, self._on_soon)

    def _on_soon(self) -> None:
        self._soon = False  # before the look at the queue: what comes after that asks again
        self._patience = _SOONEST if self.pending else min(2 * self._patience, _LATEST)
        self._dispatch()

    def _on_timer(self, when: int) -> None:
        with self._lock:
            if self._wake_at != when:  # an earlier one came first, and has asked for another if need be
                return
            self._wake_at = None
            refused = self._queue.reap(monotonic())
            if self._bundled:
                self._unbundle([each.item for each in refused])
            if refused and self._closed and self._at_rest():
                self._idle.notify_all()
        self._fail(refused)
        self._dispatch()


class _Held:
    """A lane that a job brought along, in the place of a lease: its holder gives it back."""

    __slots__ = ("item",)

    def __init__(self, lane: Lane) -> None:
        self.item = lane

    def release(self) -> None:
        pass
