"""Completions: threads that turn events into finished futures."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

from yais.core.future import Future
from yais.core.thread_pool import name_thread

if TYPE_CHECKING:
    from yais.memory.cuda.event import CudaEvent

__all__ = ["Completions"]

_Queue = queue.SimpleQueue["tuple[CudaEvent, Future[None]] | None"]


class Completions:
    """Finishes the futures of one stream in their order, on a thread that starts with the first. Thread-safe.

    The thread sleeps in CUDA without the interpreter's lock. It is a daemon.

    Parameters
    ----------
    name
        Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: _Queue = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, event: CudaEvent) -> Future[None]:
        """Return a future that is done once the event has come, or has the error that came instead."""
        future: Future[None] = Future()
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=_finish, args=(self._queue, self._name), name=self._name, daemon=True
                )
                self._thread.start()
        self._queue.put((event, future))
        return future

    def end(self) -> None:
        """Let the thread end after what is queued. Waits for no lock: a garbage collector may call it."""
        self._queue.put(None)

    def join(self, timeout: float | None) -> bool:
        """Wait up to `timeout` seconds for the thread to end, unless it is this one; whether it has."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(timeout)
        return not thread.is_alive()


def _finish(waiting: _Queue, name: str) -> None:
    name_thread(name)
    while (item := waiting.get()) is not None:
        event, future = item
        error: BaseException | None = None
        try:
            event.sync()
        except BaseException as raised:
            error = raised
        # Whoever cancelled it knows; the work on the device is not undone by that.
        if future.set_running_or_notify_cancel():
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
        del item, event, future, error  # an idle thread keeps no event from its next use
