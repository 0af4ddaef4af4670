"""What carries inference requests to a server and tells how each ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from yais.client.infer_call import InferAnswer, InferCall
from yais.errors import Code

__all__ = ["Done", "Transport", "tell"]

_log = logging.getLogger("yais.client")

Done = Callable[[Code, str, Any], None]
"""Told once of each request: its status, the message of one that failed, and what `Transport.answers` reads
(None where there is nothing)."""


class Transport(Protocol):
    """Carries requests. `send` may be called on any thread, `done` too.

    A request is encoded once and may be sent any number of times, many at once.
    """

    def encode(self, call: InferCall) -> Any:
        """Return a request as `send` takes it."""

    def send(self, request: Any, done: Done) -> None:
        """Send a request; returns at once.

        `done` is called exactly once, also for what could not be sent, on the transport's thread, which it
        must not block; it may send.

        Raises
        ------
        FailedPrecondition
            The transport is closed.
        """

    def answers(self, reply: Any) -> Sequence[InferAnswer]:
        """Return what `done` got: one answer, or those of a stream to one request."""

    def close(self) -> None:
        """End what is in flight with CANCELLED, wait for the last `done`, and disconnect."""


def tell(done: Callable[[Code, str, Any], None], code: Code, text: str, reply: Any) -> None:
    """Call `done`; what it raises is logged: it must not keep others from being told."""
    try:
        done(code, text, reply)
    except Exception:
        _log.exception("unexpected error in the callback of a request")
