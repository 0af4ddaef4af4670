"""What the engine process knows of a call that a frontend has taken."""

from __future__ import annotations

from yais.core.clock import NEVER, Deadline
from yais.rpc.completion_queue import MetadataItem
from yais.rpc.metadata import Metadata
from yais.serving.call_trace import CallTrace
from yais.serving.http.caller import HttpCaller

__all__ = ["LinkCaller", "caller_of"]


class LinkCaller:
    """A gRPC call to a frontend: a `yais.serving.caller.Caller`, and a `TracedCaller`."""

    __slots__ = ("_headers", "accepted", "deadline", "trace", "waited")

    protocol = "GRPC"

    def __init__(
        self, accepted: int, waited: int, deadline: int | None, headers: tuple[MetadataItem, ...]
    ) -> None:
        self.accepted = accepted
        self.waited = waited
        self.deadline = NEVER if deadline is None else Deadline(deadline)
        self.trace: CallTrace | None = None
        self._headers = headers

    @property
    def metadata(self) -> Metadata:
        """What the caller sent beside its request, if the frontend was told to send it along."""
        return Metadata(self._headers)

    def finished(self) -> None:
        """Take that the answer is on its way to the frontend, or never will be. Idempotent."""
        trace, self.trace = self.trace, None
        if trace is not None:
            trace.sent()


def caller_of(
    accepted: int, waited: int, deadline: int | None, headers: tuple[MetadataItem, ...], *, http: bool
) -> LinkCaller | HttpCaller:
    """Return the caller of a request."""
    if not http:
        return LinkCaller(accepted, waited, deadline, headers)
    caller = HttpCaller([(name.encode("latin-1"), str(value).encode("latin-1")) for name, value in headers])
    caller.accepted, caller.waited = accepted, waited
    return caller
