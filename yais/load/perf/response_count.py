"""How many answers the requests of a decoupled model got."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from yais.client.infer_call import InferAnswer, InferCall
from yais.client.transport import Done, Transport
from yais.errors import Code

__all__ = ["ResponseCount"]


class ResponseCount:
    """A stream transport that counts what comes over it. See `Transport`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._count = self._taken = 0

    def __repr__(self) -> str:
        return f"<ResponseCount of {self._transport!r}: {self._count}>"

    def encode(self, call: InferCall) -> Any:
        """Return a request as the transport takes it."""
        return self._transport.encode(call)

    def send(self, request: Any, done: Done) -> None:
        """Send a request."""
        self._transport.send(request, partial(self._answered, done))

    def answers(self, reply: Any) -> Sequence[InferAnswer]:
        """Return the answers to one request."""
        return self._transport.answers(reply)

    def close(self) -> None:
        """Close the transport."""
        self._transport.close()

    def take(self) -> int:
        """Return how many answers came since the last call."""
        before, self._taken = self._taken, self._count
        return self._taken - before

    def _answered(self, done: Done, code: Code, text: str, reply: Any) -> None:
        if code == Code.OK:
            self._count += len(reply)  # on the transport's one thread
        done(code, text, reply)
