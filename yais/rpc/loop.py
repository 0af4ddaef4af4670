"""The asyncio loop on which a server runs coroutine contexts."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable
from typing import Any

__all__ = ["LoopThread"]


class LoopThread:
    """An asyncio event loop on a thread of its own, started when the first coroutine is given to it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def spawn(self, awaitable: Awaitable[Any]) -> concurrent.futures.Future[Any]:
        """Await something; cancelling the future cancels it. From any thread."""
        return asyncio.run_coroutine_threadsafe(_result(awaitable), self._running_loop())

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            return self._loop

    def _run(self) -> None:
        assert self._loop is not None
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def close(self, timeout: float) -> bool:
        """Cancel what still runs and end the thread; return whether it ended within `timeout` seconds."""
        with self._lock:
            if self._loop is None or self._thread is None:
                return True
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread = self._thread
        thread.join(timeout)
        return not thread.is_alive()


async def _result(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
