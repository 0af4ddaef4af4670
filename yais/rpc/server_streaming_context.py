"""Contexts of RPCs with one request and a stream of answers."""

from __future__ import annotations

import concurrent.futures
import contextlib
import inspect
from collections.abc import AsyncIterable, Awaitable, Iterable, Iterator
from typing import Any, ClassVar, Union

from yais.core.future import Future
from yais.rpc.base_context import ReplyT, RequestT, ResourcesT
from yais.rpc.stream import Stream
from yais.rpc.stream_context import Pending, StreamContext

__all__ = ["Replies", "ServerStreamingContext"]

Replies = Union[
    Iterable[ReplyT], AsyncIterable[ReplyT], "concurrent.futures.Future[object]", Awaitable[object]
]
"""What `execute` may return."""

_END: Any = object()


class ServerStreamingContext(StreamContext[RequestT, ReplyT, ResourcesT]):
    """One request, many answers. Subclass it and write `execute`."""

    _single: ClassVar[bool] = True
    _replies: Iterator[ReplyT] | None = None
    _sent: Future[None]

    @property
    def stream(self) -> Stream[ReplyT]:
        """Where answers are written by what runs elsewhere."""
        return self._stream

    def execute(self, request: RequestT) -> Replies[ReplyT]:
        """Answer the request, in one of three ways.

        - Return an iterator, or write a generator: it is asked for the next answer on the executor's thread
          whenever there is room to send one, so each answer should be quick to make.
        - Write an asynchronous generator: it runs on the server's asyncio loop and is asked for the next
          answer when there is room.
        - Return a future, or write `async def`: the stream ends when that is done. Meanwhile whoever
          computes writes to `self.stream`, which makes a thread that is faster than the caller wait.

        What is raised ends the RPC as in `Context.execute`, after the answers that were there before.
        """
        raise NotImplementedError(f"{type(self).__name__} has no execute method")

    def _request(self, request: RequestT) -> Pending | None:
        answer = self.execute(request)
        if isinstance(answer, concurrent.futures.Future) or inspect.isawaitable(answer):
            return Pending(answer, lambda _result: self._stream.finish(at_once=True))
        if isinstance(answer, AsyncIterable):
            return Pending(self._send_all(answer), lambda _result: None)
        if not isinstance(answer, Iterable):
            raise TypeError(f"execute returned {type(answer).__name__}, expected an iterator of replies")
        self._replies = iter(answer)
        self._sent = Future()
        self._room()
        return Pending(self._sent, lambda _result: self._stream.finish(at_once=True))

    def _room(self) -> None:
        if self._replies is None or self._sent.done():
            return
        try:
            while self._stream.room:
                reply = next(self._replies, _END)
                if reply is _END:
                    self._settle(None)
                    return
                self._stream.answer(reply, now=True)
        except BaseException as error:
            self._settle(error)
        else:
            if not self._stream.connected:  # finished by somebody else
                self._settle(None)

    def _settle(self, error: BaseException | None) -> None:
        with contextlib.suppress(concurrent.futures.InvalidStateError):  # cancelled with the call
            self._sent.set_exception(error) if error is not None else self._sent.set_result(None)

    def _over(self) -> None:
        close = getattr(self._replies, "close", None)
        if close is not None:
            close()
