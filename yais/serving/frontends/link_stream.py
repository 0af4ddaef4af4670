"""The responses of a decoupled model: as many on their way as the frontend takes."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from yais.core.clock import Deadline
from yais.inference.request import InferResponse, Respond
from yais.serving.frontends.link_messages import CREDITS

__all__ = ["ResponseCredits", "ResponseTaker"]

_PATIENCE = 120.0
"""Seconds that a model waits for a frontend, whose own clients have 60 each time; then it is stopped."""


class ResponseCredits:
    """How many responses a model may still send. Thread-safe.

    Attributes
    ----------
    wanted
        Whether anybody wants more.
    """

    def __init__(self, credits_: int = CREDITS) -> None:
        self.wanted = True
        self._credits = credits_
        self._more = threading.Condition()

    def take(self, deadline: Deadline) -> bool:
        """Take one, waiting for it; return whether a response is wanted."""
        with self._more:
            left = deadline.remaining()
            patience = _PATIENCE if left is None else min(left, _PATIENCE)
            if not self._more.wait_for(lambda: self._credits > 0 or not self.wanted, patience):
                return False
            self._credits -= 1
            return self.wanted

    def add(self, count: int) -> None:
        """Let so many more come; 0 for no more at all."""
        with self._more:
            self._credits += count
            self.wanted = self.wanted and count > 0
            self._more.notify_all()

    def stop(self) -> None:
        """Want no more."""
        with self._more:
            self.wanted = False
            self._more.notify_all()


class ResponseTaker:
    """Hands responses to whoever asked, in their order, on threads where that may wait. Thread-safe.

    Parameters
    ----------
    respond
        Takes them.
    threads
        Where it is called.
    taken
        Called with how many were taken since the last time, now and then, and with 0 if no more are wanted.
    """

    def __init__(self, respond: Respond, threads: Executor, taken: Callable[[int], object]) -> None:
        self._respond = respond
        self._threads = threads
        self._taken = taken
        self._untold = 0
        self._lock = threading.Lock()
        self._waiting: collections.deque[InferResponse | Callable[[BaseException | None], Any]]
        self._waiting = collections.deque()
        self._busy = False
        self._error: BaseException | None = None
        self._wanted = True

    def put(self, response: InferResponse) -> None:
        """Hand out a response after those before it."""
        self._add(response)

    def end(self, ended: Callable[[BaseException | None], Any]) -> None:
        """Call a function when all were handed out, with what handing them out raised."""
        with self._lock:
            idle = not self._busy
        if idle:
            ended(self._error)
        else:
            self._add(ended)

    def _add(self, item: InferResponse | Callable[[BaseException | None], Any]) -> None:
        with self._lock:
            self._waiting.append(item)
            begins, self._busy = not self._busy, True
        if begins:
            self._threads.submit(self._run)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._busy = False
                    return
                item = self._waiting.popleft()
            if not isinstance(item, InferResponse):
                item(self._error)
            elif self._wanted:
                self._hand_out(item)
            del item

    def _hand_out(self, response: InferResponse) -> None:
        try:
            self._wanted = self._respond(response)
        except BaseException as error:  # goes to whoever asked
            self._error = error
            self._wanted = False
        self._untold += 1
        if not self._wanted:
            self._taken(0)
        elif self._untold == CREDITS // 2:
            self._taken(self._untold)
            self._untold = 0
