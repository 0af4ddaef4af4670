"""Receptions: where calls of a method wait for a context.

gRPC core tells nobody when a call that waits inside of it arrived. So a few more calls are taken from core
than there are contexts, and wait here, where the wait can be measured. Nothing is read from them yet: their
messages stay with the callers, and their number has a limit, beyond which calls wait in core as before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from yais.core.clock import NANOSECONDS, Clock, monotonic
from yais.errors import Code
from yais.rpc.completion_queue import CoreServer, ServerCall
from yais.rpc.executor import Executor

__all__ = ["Reception", "Slot"]


class Slot(Protocol):
    """Serves one call at a time, with one context."""

    def serve(self, event: Any, arrived: int, waited: int) -> None:
        """Serve the call of an event, which arrived at `arrived` and waited `waited` ns for the slot."""


_ROOM = 64
"""Calls that may wait for a single context, and so for any number below; a guess."""


class Reception:
    """Hands the calls of a method to its slots on one executor, in the order in which they arrive.

    Everything happens on the executor's thread, but for `open`, which comes before it runs, and `close`.

    Parameters
    ----------
    path
        Of the method.
    executor
        On whose queue calls arrive.
    core
        Where they come from.
    slots
        How many calls can be served at once.
    max_waiting
        Calls that may wait; one more is refused with RESOURCE_EXHAUSTED. Where this is more than there is
        room for here, the others wait in core, which refuses in its own way. 0 leaves all waiting to core:
        with several executors for a method a call might wait here for one while another is idle.
    max_seconds
        How long a call may wait; then it is refused with UNAVAILABLE when its turn comes.
    clock
        Measures how long.

    Attributes
    ----------
    refused
        Calls that were refused.
    """

    def __init__(
        self,
        path: str,
        executor: Executor,
        core: CoreServer,
        *,
        slots: int,
        max_waiting: int,
        max_seconds: float,
        clock: Clock = monotonic,
    ) -> None:
        self.path = path
        self._executor = executor
        self._core = core
        self._room = min(max_waiting, max(slots, _ROOM))
        # One more is taken from core only to be refused, where no more may wait in core.
        self._asked = slots + self._room + (0 < self._room == max_waiting)
        self._longest = int(max_seconds * NANOSECONDS)
        self._clock = clock
        self._free: list[Slot] = []
        self._waiting: deque[tuple[Any, int]] = deque()
        self._closed = False
        self.refused = 0

    def __len__(self) -> int:
        """Return how many calls wait here. From any thread."""
        return len(self._waiting)

    def open(self, slots: Sequence[Slot]) -> None:
        """Ask core for calls for these slots."""
        self._free = list(slots)
        for _ in range(self._asked):
            self._executor.occupy()
            self._ask()

    def free(self, slot: Slot) -> None:
        """Give a slot its next call. The slot's last call is over."""
        self._ask()
        while self._waiting:
            try:
                event, arrived = self._waiting.popleft()
            except IndexError:  # `close` was faster
                break
            waited = self._clock() - arrived
            if waited <= self._longest:
                slot.serve(event, arrived, waited)
                return
            self._refuse(event, Code.UNAVAILABLE, f"no context of {self.path} became free in time")
        self._free.append(slot)

    def close(self) -> None:
        """Refuse the calls that wait, and those that would: the server is stopping. From any thread."""
        self._closed = True
        while self._waiting:
            try:
                event, _arrived = self._waiting.popleft()
            except IndexError:  # `free` was faster
                break
            self._refuse(event, Code.UNAVAILABLE, "the server is shutting down")

    def _ask(self) -> None:
        if not self._core.request(self.path, self._executor.queue, self._arrived):
            self._executor.vacate()  # the server is shutting down

    def _arrived(self, event: Any) -> None:
        if not event.success:
            self._executor.vacate()
        elif self._free:
            self._free.pop().serve(event, self._clock(), 0)
        elif len(self._waiting) == self._room:
            text = f"{len(self._waiting)} calls of {self.path} wait for a context, and no more may"
            self._refuse(event, Code.RESOURCE_EXHAUSTED, text)
        else:
            self._waiting.append((event, self._clock()))
            if self._closed:
                self.close()

    def _refuse(self, event: Any, code: Code, details: str) -> None:
        self.refused += 1
        ServerCall(event).finish(code, details, (), done=lambda _: self._ask())
