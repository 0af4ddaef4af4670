"""Named, pinned threads behind the standard executor interface."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import logging
import queue
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from yais.core.affinity import affinity
from yais.core.clock import Deadline
from yais.core.cpu_set import CpuSet
from yais.core.future import Future
from yais.errors import ResourceExhausted

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ThreadPool", "ThreadPoolStatistics", "name_thread"]

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


@dataclass(frozen=True, slots=True)
class ThreadPoolStatistics:
    """The state of a thread pool at one moment; `completed` counts cancelled calls too."""

    threads: int
    busy: int
    queued: int
    completed: int


class ThreadPool(concurrent.futures.Executor):
    """Runs calls on a fixed number of threads, in the order of submission.

    Thread-safe. The threads are daemons: a call that never returns cannot keep the process alive, and
    what is still queued when the interpreter exits is lost, so close the pool to finish its work. A pool
    that is not closed keeps its threads.

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
        if threads < 1 or (max_queue is not None and max_queue < 0):
            raise ValueError(
                f"thread pool {name!r}: got threads={threads}, max_queue={max_queue}, "
                "expected at least 1 thread and a queue of at least 0"
            )
        self.name = name
        self._limit = None if max_queue is None else threads + max_queue
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._submitted = 0
        self._completed = 0
        self._threads = [
            threading.Thread(target=self._work, args=(f"-{index}",), name=f"{name}-{index}", daemon=True)
            for index in range(threads)
        ]
        # A thread starts with the affinity of the one that starts it.
        with contextlib.nullcontext() if cpus is None else affinity(cpus):
            for thread in self._threads:
                thread.start()

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
        with self._lock:
            if self._closed:
                raise RuntimeError(f"{self!r} is shut down, expected an open one")
            if self._submitted - self._completed == self._limit:
                raise ResourceExhausted(f"{self!r}: no more calls may wait")
            self._submitted += 1
            self._calls.put((future, functools.partial(fn, *args, **kwargs)))
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
            self._calls.put(None)
        for future in waiting:
            future.cancel()
        if wait:
            for thread in self._threads:
                thread.join()

    def close(self, timeout: float) -> bool:
        """Finish what is queued within `timeout` seconds; return whether all threads have ended."""
        self.shutdown(wait=False)
        deadline = Deadline.after(timeout)
        for thread in self._threads:
            thread.join(deadline.remaining())
        return not any(thread.is_alive() for thread in self._threads)

    def statistics(self) -> ThreadPoolStatistics:
        """Return the numbers of now. A call counts as busy as soon as a thread is free for it."""
        completed = self._completed
        unfinished = self._submitted - completed
        threads = len(self._threads)
        return ThreadPoolStatistics(
            threads, min(unfinished, threads), max(0, unfinished - threads), completed
        )

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<ThreadPool {self.name}: {now.busy} of {now.threads} threads busy, {now.queued} queued>"

    def _take_waiting(self) -> list[Future[Any]]:
        waiting = []
        with contextlib.suppress(queue.Empty):
            while True:
                if (call := self._calls.get_nowait()) is not None:
                    waiting.append(call[0])
        self._completed += len(waiting)
        return waiting

    def _work(self, suffix: str) -> None:
        name_thread(self.name, suffix)
        while (call := self._calls.get()) is not None:
            try:
                self._perform(*call)
            except BaseException:
                _logger.exception("%r: a callback of a future raised", self)
            del call  # An idle thread keeps nothing alive.
        self._calls.put(None)  # For the next thread.

    def _perform(self, future: Future[T], fn: Callable[[], T]) -> None:
        if not future.set_running_or_notify_cancel():
            self._count()
            return
        try:
            result = fn()
        except BaseException as error:
            self._count()
            future.set_exception(error)
            del future  # The error refers to this frame, which must not refer back to the error.
        else:
            self._count()
            future.set_result(result)

    def _count(self) -> None:
        # Before the future is done, so that who waits for it finds its place in the queue free.
        with self._lock:
            self._completed += 1
