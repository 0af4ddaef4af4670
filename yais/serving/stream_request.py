"""A request of ModelStreamInfer, from when it is read until its last response is there."""

from __future__ import annotations

from typing import Protocol

from yais.core.clock import Deadline, monotonic
from yais.core.future import Future
from yais.errors import YaisError
from yais.inference.request import InferResponse
from yais.rpc.metadata import Metadata
from yais.serving.call_trace import CallTrace
from yais.serving.reply_order import Place
from yais.serving.stream_reply import encode_reply

__all__ = ["RequestContext", "StreamRequest"]


class RequestContext(Protocol):
    """The stream of a request.

    Attributes
    ----------
    due
        When the caller stops waiting.
    """

    due: Deadline

    @property
    def metadata(self) -> Metadata:
        """What the caller sent when it opened the stream."""

    def fail(self, request: StreamRequest, error: BaseException) -> None:
        """End a request with an error. Any thread."""

    def end(self, request: StreamRequest, reply: bytes) -> None:
        """End a request; an empty reply is not sent. Any thread."""


class StreamRequest(Place[bytes]):
    """A request of a stream, and its `TracedCaller`.

    Attributes
    ----------
    id
        As its sender calls it.
    decoupled
        Whether it is answered any number of times.
    tells_end
        Whether its sender wants to be told that no more responses come.
    error
        What the stream is to end with, instead of a reply.
    future
        Of its last response, once it is submitted.
    accepted, waited, deadline, metadata
        See `Caller`; the deadline is the stream's.
    protocol, trace
        See `TracedCaller`.
    """

    __slots__ = (
        "_context",
        "accepted",
        "decoupled",
        "error",
        "future",
        "id",
        "protocol",
        "tells_end",
        "trace",
        "waited",
    )

    def __init__(self, context: RequestContext) -> None:
        super().__init__()
        self._context = context
        self.accepted = monotonic()
        self.waited = 0
        self.protocol = "GRPC"
        self.trace: CallTrace | None = None
        self.id = ""
        self.decoupled = self.tells_end = False
        self.error: YaisError | None = None
        self.future: Future[InferResponse] | None = None

    @property
    def deadline(self) -> Deadline:
        """When the caller stops waiting."""
        return self._context.due

    @property
    def metadata(self) -> Metadata:
        """What the caller sent when it opened the stream."""
        return self._context.metadata

    def done(self, future: Future[InferResponse]) -> None:
        """Take the last response."""
        self.future = None  # which refers to this
        try:
            response = future.result(0)
            silent = self.decoupled and not (response.data or self.tells_end)
            reply = b"" if silent else encode_reply(response, final=True)
        except BaseException as error:
            self._context.fail(self, error)
        else:
            self._context.end(self, reply)
