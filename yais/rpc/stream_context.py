"""What contexts of streams have in common: how their code is driven."""

from __future__ import annotations

import concurrent.futures
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any, ClassVar, NamedTuple

from yais.rpc.base_context import BaseContext, ReplyT, RequestT, ResourcesT
from yais.rpc.stream import Stream

__all__ = ["Pending", "StreamContext"]


class Pending(NamedTuple):
    """Work of the user's that is not done yet.

    Attributes
    ----------
    work
        A future, or something to await on the server's asyncio loop.
    then
        Called with its result, on whatever thread completes it.
    beside
        Whether requests are delivered meanwhile.
    """

    work: concurrent.futures.Future[Any] | Awaitable[Any]
    then: Callable[[Any], object]
    beside: bool = False


class StreamContext(BaseContext[RequestT, ReplyT, ResourcesT]):
    """One RPC with a stream of requests, of answers, or of both.

    Attributes
    ----------
    max_unsent
        Answers that may wait while one is on its way. With that many, no further request is read.
    """

    max_unsent: int = 16
    _rpc_single: ClassVar[bool] = False  # one request
    _rpc_reply_stream: bool  # whether the RPC has a stream of answers, rather than one
    _rpc_stream: Stream[ReplyT]
    _rpc_schedule: Callable[..., None]  # a function on the server's asyncio loop

    def on_drain(self) -> None:
        """Run when the server begins to stop while this RPC is in flight, on the thread that stops it.

        The RPC has the server's grace period to end; then it is ended with UNAVAILABLE. Finish the stream
        here if it would not end by itself.
        """

    # Called by the life cycle. What they return is awaited before the next message is read.

    def _rpc_opened(self) -> Pending | None:
        return None

    def _rpc_request(self, request: RequestT) -> Pending | None:
        raise NotImplementedError

    def _rpc_requests_done(self) -> Pending | None:
        return None

    def _rpc_room(self) -> None:
        """Go on sending: an answer has gone."""

    def _rpc_released(self) -> None:
        """Clean up: what ran beside the deliveries is done."""

    def _rpc_over(self) -> None:
        """Clean up: nothing will be delivered any more."""

    async def _rpc_send_all(self, replies: AsyncIterable[ReplyT]) -> None:
        """Send what an asynchronous iterator yields, at the pace of the caller, and finish."""
        try:
            async for reply in replies:
                if not await self._rpc_stream.awrite(reply):
                    return
        finally:
            close = getattr(replies, "aclose", None)
            if close is not None:
                await close()
        self._rpc_stream.finish(at_once=True)


def settled(answer: Any, then: Callable[[Any], object]) -> Pending | None:
    """Call `then` with an answer that is there, or arrange for that."""
    if isinstance(answer, concurrent.futures.Future) or hasattr(answer, "__await__"):
        return Pending(answer, then)
    then(answer)
    return None
