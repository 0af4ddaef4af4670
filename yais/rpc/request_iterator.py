"""The requests of a stream, as asyncio code takes them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, TypeVar

from yais.core.future import Future

__all__ = ["RequestIterator"]

RequestT = TypeVar("RequestT")

_END: Any = object()


class RequestIterator(AsyncIterator[RequestT], Generic[RequestT]):
    """Takes requests on the executor's thread and gives them on the loop's, one ahead.

    Parameters
    ----------
    schedule
        Calls a function on the loop, in order.
    """

    def __init__(self, schedule: Callable[..., None]) -> None:
        self._schedule = schedule
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self._lock = threading.Lock()
        self._closed = False
        self._taken: Future[None] | None = None

    def put(self, request: RequestT) -> Future[None]:
        """Give the next request; the future is done when it was taken, or when nobody will."""
        taken: Future[None] = Future()
        with self._lock:
            if self._closed:
                taken.set_result(None)
                return taken
            self._taken = taken
        self._schedule(self._queue.put_nowait, request)
        return taken

    def end(self) -> None:
        """Say that there are no more. From any thread."""
        if not self._closed:
            self._schedule(self._queue.put_nowait, _END)

    def close(self) -> None:
        """Take no more: whoever read has ended. From any thread."""
        with self._lock:
            self._closed = True
        self._take()

    async def __anext__(self) -> RequestT:
        """Wait for the next request."""
        request = await self._queue.get()
        if request is _END:
            self._queue.put_nowait(_END)  # for whoever asks again
            raise StopAsyncIteration
        self._take()
        return request  # type: ignore[no-any-return]

    def _take(self) -> None:
        with self._lock:
            taken, self._taken = self._taken, None
        if taken is not None:
            with contextlib.suppress(concurrent.futures.InvalidStateError):  # cancelled with the call
                taken.set_result(None)
