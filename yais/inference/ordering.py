"""Response order: answers leave in the order in which their batches were taken, whichever ends first."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from yais.core.future import Future
from yais.inference.request import InferResponse

__all__ = ["Answer", "ResponseOrder", "Turn", "deliver"]

Answer = tuple[Future[InferResponse], InferResponse | BaseException]
"""A future, and what it is completed with."""


def deliver(future: Future[InferResponse], answer: InferResponse | BaseException) -> None:
    """Complete a future that was not cancelled."""
    if isinstance(answer, BaseException):
        future.set_exception(answer)
    else:
        future.set_result(answer)


class ResponseOrder:
    """Hands out turns, and lets answers go in their order. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: deque[Turn] = deque()
        self._delivering = False  # by one thread at a time, or answers could overtake each other

    def turn(self) -> Turn:
        """Return the next turn, which is to be finished whatever happens."""
        turn = Turn(self)
        with self._lock:
            self._turns.append(turn)
        return turn

    def finish(self, turn: Turn, answers: Sequence[Answer]) -> None:
        """Give the answers of a turn: they go out now, or after those of the turns before it."""
        with self._lock:
            turn.answers = answers
            if self._delivering:
                return
            self._delivering = True
        while (ready := self._next()) is not None:
            for future, answer in ready:
                deliver(future, answer)

    def _next(self) -> Sequence[Answer] | None:
        with self._lock:
            if self._turns and self._turns[0].answers is not None:
                return self._turns.popleft().answers
            self._delivering = False
            return None


class Turn:
    """The place of a batch in the order.

    Attributes
    ----------
    answers
        None until they are there.
    """

    __slots__ = ("_order", "answers")

    def __init__(self, order: ResponseOrder) -> None:
        self._order = order
        self.answers: Sequence[Answer] | None = None

    def finish(self, answers: Sequence[Answer]) -> None:
        """See `ResponseOrder.finish`. Only once."""
        self._order.finish(self, answers)
