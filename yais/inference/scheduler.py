"""The shell around a scheduler's state machine: locks, threads, timers.

Batches form only when an instance of the model is free, and grow while none is. Where they run follows
from the caller's thread and from how long they take: see `yais.core.dispatcher` and `Pace`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from yais.core.clock import monotonic
from yais.core.dispatcher import Dispatcher, current_dispatcher
from yais.core.timer import Timer
from yais.errors import DeadlineExceeded, Unavailable, YaisError
from yais.inference.job import Job
from yais.inference.runner import Runner
from yais.inference.scheduling.queue import Batch, BatchQueue

__all__ = ["Scheduler"]


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
    timer
        Wakes the scheduler when a batch has waited long enough.
    """

    def __init__(self, queue: BatchQueue[Job], runner: Runner, *, instances: int, timer: Timer) -> None:
        self._queue = queue
        self._runner = runner
        self._timer = timer
        self._lock = threading.Lock()
        self._free = instances
        self._instances = instances
        self._idle = threading.Condition(self._lock)
        self._flushing: set[Dispatcher] = set()  # those that will call `_flush`
        self._wake_at: int | None = None
        self._closed = False

    def __repr__(self) -> str:
        busy = self._instances - self._free
        return f"<Scheduler {self.pending} waiting, {busy} of {self._instances} instances busy>"

    @property
    def pending(self) -> int:
        """Jobs that wait."""
        return len(self._queue)

    def submit(self, job: Job) -> bool:
        """Take a job, whose future is completed whatever happens; return False once closed."""
        with self._lock:
            if self._closed:
                return False
            self._queue.push(job)
            full = self._queue.full
        dispatcher = current_dispatcher()
        if dispatcher is None:
            self._dispatch()
        elif full:
            self._flush()
        elif dispatcher not in self._flushing:
            self._flushing.add(dispatcher)
            dispatcher.when_drained(self._flush)
        return True

    def close(self, timeout: float) -> bool:
        """Take no more jobs, and wait until none waits or runs.

        Return whether that was so within `timeout` seconds; if not, what still waits fails with Unavailable.
        """
        with self._lock:
            self._closed = True
            self._queue.hurry()
        self._dispatch()
        with self._idle:
            if self._idle.wait_for(self._at_rest, timeout):
                return True
            left = self._queue.clear()
        self._fail(left, Unavailable, "the model was unloaded while the request was queued")
        return False

    def _at_rest(self) -> bool:
        return not len(self._queue) and self._free == self._instances

    def _flush(self) -> None:
        """Run what is ready, on this thread if it is short. Only on a dispatcher's thread."""
        self._flushing.discard(current_dispatcher())
        while len(self._queue) and (batch := self._take()) is not None:
            if self._runner.pace.short(batch.size):
                self._runner.run(batch)
                self._give_back()
            else:
                self._runner.start(batch, self._on_executed)
        self._set_timer()

    def _dispatch(self) -> None:
        """Start what is ready on the lane's threads."""
        while len(self._queue) and (batch := self._take()) is not None:
            self._runner.start(batch, self._on_executed)
        self._set_timer()

    def _on_executed(self) -> None:
        self._give_back()
        if len(self._queue):
            self._dispatch()

    def _give_back(self) -> None:
        with self._lock:
            self._free += 1
            if self._free == self._instances:
                self._idle.notify_all()

    def _take(self) -> Batch[Job] | None:
        # Instance and batch in one step: taken apart, a job could be left behind with nobody to wake it.
        with self._lock:
            batch = self._queue.take(monotonic()) if self._free else None
            if batch is not None:
                self._free -= 1
            dead = self._queue.reap()
            if dead and self._at_rest():
                self._idle.notify_all()
        if dead:
            self._fail(dead, DeadlineExceeded, "the deadline passed while the request was queued")
        return batch

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

    def _on_timer(self) -> None:
        with self._lock:
            self._wake_at = None
        self._dispatch()
