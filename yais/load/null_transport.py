"""A transport to nowhere: for measuring a generator by itself."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from yais.client.infer_call import InferAnswer, InferCall
from yais.client.transport import Done
from yais.core.clock import NANOSECONDS, monotonic
from yais.core.timer import Timer
from yais.errors import Code, FailedPrecondition

__all__ = ["NullTransport"]

_CLOSED = "the transport is closed"
_END = 10.0  # seconds that a `done` may take


class NullTransport:
    """Answers each request with OK and nothing; see `Transport`.

    Parameters
    ----------
    delay
        Seconds until the answer. By default it comes before `send` returns, on the sender's thread.
    """

    def __init__(self, delay: float = 0.0) -> None:
        self._delay = int(delay * NANOSECONDS)
        self._timer = Timer("yais-null")
        self._lock = threading.Lock()
        self._closed = False
        self._in_flight: dict[object, Done] = {}

    def encode(self, call: InferCall) -> InferCall:
        """Return the call."""
        return call

    def send(self, request: Any, done: Done) -> None:  # noqa: ARG002
        """Answer, now or later."""
        if not self._delay and not self._closed:
            done(Code.OK, "", None)
            return
        key = object()
        with self._lock:
            if self._closed:
                raise FailedPrecondition(_CLOSED)
            self._in_flight[key] = done
            self._timer.call_at(monotonic() + self._delay, lambda: self._answer(key))

    def answers(self, reply: Any) -> Sequence[InferAnswer]:  # noqa: ARG002
        """Return nothing."""
        return ()

    def close(self) -> None:
        """End what is in flight with CANCELLED."""
        with self._lock:
            self._closed = True
            in_flight, self._in_flight = self._in_flight, {}
        for done in in_flight.values():
            done(Code.CANCELLED, _CLOSED, None)
        self._timer.close(_END)

    def _answer(self, key: object) -> None:
        with self._lock:
            done = self._in_flight.pop(key, None)
        if done is not None:
            done(Code.OK, "", None)
