"""Load by a fixed number of requests in flight: each answer sends the next one."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from yais.core.clock import Clock, monotonic
from yais.errors import Code, InvalidArgument
from yais.load.base_load import BaseLoad, Sender

__all__ = ["ClosedLoad"]


class _Here(threading.local):
    """Whether this thread is sending."""

    sending = False


class ClosedLoad(BaseLoad):
    """Keeps requests in flight; see `Load`. Latency is from the moment at which a request was sent.

    The transport's thread sends the next request after each answer.

    Parameters
    ----------
    requests
        As `transport.encode` returns them; sent in turn, over and over.
    in_flight
        How many at a time.
    count
        Ends after so many; by default when it is stopped.
    until_failure
        Ends with the first that fails.

    Raises
    ------
    InvalidArgument
        There are no requests, or a number is less than one.
    """

    def __init__(
        self,
        transport: Sender,
        requests: Sequence[Any],
        in_flight: int,
        *,
        count: int | None = None,
        until_failure: bool = False,
        clock: Clock = monotonic,
    ) -> None:
        super().__init__(transport, requests, clock)
        self._in_flight = _checked("in_flight", in_flight)
        self._left = None if count is None else _checked("count", count)
        self._until_failure = until_failure
        self._here = _Here()

    def _begin(self) -> None:
        self._here.sending = True
        while self._send_next():
            pass

    def _next(self, now: int) -> int | None:
        if self._ended is not None or self._recorder.outstanding >= self._in_flight:
            return None
        self._recorder.scheduled(now)
        self._recorder.sent(now)
        if self._left is not None:
            self._left -= 1
            if not self._left:
                self._end(now)
        return now

    def _answered(self, due: int, sent: int, code: Code, text: str, reply: Any) -> None:  # noqa: ARG002
        here = self._here
        with self._lock:
            now = self._now()
            self._write_down(now, due, sent, code, text)
            if self._until_failure and code is not Code.OK:
                self._end(now)
            if self._ended is not None:
                self._see_whether_over()
                return
            next_due = None if here.sending else self._next(now)
        if next_due is not None:
            here.sending = True
            try:
                self._send(next_due, now)
                while self._recorder.outstanding < self._in_flight and self._send_next():
                    pass
            finally:
                here.sending = False


def _checked(name: str, number: int) -> int:
    if number < 1:
        raise InvalidArgument(f"{name}: got {number}, expected at least 1")
    return number
