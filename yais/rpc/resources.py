"""Resources: what all RPCs of a server share."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any

from yais.core.clock import Deadline
from yais.core.thread_pool import ThreadPool
from yais.core.timer import Timer

__all__ = ["Resources"]


class Resources:
    """The thread pools, memory pools, models and clients that every context of a server may use.

    Subclass it and make them in `__init__` or `open`. A server opens its resources before it accepts
    calls and closes them after the last call is over; contexts reach them as `self.resources`, from
    several threads at once.
    """

    def open(self) -> None:
        """Prepare what needs preparing (warm-up, connections). Called once, before the first call."""

    def drain(self, deadline: Deadline, hurried: threading.Event) -> bool:  # noqa: ARG002 - for subclasses
        """Let end what these resources serve themselves, beside RPCs; return whether it has.

        Called once, when the server begins to refuse calls, on a thread of its own; it must return by the
        deadline, and soon after `hurried` is set: then somebody does not want to wait any longer.
        """
        return True

    def close(self) -> None:
        """Give everything back. Called once, after the last call.

        The default closes, last made first, every attribute that has a `close` method, so that pools held
        as attributes need no code here; a `ThreadPool` or `Timer` gets a second to finish. What one of them
        raises does not keep the others open.
        """
        with ExitStack() as stack:
            for value in vars(self).values():
                close: Any = getattr(value, "close", None)
                if isinstance(value, ThreadPool | Timer):
                    stack.callback(close, timeout=1.0)
                elif callable(close):
                    stack.callback(close)
