"""Contexts of streams, with a handle that may answer at any time and from anywhere."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable
from typing import Any

from yais.rpc.base_context import ReplyT, RequestT, ResourcesT
from yais.rpc.context import Answer
from yais.rpc.request_iterator import RequestIterator
from yais.rpc.stream import Stream
from yais.rpc.stream_context import Pending, StreamContext, settled

__all__ = ["StreamingContext"]


class StreamingContext(StreamContext[RequestT, ReplyT, ResourcesT]):
    """A stream of requests, answered at any time. Subclass it and write its callbacks, or `execute`.

    The callbacks of a stream run in order, on the executor's thread, and the next request is read when
    `on_request` has returned: a caller that sends faster than it is served has to wait. One that returns a
    future, or is `async def`, has returned when that is done. `stream` may be kept, and used elsewhere.
    """

    @property
    def stream(self) -> Stream[ReplyT]:
        """The answering side."""
        return self._rpc_stream

    def on_open(self, stream: Stream[ReplyT]) -> Answer[object]:  # noqa: ARG002 - for subclasses
        """Run when the call has arrived, before its first request is read; the default does nothing."""
        return None

    def on_request(self, request: RequestT, stream: Stream[ReplyT]) -> Answer[object]:
        """Take one request."""
        raise NotImplementedError(f"{type(self).__name__} has neither an on_request nor an execute method")

    def on_requests_done(self, stream: Stream[ReplyT]) -> Answer[object]:
        """Run when the caller has sent its last request; the default finishes the stream.

        A caller that goes away in the middle may, rarely, be taken for one that has sent its last: gRPC core
        says so an event earlier. Look at `self.cancelled` again before doing what cannot be undone.

        With one that does not, the stream stays open until `stream.finish()`.
        """
        stream.finish()
        return None

    def execute(self, requests: AsyncIterator[RequestT]) -> AsyncIterable[ReplyT] | Awaitable[ReplyT | None]:
        """Serve the whole stream in asyncio, instead of in callbacks.

        Write an asynchronous generator: `async for request in requests: yield reply`; or `async def` that
        writes to `self.stream`; or, where the RPC has no stream of answers, one that returns the reply.
        Requests are read as they are asked for, a few ahead, and answers asked for as there is room to send
        them. The stream ends when this returns, even if the caller would send more. Cancellation arrives as
        `asyncio.CancelledError`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no execute method")

    _rpc_requests: RequestIterator[RequestT] | None = None

    def _rpc_opened(self) -> Pending | None:
        if type(self).execute is StreamingContext.execute:
            return settled(self.on_open(self._rpc_stream), lambda _result: None)
        self._rpc_requests = RequestIterator(self._rpc_schedule)
        self._rpc_stream.when_deaf(self._rpc_requests.end)
        answer = self.execute(self._rpc_requests)
        if isinstance(answer, AsyncIterable) and self._rpc_reply_stream:
            return Pending(self._rpc_send_all(answer), self._rpc_end, beside=True)
        if inspect.isawaitable(answer):
            return Pending(answer, self._rpc_answer, beside=True)
        wanted = "an asynchronous generator" if self._rpc_reply_stream else "a coroutine"
        raise TypeError(f"execute returned {type(answer).__name__}, expected {wanted}")

    def _rpc_answer(self, reply: Any) -> None:
        if reply is not None or not self._rpc_reply_stream:
            self._rpc_stream.answer(reply)
        self._rpc_stream.finish(at_once=True)

    def _rpc_end(self, _result: Any) -> None:
        self._rpc_stream.finish(at_once=True)

    def _rpc_request(self, request: RequestT) -> Pending | None:
        if self._rpc_requests is None:
            return settled(self.on_request(request, self._rpc_stream), lambda _result: None)
        room = self._rpc_requests.put(request)
        return None if room is None else Pending(room, lambda _result: None)

    def _rpc_requests_done(self) -> Pending | None:
        if self._rpc_requests is None:
            return settled(self.on_requests_done(self._rpc_stream), lambda _result: None)
        self._rpc_requests.end()
        return None

    def _rpc_released(self) -> None:
        if self._rpc_requests is not None:
            self._rpc_requests.close()
