"""What is known of an HTTP request beside its contents."""

from __future__ import annotations

from collections.abc import Iterable

from yais.core.clock import NEVER, monotonic
from yais.rpc.metadata import Metadata
from yais.serving.call_trace import CallTrace

__all__ = ["HttpCaller"]


class HttpCaller:
    """A request over HTTP, as a `yais.serving.caller.Caller`.

    Parameters
    ----------
    headers
        As ASGI has them: names in lower case.

    Attributes
    ----------
    accepted
        When it arrived, ns of `yais.core.clock.monotonic`.
    waited
        How long it waited for its turn to be served, ns.
    deadline
        Never: HTTP has none. A client that hangs up cancels its request.
    protocol, trace
        See `TracedCaller`; `finished` tells the trace.
    """

    __slots__ = ("_headers", "accepted", "trace", "waited")

    deadline = NEVER
    protocol = "HTTP"

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._headers = headers
        self.accepted = monotonic()
        self.waited = 0
        self.trace: CallTrace | None = None

    def finished(self) -> None:
        """Take that the answer was sent, or never will be. Idempotent."""
        trace, self.trace = self.trace, None
        if trace is not None:
            trace.sent()

    @property
    def metadata(self) -> Metadata:
        """The headers."""
        return Metadata([(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._headers])
