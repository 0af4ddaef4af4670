"""The future of a request that is answered in another process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from yais.core.future import Future

__all__ = ["LinkFuture"]

T = TypeVar("T")


class LinkFuture(Future[T]):
    """A `Future` that tells when it is cancelled.

    Attributes
    ----------
    number
        Of the request; 0 until it has one.
    id
        As its sender calls it.
    on_cancel
        Called with the future, once, when it was cancelled.
    """

    number = 0
    id = ""
    on_cancel: Callable[[LinkFuture[T]], object] | None = None

    def cancel(self) -> bool:
        """See `Future.cancel`."""
        cancelled = super().cancel()
        on_cancel, self.on_cancel = self.on_cancel, None
        if cancelled and on_cancel is not None:
            on_cancel(self)
        return cancelled

    def answer(self, result: T) -> None:
        """Complete it with a result, unless it was cancelled."""
        self.on_cancel = None  # which may refer to this
        if self.set_running_or_notify_cancel():
            self.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Complete it with an error, unless it was cancelled."""
        self.on_cancel = None
        if self.set_running_or_notify_cancel():
            self.set_exception(error)
