"""Which of several members may have the resources that they share: a pure state machine.

A member takes all that its needs say, or waits. Who waits is granted its needs in the order of the ranks: its
executions so far times its weight, the lowest first, and among equals who has waited longest. That is
Triton's order (`rate_limiter.cc`, scaled priority).

Triton looks at the first in that order alone: while it does not fit, nobody is granted anything. Here others
may go ahead with what it does not need: what is free of its needs is set aside for it, and the next ones are
granted what is left. So resources are not idle while somebody could use them, but for those that are being
collected for one of a better rank, who therefore gets them after the executions that hold the rest.
"""

from __future__ import annotations

import enum
from bisect import insort
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Member", "Phase", "Resource", "ResourceQueue"]


class Resource(NamedTuple):
    """Something that executions use a number of.

    Attributes
    ----------
    device
        Where it is; None for what the whole server shares.
    """

    name: str
    device: str | None


class Phase(enum.Enum):
    """Where a member stands."""

    IDLE = "idle"
    """It has and wants nothing."""
    WAITING = "waiting"
    GRANTED = "granted"
    """It waited, and its needs are kept for it until it acquires or releases them."""
    RUNNING = "running"
    REMOVED = "removed"
    """It is granted nothing any more."""


class Member:
    """One that takes resources for one execution after another.

    Attributes
    ----------
    needs
        How many of each resource an execution takes.
    weight
        Of two members who always want to run, the one of weight 2 runs half as often as that of weight 1.
    executions
        How often it has run.
    arrival
        Its place in the order in which members began to wait.
    """

    __slots__ = ("arrival", "executions", "needs", "phase", "weight")

    def __init__(self, needs: Mapping[Resource, int], weight: int = 1) -> None:
        self.needs = {resource: count for resource, count in needs.items() if count}
        self.weight = weight
        self.executions = 0
        self.arrival = 0
        self.phase = Phase.IDLE

    @property
    def rank(self) -> tuple[int, int]:
        """The lower, the sooner it is granted its needs; does not change while it waits."""
        return self.weight * self.executions, self.arrival


class ResourceQueue:
    """Who has resources, and who waits for them; see the module. Not thread-safe.

    Attributes
    ----------
    waiting
        Those who wait, in the order of their ranks.
    used
        What is held, also by those who were granted it and have not come for it.
    """

    def __init__(self) -> None:
        self.waiting: list[Member] = []
        self.used: Counter[Resource] = Counter()
        self._available: Mapping[Resource, int] = {}
        self._arrivals = 0

    def change(self, available: Mapping[Resource, int]) -> list[Member]:
        """Set how much there is of each resource that is needed; return who is granted.

        No member may need more. If there is less of something than is held, nobody is granted any before
        enough came back.
        """
        self._available = available
        return self._grant()

    def remove(self, member: Member) -> None:
        """Take back what a member holds, or its place in the queue; then `change` must be called."""
        self._leave(member)
        member.phase = Phase.REMOVED

    def acquire(self, member: Member) -> bool:
        """Return whether a member may execute; if not, it waits, and is granted its needs once.

        Nobody else is granted anything by this.

        Raises
        ------
        ValueError
            It executes already.
        """
        if member.phase is Phase.RUNNING:
            raise ValueError("got an acquisition by a member that executes, expected a release first")
        if member.phase is Phase.GRANTED:
            member.phase = Phase.RUNNING
        elif member.phase is Phase.IDLE:
            self._join(member)
            if self._grant():
                member.phase = Phase.RUNNING
        return member.phase is Phase.RUNNING

    def release(self, member: Member, *, ran: bool, again: bool) -> list[Member]:
        """Take back what a member holds, or its place in the queue; return who is granted something.

        Parameters
        ----------
        ran
            Whether it has executed, if it could.
        again
            Whether it waits anew, and is one of those of whom the next is chosen: perhaps itself.
        """
        if member.phase is Phase.REMOVED:
            return []
        member.executions += ran and member.phase is Phase.RUNNING
        self._leave(member)
        member.phase = Phase.IDLE
        if again:
            self._join(member)
        return self._grant()

    def _join(self, member: Member) -> None:
        self._arrivals += 1
        member.arrival = self._arrivals
        member.phase = Phase.WAITING
        insort(self.waiting, member, key=_rank)

    def _leave(self, member: Member) -> None:
        if member.phase is Phase.WAITING:
            self.waiting.remove(member)
        elif member.phase in {Phase.GRANTED, Phase.RUNNING}:
            self.used.subtract(member.needs)

    def _grant(self) -> list[Member]:
        granted = []
        left: dict[Resource, int] = {}
        for member in self.waiting:
            fits = True
            for resource, count in member.needs.items():
                free = left.get(resource)
                if free is None:
                    free = self._available[resource] - self.used[resource]
                left[resource] = free - count
                fits = fits and free >= count
            if fits:
                granted.append(member)
        for member in granted:
            member.phase = Phase.GRANTED
            self.waiting.remove(member)
            self.used.update(member.needs)
        return granted


def _rank(member: Member) -> tuple[int, int]:
    return member.rank
