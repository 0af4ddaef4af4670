"""Which sequences of one instance run next: the two strategies of the sequence batcher.

Both look at the sequences that have a request to run, the one that has waited longest first, and are given
no time to look at any that is not there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from yais.inference.scheduling.live_sequence import LiveSequence
from yais.inference.scheduling.queue import CloseReason
from yais.inference.scheduling.sequence_policy import SequencePolicy, Strategy

__all__ = ["Choice", "DirectChoice", "OldestChoice", "Ready", "choice_of"]


class Ready(NamedTuple):
    """A sequence with a request that could run now; sorted, the one that has waited longest comes first.

    Attributes
    ----------
    queued
        Since when its first request waits, ns.
    number
        Differs for any two, and grows.
    """

    queued: int
    number: int
    sequence: LiveSequence


class Choice(Protocol):
    """Decides which of an instance's sequences run together."""

    def take(self, ready: Sequence[Ready], now: int) -> tuple[list[Ready], CloseReason] | None:
        """Return those whose first requests start at `now`, in the order of `ready`; None to wait.

        Parameters
        ----------
        ready
            Of one instance, sorted; at least one.
        """

    def due(self, ready: Sequence[Ready]) -> int:
        """When `take` returns some if nothing else comes, ns; it may have passed."""

    def full(self, ready: Sequence[Ready]) -> bool:
        """Whether there are enough for the largest batch."""

    def hurry(self) -> None:
        """Wait for nothing from now on."""


class DirectChoice:
    """All that have a request of the same shapes as the oldest one; see `Choice`.

    As in Triton, a request waits until the share of the slots that have one is large enough, or it has
    waited for `max_delay`. Slots that no sequence has count as empty ones: it is waited for them, too.
    """

    def __init__(self, policy: SequencePolicy) -> None:
        self._slots = policy.slots
        self._max_delay = policy.max_delay
        # Less than by a rounding error: a configuration says the share as a float of 32 bits.
        self._enough = math.ceil(policy.min_utilization * policy.slots - 1e-5)

    def take(self, ready: Sequence[Ready], now: int) -> tuple[list[Ready], CloseReason] | None:
        """Return those that run; see `Choice`."""
        waits = self._max_delay and self._enough
        if waits and len(ready) < self._enough and now - ready[0].queued < self._max_delay:
            return None
        group = ready[0].sequence.items[0].group
        taken = [entry for entry in ready if entry.sequence.items[0].group == group]
        if len(taken) == self._slots:
            return taken, CloseReason.FULL
        if len(taken) < len(ready):
            return taken, CloseReason.SHAPE
        if not waits:
            return taken, CloseReason.INSTANCE
        return taken, CloseReason.PREFERRED if len(ready) >= self._enough else CloseReason.DELAY

    def due(self, ready: Sequence[Ready]) -> int:
        """When some run; see `Choice`."""
        return ready[0].queued + (self._max_delay if len(ready) < self._enough else 0)

    def full(self, ready: Sequence[Ready]) -> bool:
        """Whether every slot has a request."""
        return len(ready) >= self._slots

    def hurry(self) -> None:
        """Wait for nothing from now on."""
        self._max_delay = 0


class OldestChoice:
    """The oldest ones, as the dynamic batcher does it: in order, of one shape, of preferred sizes."""

    def __init__(self, policy: SequencePolicy) -> None:
        self._rows = policy.rows
        self._preferred = policy.preferred
        self._max_delay = policy.max_delay

    def take(self, ready: Sequence[Ready], now: int) -> tuple[list[Ready], CloseReason] | None:
        """Return those that run; see `Choice`."""
        group = ready[0].sequence.items[0].group
        count = preferred = 0
        closed = None
        for entry in ready:
            if entry.sequence.items[0].group != group:
                closed = CloseReason.SHAPE
                break
            count += 1
            if count in self._preferred:
                preferred = count
            if count == self._rows:
                closed = CloseReason.FULL
                break
        if preferred:
            whole = preferred == self._rows
            return list(ready[:preferred]), CloseReason.FULL if whole else CloseReason.PREFERRED
        if closed is None and self._max_delay:
            if now - ready[0].queued < self._max_delay:
                return None
            closed = CloseReason.DELAY
        return list(ready[:count]), closed or CloseReason.INSTANCE

    def due(self, ready: Sequence[Ready]) -> int:
        """When some run; see `Choice`."""
        return ready[0].queued + self._max_delay

    def full(self, ready: Sequence[Ready]) -> bool:
        """Whether there are enough for the largest batch."""
        return len(ready) >= self._rows

    def hurry(self) -> None:
        """Wait for nothing from now on."""
        self._max_delay = 0


def choice_of(policy: SequencePolicy) -> Choice:
    """Return what a policy asks for."""
    return DirectChoice(policy) if policy.strategy is Strategy.DIRECT else OldestChoice(policy)
