"""When the responses of a decoupled model to one request came."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from yais.core.clock import monotonic
from yais.inference.failure import FailureReason, reason_of
from yais.inference.response_counts import ResponseEnd, ResponseTime
from yais.inference.statistics import ModelStatistics

__all__ = ["ResponseTimes"]


class ResponseTimes:
    """Notes the responses to one request, and has them counted at the end of its `with` block.

    Not thread-safe.

    Parameters
    ----------
    statistics
        Where they are counted.
    received
        When the request came in, ns.
    """

    __slots__ = ("_computed", "_first", "_last", "_received", "_responses", "_statistics", "_stopped")

    def __init__(self, statistics: ModelStatistics, received: int) -> None:
        self._statistics = statistics
        self._received = received
        self._responses: list[ResponseTime] = []
        self._first: int | None = None
        self._computed = self._last = 0
        self._stopped = False

    def computed(self) -> None:
        """Note that the next response is there."""
        self._computed = monotonic()

    def handed_out(self, *, wanted: bool) -> None:
        """Note that it was handed out, and whether more are wanted."""
        now = monotonic()
        if self._first is None:
            self._first = now - self._received
        self._responses.append(ResponseTime(self._computed - self._last, now - self._computed))
        self._last = now
        self._stopped = not wanted

    def __enter__(self) -> Self:
        """Begin: the first response is computed from now on."""
        self._last = monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Have them counted."""
        end = ResponseEnd.CANCEL if self._stopped else ResponseEnd.EMPTY
        if error is not None:
            gone = reason_of(error) is FailureReason.CANCELED
            end = ResponseEnd.CANCEL if gone else ResponseEnd.FAIL
        self._statistics.record_responses(self._responses, end, monotonic() - self._last, self._first)
