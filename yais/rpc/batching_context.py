"""Contexts that read all requests of a stream, execute once, and answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from yais.errors import Internal, ResourceExhausted
from yais.rpc.base_context import ReplyT, RequestT, ResourcesT
from yais.rpc.context import Answer
from yais.rpc.stream_context import Pending, StreamContext, settled

__all__ = ["BatchingContext"]


class BatchingContext(StreamContext[RequestT, ReplyT, ResourcesT]):
    """All in, then all out: a stream as the container of a batch. Subclass it and write `execute`.

    Attributes
    ----------
    max_items
        Requests of one call at most; one more ends it with RESOURCE_EXHAUSTED.
    """

    max_items: int = 1024
    _items: list[RequestT]

    def on_item(self, request: RequestT) -> Answer[None]:
        """See a request as it arrives, for a head start on its preparation; the default does nothing.

        On the executor's thread, in order. When it returns a future, or is `async def`, the next request is
        read once that is done.
        """

    def execute(self, requests: list[RequestT]) -> Answer[Sequence[ReplyT]] | Answer[ReplyT]:
        """Answer the requests, once the caller has sent its last one.

        Returns
        -------
        list
            A reply for each request, in their order; another number of replies ends the RPC with INTERNAL.
            Or the one reply, where the RPC has no stream of answers. Or a future or coroutine of either, as
            in `Context.execute`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no execute method")

    def _opened(self) -> Pending | None:
        self._items = []
        return None

    def _request(self, request: RequestT) -> Pending | None:
        if len(self._items) >= self.max_items:
            raise ResourceExhausted(
                f"got more than {self.max_items} requests in one call, expected no more"
            )
        self._items.append(request)
        return settled(self.on_item(request), lambda _result: None)

    def _requests_done(self) -> Pending | None:
        return settled(self.execute(self._items), self._answer)

    def _answer(self, answer: Any) -> None:
        if not self._answers:
            self._stream.answer(answer)
        elif not isinstance(answer, Sequence) or len(answer) != len(self._items):
            got = len(answer) if isinstance(answer, Sequence) else type(answer).__name__
            raise Internal(
                f"{type(self).__name__}.execute returned {got} replies, expected {len(self._items)}: "
                "one for each request"
            )
        else:
            for reply in answer:
                self._stream.answer(reply)
        self._stream.finish(at_once=True)
