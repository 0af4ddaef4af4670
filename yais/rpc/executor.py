"""Executors: the threads that take events from completion queues and run what these are about.

One executor thread owns one completion queue; everything that happens on the queue happens on the
thread, one event after another, so the state of a call that never leaves the thread needs no lock.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from yais.core.affinity import affinity
from yais.core.cpu_set import CpuSet
from yais.core.dispatcher import set_current_dispatcher
from yais.core.thread_pool import name_thread
from yais.rpc.completion_queue import CompletionQueue

__all__ = ["Executor"]

_log = logging.getLogger("yais.rpc")

# Events handled before `when_drained` callbacks run although the queue is not empty, so that a stream of
# other calls cannot hold a batch back: at some 10 us an event, about 5 ms. Our estimate.
_BUSY_LIMIT = 512

# Core reads the sockets only when the queue that is polled is empty, which that of a fast stream never is:
# cancellations and new calls would go unread for seconds. After so many events another queue is polled, which
# is empty, and core reads the sockets (its epoll engine has one set of them for all queues). Our estimate.
_SOCKETS_AFTER = 64

# The queue counts as empty after so many polls without an event. Each reads a single socket, and what it
# reads need not be a call but a window update, say, while calls wait in other sockets: eight clients of one
# call each came to batches of 1.0 with one poll, of 7.7 with two, and more brought nothing that could be
# measured (benchmarks/README.md).
_EMPTY_POLLS = 2

# Seconds until `after_a_while` calls. Most calls are answered sooner, and need not be watched then; who
# cancels one that takes longer does not wait for it. Our estimate.
_A_WHILE = 0.005


class Executor:
    """A thread and its completion queue; also the `Dispatcher` of that thread.

    Parameters
    ----------
    name
        Name of the OS thread; the kernel keeps 15 bytes of it.
    cpus
        Those the thread may run on; without, those of the thread that calls `start`.
    on_end
        Called on the thread when it has nothing left to do; `ended` is True then.

    Notes
    -----
    `occupy` and `vacate` count what may still start an operation on the queue: armed contexts, calls in
    flight, the server's own shutdown. When draining has begun and the count is zero, the queue is shut
    down and the thread ends. Both are called on the executor's thread once it runs, so draining must have
    begun before the event that brings the count to zero: nothing wakes a thread that waits for another.
    """

    def __init__(
        self, name: str, *, cpus: CpuSet | None = None, on_end: Callable[[], None] | None = None
    ) -> None:
        self.name = name
        self.cpus = cpus
        self.ended = False
        self.queue = CompletionQueue()
        self._sockets = CompletionQueue()  # always empty: see _SOCKETS_AFTER
        self._on_end = on_end
        self._occupants = 0
        self._draining = False
        self._drained: list[Callable[[], None]] = []
        self._later: deque[tuple[float, Callable[[], None]]] = deque()  # and when they are due
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __repr__(self) -> str:
        state = "running" if self._thread.is_alive() else "not running"
        return f"<Executor {self.name}: {state}, {self._occupants} in use>"

    def start(self) -> None:
        """Start the thread. What is armed on the queue before is handled then."""
        # A thread starts with the affinity of the one that starts it.
        with contextlib.nullcontext() if self.cpus is None else affinity(self.cpus):
            self._thread.start()

    def join(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the thread to end; return whether it has."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def drain(self) -> None:
        """Let the thread end when nothing occupies the queue any more. From any thread."""
        self._draining = True

    def occupy(self) -> None:
        """Count one more user of the queue."""
        self._occupants += 1

    def vacate(self) -> None:
        """Count one user of the queue less."""
        self._occupants -= 1

    def when_drained(self, callback: Callable[[], None]) -> None:
        """See `yais.core.dispatcher.Dispatcher`."""
        self._drained.append(callback)

    def after_a_while(self, callback: Callable[[], None]) -> None:
        """Call a function on the thread some milliseconds from now. On the thread; it must not block."""
        self._later.append((time.monotonic() + _A_WHILE, callback))

    def _run(self) -> None:
        name_thread(self.name)
        set_current_dispatcher(self)
        poll = self.queue.poll
        busy = empty = events = 0
        while True:
            events += 1
            if events == _SOCKETS_AFTER:
                events = 0
                self._sockets.poll(0.0)
            if self._drained:
                busy += 1
                if busy < _BUSY_LIMIT and empty < _EMPTY_POLLS:
                    empty = 0 if self._handle(poll, 0.0) else empty + 1
                    continue
                busy = empty = 0
                self._run_drained()
            elif self._draining and not self._occupants:
                break
            else:
                self._handle(poll, self._run_due() if self._later else None)
        for queue in (self.queue, self._sockets):
            queue.shutdown()
            while not queue.closed:
                self._handle(queue.poll, None)
        set_current_dispatcher(None)
        self.ended = True
        if self._on_end is not None:
            self._on_end()

    def _handle(self, poll: Callable[[float | None], bool], timeout: float | None) -> bool:
        try:
            return poll(timeout)
        except BaseException:
            # Handlers translate what user code raises; this is a fault of ours, and ends no other call.
            _log.exception("unexpected error on executor %s", self.name)
            return True

    def _run_drained(self) -> None:
        callbacks, self._drained = self._drained, []
        for callback in callbacks:
            self._call(callback)

    def _run_due(self) -> float | None:
        """Call what is due of `after_a_while`; return in how many seconds the next is."""
        now = time.monotonic()
        while self._later:
            due, callback = self._later[0]
            if due > now:
                return due - now
            self._later.popleft()
            self._call(callback)
        return None

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except BaseException:
            _log.exception("unexpected error in a callback of executor %s", self.name)
