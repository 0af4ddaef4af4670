"""Contexts of RPCs with one request and a stream of answers."""

from __future__ import annotations

import concurrent.futures
import contextlib
import inspect
from collections.abc import AsyncIterable, Awaitable, Iterable, Iterator
from typing import Any, ClassVar, Union

from yais.core.clock import NANOSECONDS, monotonic
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

_TURN = NANOSECONDS // 1000
"""Nanoseconds after which an iterator lets other calls of the executor go on."""


class ServerStreamingContext(StreamContext[RequestT, ReplyT, ResourcesT]):
    """One request, many answers. Subclass it and write `execute`."""

    _rpc_single: ClassVar[bool] = True
    _rpc_replies: Iterator[ReplyT] | None = None
    _rpc_sent: Future[None]

    @property
    def stream(self) -> Stream[ReplyT]:
        """Where answers are written by what runs elsewhere."""
        return self._rpc_stream

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

    def _rpc_request(self, request: RequestT) -> Pending | None:
        answer = self.execute(request)
        if isinstance(answer, concurrent.futures.Future) or inspect.isawaitable(answer):
            return Pending(answer, lambda _result: self._rpc_stream.finish(at_once=True))
        if isinstance(answer, AsyncIterable):
            return Pending(self._rpc_send_all(answer), lambda _result: None)
        if not isinstance(answer, Iterable):
            raise TypeError(f"execute returned {type(answer).__name__}, expected an iterator of replies")
        self._rpc_replies = iter(answer)
        self._rpc_sent = Future()
        self._rpc_room()
        return Pending(self._rpc_sent, lambda _result: self._rpc_stream.finish(at_once=True))

    def _rpc_room(self) -> None:
        if self._rpc_replies is None or self._rpc_sent.done():
            return
        until = monotonic() + _TURN
        try:
            while self._rpc_stream.room:
                reply = next(self._rpc_replies, _END)
                if reply is _END:
                    self._rpc_settle(None)
                    return
                self._rpc_stream.answer(reply)
                self._rpc_stream.go_on()
                if monotonic() > until:
                    break
        except BaseException as error:
            self._rpc_settle(error)
            return
        if not self._rpc_stream.connected:  # finished by somebody else
            self._rpc_settle(None)

    def _rpc_settle(self, error: BaseException | None) -> None:
        with contextlib.suppress(concurrent.futures.InvalidStateError):  # cancelled with the call
            self._rpc_sent.set_exception(error) if error is not None else self._rpc_sent.set_result(None)

    def _rpc_over(self) -> None:
        close = getattr(self._rpc_replies, "close", None)
        if close is not None:
            close()
