"""Named, pinned threads behind the standard executor interface."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from yais.core.affinity import affinity
from yais.core.clock import NANOSECONDS, Deadline, monotonic
from yais.core.cpu_set import CpuSet
from yais.core.future import Future
from yais.errors import ResourceExhausted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["ThreadPool", "ThreadPoolStatistics", "name_thread", "wake_on_time"]

P = ParamSpec("P")
T = TypeVar("T")

_logger = logging.getLogger("yais.thread_pool")

_COMM = 15
"""Bytes of a thread's name that Linux keeps: TASK_COMM_LEN less the final zero (proc(5))."""


def name_thread(name: str, suffix: str = "") -> None:
    """Name the calling thread for `top`, `perf` and debuggers, shortening `name` but not `suffix`.

    Without a writable `/proc` nothing happens.
    """
    end = suffix.encode()
    comm = name.encode()[: _COMM - len(end)].decode(errors="ignore").encode() + end
    with contextlib.suppress(OSError):
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_bytes(comm)


def wake_on_time() -> None:
    """Have the calling thread woken when its sleep is over.

    By default Linux wakes a sleeper up to 50 µs late, to wake several at once (prctl(2)). Without a writable
    `/proc` nothing happens.
    """
    with contextlib.suppress(OSError):
        Path(f"/proc/{threading.get_native_id()}/timerslack_ns").write_text("1")


@dataclass(frozen=True, slots=True)
class ThreadPoolStatistics:
    """The numbers of a thread pool.

    Attributes
    ----------
    threads
        How many there are.
    busy
        Calls that have a thread, or a free thread on its way to them.
    queued
        Calls that wait for a thread.
    completed
        Calls that are over, those that failed or were cancelled included.
    failed
        Calls that raised.
    wait_seconds_total
        How long the calls that ran and are over had waited, from their submission to their start.
    busy_seconds_total
        How long they ran, all together.
    """

    threads: int
    busy: int
    queued: int
    completed: int
    failed: int
    wait_seconds_total: float
    busy_seconds_total: float


_Call = tuple[Future[Any], "Callable[..., Any]", tuple[Any, ...], dict[str, Any], int]
"""What to complete, what to call and with what, and when it was submitted."""


class _Worker:
    """What one thread has done. Written by that thread only, so without a lock."""

    __slots__ = ("awake", "completed", "failed", "waited", "worked")

    def __init__(self) -> None:
        self.awake = threading.Lock()  # Released by who takes it off the list of the idle.
        self.awake.acquire()
        self.completed = 0
        self.failed = 0
        self.waited = 0
        self.worked = 0

    def perform(
        self,
        future: Future[Any],
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        submitted: int,
    ) -> None:
        if not future.set_running_or_notify_cancel():
            self.completed += 1
            return
        started = monotonic()
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            self.failed += 1
            self._count(submitted, started)
            future.set_exception(error)
            del future  # The error refers to this frame, which must not refer back to the error.
        else:
            self._count(submitted, started)
            future.set_result(result)

    def _count(self, submitted: int, started: int) -> None:
        # Before the future is done, so that who waits for it finds its place in the queue free.
        self.waited += started - submitted
        self.worked += monotonic() - started
        self.completed += 1


class ThreadPool(concurrent.futures.ThreadPoolExecutor):
    """Runs calls on a fixed number of threads, in the order of submission.

    Thread-safe. The threads are daemons: a call that never returns cannot keep the process alive, and
    what is still queued when the interpreter exits is lost, so close the pool to finish its work. A pool
    that is not closed keeps its threads.

    It shares nothing with the standard class but the interface, and is one only because asyncio takes
    nothing else as the default executor of a loop.

    Parameters
    ----------
    threads
        How many, at least one. All start at once.
    name
        Thread names are this and an index; Linux sees 15 bytes, the index always among them.
    cpus
        The CPUs that all the threads share, as in "0-3,8". By default they may use those of the thread
        that makes the pool.
    max_queue
        How many calls may wait for a thread; without it any number. A cancelled call keeps its place
        until its turn comes.

    Raises
    ------
    ValueError
        A number is too small, or `cpus` is not allowed (`set_affinity`).
    """

    def __init__(
        self, threads: int, *, name: str, cpus: CpuSet | str | None = None, max_queue: int | None = None
    ) -> None:
        # Not calling the base, here and below: it would build what is not used.
        self._start(threads, [None if cpus is None else CpuSet(cpus)] * threads, name, max_queue)

    @classmethod
    def per_cpu(cls, cpus: CpuSet | str, *, name: str, max_queue: int | None = None) -> Self:
        """Return a pool with one thread for each of the CPUs, which stays there.

        Raises
        ------
        ValueError
            `cpus` is empty or not allowed (`set_affinity`), or `max_queue` is below 0.
        """
        places = [CpuSet([cpu]) for cpu in (CpuSet(cpus) if isinstance(cpus, str) else cpus)]
        pool = cls.__new__(cls)
        pool._start(len(places), places, name, max_queue)
        return pool

    def _start(self, threads: int, places: Sequence[CpuSet | None], name: str, max_queue: int | None) -> None:
        if threads < 1 or (max_queue is not None and max_queue < 0):
            raise ValueError(
                f"thread pool {name!r}: got threads={threads}, max_queue={max_queue}, "
                "expected at least 1 thread and a queue of at least 0"
            )
        self.name = name
        self._limit = None if max_queue is None else threads + max_queue
        self._calls: collections.deque[_Call] = collections.deque()
        # What wakes the workers that have nothing to do. The last to come is woken first: its caches are
        # warm, and the others sleep on.
        self._idle: list[threading.Lock] = []
        self._lock = threading.Lock()
        self._closed = False
        self._submitted = 0
        self._discarded = 0
        self._workers = [_Worker() for _ in places]
        self._started: list[threading.Thread] = []
        try:
            for index, (worker, cpus) in enumerate(zip(self._workers, places, strict=True)):
                thread = threading.Thread(
                    target=self._work, args=(worker, f"-{index}"), name=f"{name}-{index}", daemon=True
                )
                # A thread starts with the affinity of the one that starts it.
                with contextlib.nullcontext() if cpus is None else affinity(cpus):
                    thread.start()
                self._started.append(thread)
        except BaseException:
            self.shutdown()
            raise

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queue `fn(*args, **kwargs)` and return the future of what it returns or raises.

        Cancelling the future before a thread takes it up prevents the call.

        Raises
        ------
        ResourceExhausted
            `max_queue` calls wait already.
        RuntimeError
            The pool is shut down.
        """
        future: Future[T] = Future()
        call = (future, fn, args, kwargs, monotonic())
        with self._lock:
            if self._closed:
                raise RuntimeError(f"{self!r} is shut down, expected an open one")
            if self._limit is not None and self._submitted - self._completed() == self._limit:
                raise ResourceExhausted(f"{self!r}: no more calls may wait")
            self._submitted += 1
            self._calls.append(call)
        if self._idle:
            self._wake_one()
        return future

    def shutdown(
        self,
        wait: bool = True,
        *,
        cancel_futures: bool = False,
    ) -> None:
        """Take no more calls; `cancel_futures` cancels those still waiting for a thread.

        With `wait` it returns once all threads have ended, however long that takes: `close` has a limit.
        """
        waiting: list[Future[Any]] = []
        with self._lock:
            self._closed = True
            if cancel_futures:
                waiting = self._take_waiting()
        while self._wake_one():
            pass
        for future in waiting:
            future.cancel()
        if wait:
            for thread in self._started:
                thread.join()

    def close(self, timeout: float, *, discard: bool = False) -> bool:
        """Finish what is queued within `timeout` seconds; return whether all threads have ended.

        `discard` cancels what waits for a thread, so that only what runs is finished. After False the
        threads go on with what is left; call it again to wait longer, or to discard that.
        """
        self.shutdown(wait=False, cancel_futures=discard)
        deadline = Deadline.after(timeout)
        for thread in self._started:
            thread.join(deadline.remaining())
        return not any(thread.is_alive() for thread in self._started)

    def statistics(self) -> ThreadPoolStatistics:
        """Return the numbers of now. Not a snapshot: calls may come and go between two of them."""
        completed = self._completed()
        unfinished = self._submitted - completed
        threads = len(self._workers)
        return ThreadPoolStatistics(
            threads=threads,
            busy=min(unfinished, threads),
            queued=max(0, unfinished - threads),
            completed=completed,
            failed=sum(worker.failed for worker in self._workers),
            wait_seconds_total=sum(worker.waited for worker in self._workers) / NANOSECONDS,
            busy_seconds_total=sum(worker.worked for worker in self._workers) / NANOSECONDS,
        )

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<ThreadPool {self.name}: {now.busy} of {now.threads} threads busy, {now.queued} queued>"

    def _completed(self) -> int:
        return self._discarded + sum([worker.completed for worker in self._workers])

    def _take_waiting(self) -> list[Future[Any]]:
        waiting = []
        with contextlib.suppress(IndexError):
            while True:
                waiting.append(self._calls.popleft()[0])
        self._discarded += len(waiting)
        return waiting

    def _wake_one(self) -> bool:
        try:
            awake = self._idle.pop()
        except IndexError:
            return False
        awake.release()
        return True

    def _work(self, worker: _Worker, suffix: str) -> None:
        name_thread(self.name, suffix)
        calls = self._calls
        while True:
            try:
                call = calls.popleft()
            except IndexError:
                if not self._closed:
                    self._rest(worker)
                elif not calls:  # Looked at once more: nothing comes to a closed pool.
                    return
                continue
            try:
                worker.perform(*call)
            except BaseException:
                _logger.exception("%r: a call's future was completed by somebody else", self)
            del call  # An idle thread keeps nothing alive.

    def _rest(self, worker: _Worker) -> None:
        self._idle.append(worker.awake)
        # Who submits first queues the call and then looks for somebody idle; here it is the other way
        # round, so that one of the two sees the other.
        if self._calls or self._closed:
            with contextlib.suppress(ValueError):  # Not idle any more: somebody is about to wake it.
                self._idle.remove(worker.awake)
                return
        worker.awake.acquire()
