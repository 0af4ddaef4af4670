"""A future whose work a thread that waits for it may do itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from yais.core.future import Future

__all__ = ["OfferedFuture"]

T = TypeVar("T")

_PATIENT = 0.1
"""Seconds that a thread must be ready to wait before it does the work itself: far above what that takes."""


class OfferedFuture(Future[T]):
    """A `Future` with work on offer: waking another thread may cost more than the work."""

    _work: tuple[Callable[[], None], Callable[[], None]] | None = None

    def offer(self, here: Callable[[], None], elsewhere: Callable[[], None]) -> None:
        """Let a thread that is about to wait for the result do the work itself.

        One of the two is called, at most once: `here` does the work before it returns, `elsewhere` hands it
        to other threads. That nobody may ever wait is for the caller to mind.
        """
        self._work = (here, elsewhere)

    def assist(self) -> None:
        """Do the work on this thread, if it is on offer."""
        work, self._work = self._work, None
        if work is not None:
            work[0]()

    def hand_over(self) -> None:
        """Have the work done by other threads, if it is on offer."""
        work, self._work = self._work, None
        if work is not None:
            work[1]()

    def cancel(self) -> bool:
        """See `Future.cancel`."""
        cancelled = super().cancel()
        if cancelled:
            self._work = None
        return cancelled

    if not TYPE_CHECKING:

        @property
        def _condition(self) -> threading.Condition:
            self.hand_over()  # the helpers of concurrent.futures are about to wait, for others as well
            return super()._condition

    def _complete(self, result: T | None, exception: BaseException | None) -> None:
        self._work = None
        super()._complete(result, exception)

    def _sleep(self, timeout: float | None) -> None:
        if self._work is not None:
            if timeout is None or timeout >= _PATIENT:
                self.assist()
            else:
                self.hand_over()
        super()._sleep(timeout)
