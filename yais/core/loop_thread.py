"""An asyncio loop on a thread of its own: where coroutines run that others wait for."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from yais.core.future import Future
from yais.core.thread_pool import name_thread
from yais.errors import Unavailable

__all__ = ["LoopThread"]

_log = logging.getLogger("yais.core")


class LoopThread:
    """An asyncio event loop on a thread of its own, started when the first coroutine is given to it.

    It is uvloop's where that is installed (`pip install 'yais[uvloop]'`).
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._ending = False

    @property
    def on_thread(self) -> bool:
        """Whether the caller is the loop's own thread."""
        return threading.current_thread() is self._thread

    def call_soon(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function on the loop's thread, in the order of these calls; not at all once it is closed."""
        with self._lock:
            if not self._closed:
                self._running_loop().call_soon_threadsafe(function, *arguments)

    def spawn(self, awaitable: Awaitable[Any], variables: contextvars.Context | None = None) -> Future[Any]:
        """Await something, with the given context variables. From any thread.

        Cancelling the future cancels the task that awaits; the future is done when that task is, after
        whatever the coroutine does about its cancellation. A coroutine always runs to its first `await`.

        Raises
        ------
        Unavailable
            The loop is closed.
        """
        with self._lock:
            if self._closed:
                if inspect.iscoroutine(awaitable):
                    awaitable.close()
                raise Unavailable("the server has stopped")
            loop = self._running_loop()
            future = _TaskFuture(loop, variables)
            loop.call_soon_threadsafe(future.start, awaitable)
            return future

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = _new_loop()
            self._thread = threading.Thread(
                target=self._run, args=(self._loop,), name=self._name, daemon=True
            )
            self._thread.start()
        return self._loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        name_thread(self._name)
        asyncio.set_event_loop(loop)
        while not self._ending:
            try:
                loop.run_forever()
            except BaseException:  # a task of user code's own that exits ends no RPC
                _log.exception("unexpected error on the loop %s", self._name)
        loop.run_until_complete(_end_tasks())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    def close(self, timeout: float) -> bool:
        """Cancel what still runs and end the thread; return whether it ended within `timeout` seconds."""
        with self._lock:
            first, self._closed = not self._closed, True
            if self._loop is None or self._thread is None:
                return True
            if first:  # a second one would interrupt what the first began
                self._loop.call_soon_threadsafe(self._end, self._loop)
            thread = self._thread
        thread.join(timeout)
        return not thread.is_alive()

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        # Noted on the thread, which may not run the loop yet when `close` is called: what it runs next would
        # be stopped instead.
        self._ending = True
        loop.stop()


class _TaskFuture(Future[Any]):
    """The outcome of an awaitable on a loop. It is running from the start: `cancel` only asks."""

    def __init__(self, loop: asyncio.AbstractEventLoop, variables: contextvars.Context | None) -> None:
        super().__init__()
        self.set_running_or_notify_cancel()
        self._loop = loop
        self._variables = variables
        self._task: asyncio.Task[None] | None = None

    def start(self, awaitable: Awaitable[Any]) -> None:
        """Begin to await; on the loop's thread."""
        self._task = self._loop.create_task(self._drive(awaitable), context=self._variables)

    async def _drive(self, awaitable: Awaitable[Any]) -> None:
        try:
            result = await awaitable
        except BaseException as error:  # SystemExit, too: asyncio would let it end the loop
            self.set_exception(error)
        else:
            self.set_result(result)

    def cancel(self) -> bool:
        """Cancel the task, if it still runs; False, since it may take its time."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and with it the task done
            # Once more by way of the loop: behind the task's first step, without which the coroutine
            # would go unawaited.
            self._loop.call_soon_threadsafe(self._loop.call_soon, self._cancel)
        return False

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _end_tasks() -> None:
    await asyncio.sleep(0)  # the first steps of what was spawned last
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
