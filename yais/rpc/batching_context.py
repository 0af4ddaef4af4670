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
    _rpc_items: list[RequestT]

    def on_item(self, request: RequestT) -> Answer[object]:
        """See a request as it arrives, for a head start on its preparation; the default does nothing.

        On the executor's thread, in order. When it returns a future, or is `async def`, the next request is
        read once that is done.
        """

    def execute(self, requests: list[RequestT]) -> Answer[Sequence[ReplyT]] | Answer[ReplyT]:
        """Answer the requests, once the caller has sent its last one.

        A caller that goes away in the middle may, rarely, be taken for one that has sent its last: gRPC core
        says so an event earlier. Look at `self.cancelled` again before doing what cannot be undone.

        Returns
        -------
        list
            A reply for each request, in their order; another number of replies ends the RPC with INTERNAL.
            Or the one reply, where the RPC has no stream of answers. Or a future or coroutine of either, as
            in `Context.execute`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no execute method")

    def _rpc_opened(self) -> Pending | None:
        self._rpc_items = []
        return None

    def _rpc_request(self, request: RequestT) -> Pending | None:
        if len(self._rpc_items) >= self.max_items:
            raise ResourceExhausted(f"got more than {self.max_items} requests in one call, expected no more")
        self._rpc_items.append(request)
        return settled(self.on_item(request), lambda _result: None)

    def _rpc_requests_done(self) -> Pending | None:
        return settled(self.execute(self._rpc_items), self._rpc_answer)

    def _rpc_answer(self, answer: Any) -> None:
        if not self._rpc_reply_stream:
            self._rpc_stream.answer(answer)
        elif not isinstance(answer, Sequence) or len(answer) != len(self._rpc_items):
            got = len(answer) if isinstance(answer, Sequence) else type(answer).__name__
            raise Internal(
                f"{type(self).__name__}.execute returned {got} replies, expected {len(self._rpc_items)}: "
                "one for each request"
            )
        else:
            for reply in answer:
                self._rpc_stream.answer(reply)
        self._rpc_stream.finish(at_once=True)
