"""Response streams: the answers of a decoupled model, as they come."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Self

from yais.core.future import Future
from yais.errors import DeadlineExceeded
from yais.infer_runner import Array
from yais.inference.request import InferResponse, Respond

__all__ = ["ResponseStream"]

_AHEAD = 16
"""A guess."""

_TIMEOUT = 60.0
"""Seconds that a model waits for its responses to be taken, and a taker for the next one, by default."""


class ResponseStream(Iterator[dict[str, Array]], AsyncIterator[dict[str, Array]]):
    """An iterator of a model's responses, each a dict of arrays by output name. Thread-safe.

    The model is at most `ahead` responses ahead. If nobody takes one for 60 seconds it is stopped, and the
    stream ends with DeadlineExceeded. That, or an error of the model, is raised after the responses that
    came before it.

    Parameters
    ----------
    arrays
        Returns the outputs of a response.
    timeout
        Seconds `next` waits for a response; then it raises DeadlineExceeded, and may be called again.
    ahead
        Responses that wait for their taker before the model has to, with the thread, the lane and the token
        it runs with; `math.inf` for a taker who may need these meanwhile.
    """

    def __init__(
        self,
        arrays: Callable[[InferResponse], dict[str, Array]],
        timeout: float = _TIMEOUT,
        *,
        ahead: float = _AHEAD,
    ) -> None:
        self._arrays = arrays
        self._ahead = ahead
        self._timeout = timeout
        self._waiting: deque[InferResponse] = deque()
        self._changed = threading.Condition()
        self._awaiting: list[Future[None]] = []
        self._done: Future[InferResponse] | None = None
        self._ended = False  # the model has, and its last response is here
        self._closed = False
        self._late: DeadlineExceeded | None = None

    def follow(self, done: Future[InferResponse]) -> None:
        """Say what is complete when no more responses come; its own response counts if it has outputs."""
        self._done = done
        reference = weakref.WeakMethod(self._end)

        def ended(done: Future[InferResponse]) -> None:
            end = reference()
            if end is not None:
                end(done)

        done.add_done_callback(ended)

    @property
    def respond(self) -> Respond:
        """What the model is to give its responses to: `put`, until nobody has the stream any more."""
        reference = weakref.WeakMethod(self.put)

        def respond(response: InferResponse) -> bool:
            put = reference()
            return put is not None and put(response)

        return respond

    def put(self, response: InferResponse) -> bool:
        """Add a response, waiting for room; return whether more are wanted."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._closed or len(self._waiting) < self._ahead, _TIMEOUT):
                self._late = DeadlineExceeded(
                    f"no response was taken for {_TIMEOUT} s, and the model was stopped"
                )
            if self._closed or self._late is not None:
                return False
            self._waiting.append(response)
        self._wake()
        return True

    def close(self) -> None:
        """Want no more: the model ends when it gives its next response. Idempotent."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
        if self._done is not None:
            self._done.cancel()
        self._wake()

    def __next__(self) -> dict[str, Array]:
        with self._changed:
            if not self._changed.wait_for(self._ready, self._timeout):
                raise self._no_response()
            taken = self._take()
        if taken is None:
            raise StopIteration
        return self._arrays(taken)

    async def __anext__(self) -> dict[str, Array]:
        while True:
            with self._changed:
                if self._ready():
                    taken = self._take()
                    break
                news: Future[None] = Future()
                self._awaiting.append(news)
            try:
                async with asyncio.timeout(self._timeout):
                    await news
            except TimeoutError:
                raise self._no_response() from None
        if taken is None:
            raise StopAsyncIteration
        return self._arrays(taken)

    def __enter__(self) -> Self:
        """Return the stream itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _no_response(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"no response came within {self._timeout} s")

    def _ready(self) -> bool:
        return bool(self._waiting) or self._closed or self._ended

    def _take(self) -> InferResponse | None:
        """Return the next response, or None at the end; raise the model's error. Under the lock."""
        if self._waiting:
            response = self._waiting.popleft()
            self._changed.notify_all()
            return response
        if not self._closed and self._done is not None:
            self._closed = True
            if self._late is not None:
                raise self._late
            self._done.result(0)
        return None

    def _end(self, done: Future[InferResponse]) -> None:
        last = None if done.cancelled() or done.exception(0) is not None else done.result(0)
        with self._changed:
            if last is not None and last.data and not self._closed:
                self._waiting.append(last)
            self._ended = True
        self._wake()

    def _wake(self) -> None:
        with self._changed:
            awaiting, self._awaiting = self._awaiting, []
            self._changed.notify_all()
        for news in awaiting:
            if news.set_running_or_notify_cancel():
                news.set_result(None)
