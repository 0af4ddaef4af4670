"""Responses of a decoupled model on their way to the loop's thread."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

from yais.core.future import Future
from yais.errors import Cancelled, DeadlineExceeded
from yais.inference.request import InferResponse

__all__ = ["ResponseQueue"]

_AHEAD = 16
"""Responses that wait for their reader before the model has to; a guess."""

_PATIENCE = 60.0
"""Seconds that a model waits for a reader who takes none, before it is stopped."""


class ResponseQueue:
    """The responses to one request; made, taken and closed on the thread of an asyncio loop.

    The model is at most 16 responses ahead. If nobody takes one for 60 seconds it is stopped, and the queue
    ends with DeadlineExceeded.

    Parameters
    ----------
    patience
        Other seconds than these.

    Attributes
    ----------
    on_close
        Called when it is closed.
    """

    def __init__(self, patience: float = _PATIENCE) -> None:
        self.on_close: Callable[[], object] | None = None
        self._loop = asyncio.get_running_loop()
        self._patience = patience
        self._room = threading.Semaphore(_AHEAD)
        self._arrived: asyncio.Queue[InferResponse | BaseException | None] = asyncio.Queue()
        self._done: Future[InferResponse] | None = None
        self._closed = False
        self._late = False

    def follow(self, done: Future[InferResponse]) -> None:
        """Say what is complete when no more responses come; its own counts if it has outputs."""
        self._done = done
        done.add_done_callback(self._end)

    def put(self, response: InferResponse) -> bool:
        """Add a response, waiting for room; return whether more are wanted. On the model's thread."""
        if not self._closed and not self._room.acquire(timeout=self._patience):
            self._late = True
        return not self._late and not self._closed and self._arrive(response)

    async def take(self) -> InferResponse | None:
        """Return the next response, or None at the end; raise what the model raised."""
        arrived = await self._arrived.get()
        if isinstance(arrived, BaseException):
            raise arrived
        self._room.release()
        return arrived

    def close(self) -> None:
        """Want no more: a request that waits is cancelled, a model that runs ends. Idempotent."""
        self._closed = True
        self._room.release(_AHEAD)
        if self._done is not None:
            self._done.cancel()
        on_close, self.on_close = self.on_close, None
        if on_close is not None:
            on_close()

    def _end(self, done: Future[InferResponse]) -> None:
        if self._closed:
            return
        error = Cancelled("the request was cancelled") if done.cancelled() else done.exception(0)
        if self._late:
            error = DeadlineExceeded(
                f"no response was taken for {self._patience} s, and the model was stopped"
            )
        if error is None and (last := done.result(0)).data:
            self._arrive(last)
        self._arrive(error)

    def _arrive(self, item: InferResponse | BaseException | None) -> bool:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server has stopped
            self._loop.call_soon_threadsafe(self._arrived.put_nowait, item)
            return True
        return False
