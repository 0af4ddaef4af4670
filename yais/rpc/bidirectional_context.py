"""Contexts that answer the requests of a stream one at a time."""

from __future__ import annotations

from yais.rpc.base_context import ReplyT, RequestT, ResourcesT
from yais.rpc.context import Answer
from yais.rpc.stream_context import Pending, StreamContext, settled

__all__ = ["BidirectionalContext"]


class BidirectionalContext(StreamContext[RequestT, ReplyT, ResourcesT]):
    """One answer to each request, in order, one at a time. Subclass it and write `execute`.

    An instance serves one stream, so its attributes are the state of that stream, as a recurrent network
    wants. No two of its methods run at the same time.
    """

    _rpc_last = False

    def execute(self, request: RequestT) -> Answer[ReplyT]:
        """Answer one request, as `Context.execute` does; the next one is read afterwards."""
        raise NotImplementedError(f"{type(self).__name__} has no execute method")

    def on_requests_done(self) -> Answer[object]:
        """Run when the caller has sent its last request, before the stream ends with OK."""

    def finish(self) -> None:
        """Make the answer to the current request the last one; what the caller still sends is dropped."""
        self._rpc_last = True

    def _rpc_request(self, request: RequestT) -> Pending | None:
        return settled(self.execute(request), self._rpc_answer)

    def _rpc_answer(self, reply: ReplyT) -> None:
        self._rpc_stream.answer(reply)
        if self._rpc_last:
            self._rpc_stream.finish(at_once=True)

    def _rpc_requests_done(self) -> Pending | None:
        return settled(self.on_requests_done(), lambda _result: self._rpc_stream.finish())
