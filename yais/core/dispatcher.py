"""Run to completion: how code below the RPC framework learns that the calling thread serves a queue.

A thread that takes events from a queue and runs their handlers is a `Dispatcher`. Work that is cheaper
than handing it to another thread waits until the queue has run empty and then runs right there
(DESIGN.md, D1a): the batch of a short model, for example, holds whatever arrived in the meantime.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

__all__ = ["Dispatcher", "current_dispatcher", "set_current_dispatcher"]


class Dispatcher(Protocol):
    """A thread that handles events one after another."""

    def when_drained(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, on this thread, when its queue has run empty or has been busy for long.

        Only for the thread itself. Callbacks run in the order in which they were given.
        """


class _Local(threading.local):
    dispatcher: Dispatcher | None = None


_local = _Local()


def current_dispatcher() -> Dispatcher | None:
    """Return the dispatcher whose thread this is, or None on any other thread."""
    return _local.dispatcher


def set_current_dispatcher(dispatcher: Dispatcher | None) -> None:
    """Declare the calling thread to be `dispatcher`'s, or no longer to be."""
    _local.dispatcher = dispatcher
