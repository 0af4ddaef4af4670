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

_AHEAD = 4
"""Requests that are read before they are asked for: fewer cost a hop between threads for each (measured)."""


class RequestIterator(AsyncIterator[RequestT], Generic[RequestT]):
    """Takes requests on the executor's thread and gives them on the loop's, a few ahead.

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
        self._waiting = 0  # requests that were given and not taken
        self._room: Future[None] | None = None

    def put(self, request: RequestT) -> Future[None] | None:
        """Give the next request; what is returned, if anything, is done when there is room for another."""
        room: Future[None] | None = None
        with self._lock:
            if self._closed:
                return None
            self._waiting += 1
            if self._waiting >= _AHEAD:
                room = self._room = Future()
        self._schedule(self._queue.put_nowait, request)
        return room

    def end(self) -> None:
        """Say that there are no more. From any thread."""
        if not self._closed:
            self._schedule(self._queue.put_nowait, _END)

    def close(self) -> None:
        """Take no more: whoever read has ended. From any thread."""
        with self._lock:
            self._closed = True
        self._make_room()

    async def __anext__(self) -> RequestT:
        """Wait for the next request."""
        request = await self._queue.get()
        if request is _END:
            self._queue.put_nowait(_END)  # for whoever asks again
            raise StopAsyncIteration
        with self._lock:
            self._waiting -= 1
        self._make_room()
        return request  # type: ignore[no-any-return]

    def _make_room(self) -> None:
        with self._lock:
            room, self._room = self._room, None
        if room is not None:
            with contextlib.suppress(concurrent.futures.InvalidStateError):  # cancelled with the call
                room.set_result(None)
