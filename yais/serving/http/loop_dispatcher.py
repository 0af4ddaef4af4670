"""The thread of an asyncio loop as a dispatcher: short batches run on it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

from yais.core.future import Future

__all__ = ["LoopDispatcher"]

T = TypeVar("T")


class LoopDispatcher:
    """Runs work when a loop has handled what came in, and waits for futures on it.

    A `yais.core.dispatcher.Dispatcher`. Made and used on the loop's own thread.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._done: list[asyncio.Future[None]] = []  # waiters whose futures other threads completed

    def when_drained(self, callback: Callable[[], None]) -> None:
        """Call a function once everything that arrived with the present request has been handled."""
        self._loop.call_soon(callback)

    async def wait(self, future: Future[T]) -> T:
        """Return the result of a future.

        A future that is completed on this very thread resumes its waiter without waking the loop, and those
        that another thread completes together wake it once. Cancelling the task that waits cancels the
        future.
        """
        if not future.done():
            waiter = self._loop.create_future()
            future.add_done_callback(lambda _: self._completed(waiter))
            try:
                await waiter
            except asyncio.CancelledError:
                future.cancel()
                raise
        return future.result(0)

    def _completed(self, waiter: asyncio.Future[None]) -> None:
        if threading.get_ident() == self._thread:
            _resume(waiter)
            return
        with self._lock:
            self._done.append(waiter)
            first = len(self._done) == 1
        if first:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._resume_all)

    def _resume_all(self) -> None:
        with self._lock:
            done, self._done = self._done, []
        for waiter in done:
            _resume(waiter)


def _resume(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
