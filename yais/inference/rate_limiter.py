"""The rate limiter: which instances may run while resources that models share are short.

Resources are names with counts: they mean what the configurations of the models say. The order in which
instances get them is that of `yais.inference.resource_queue`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from yais.inference.resource_limits import ResourceLimits
from yais.inference.resource_queue import Member, Resource, ResourceQueue

__all__ = ["Permits", "RateLimiter", "RateNeeds"]

_logger = logging.getLogger("yais.rate_limiter")


@dataclass(frozen=True, slots=True)
class RateNeeds:
    """What every batch of one instance takes while it runs.

    Attributes
    ----------
    resources
        How many of each, by name.
    priority
        Of two instances that always have work, the one of priority 2 runs half as often as that of
        priority 1; 0 means 1.
    shared
        Those of the names that the whole server has one stock of; of the others each device has its own.
    device
        Where the instance runs.

    Raises
    ------
    ValueError
        A number is negative, or `shared` has a name that `resources` lacks.
    """

    resources: Mapping[str, int]
    priority: int = 0
    shared: frozenset[str] = frozenset()
    device: str = ""

    def __post_init__(self) -> None:
        for name, count in self.resources.items():
            if count < 0:
                raise ValueError(f'got {count} of resource "{name}", expected 0 or more')
        if self.priority < 0:
            raise ValueError(f"got a priority of {self.priority}, expected 0 or more")
        if unknown := sorted(self.shared - self.resources.keys()):
            raise ValueError(f"got shared resources {unknown}, expected some of {sorted(self.resources)}")


class Permits:
    """The right of one instance to run its batches, one at a time; see `RateLimiter`. Thread-safe."""

    def __init__(self, limiter: RateLimiter, name: str, member: Member, on_grant: Callable[[], None]) -> None:
        self.name = name
        self._limiter = limiter
        self._member = member
        self._on_grant = on_grant

    def __repr__(self) -> str:
        needs = ", ".join(f"{count} {resource.name}" for resource, count in self._member.needs.items())
        return (
            f"<Permits of {self.name} ({needs or 'nothing'}): {self._member.phase.value}, "
            f"{self._member.executions} executions>"
        )

    def try_acquire(self) -> bool:
        """Take what a batch needs; if False, `on_grant` is called once when that is kept for it.

        From then on until `release` nobody else gets it, so whoever is called back calls this, which then
        succeeds, or `release` if there is no work any more. Always False once unregistered. Calls nobody
        back, so that locks may be held.

        Raises
        ------
        ValueError
            There was no `release` since it last succeeded.
        """
        with self._limiter._lock:
            return self._limiter._queue.acquire(self._member)

    def release(self, *, ran: bool = True, again: bool = False) -> bool:
        """Give back what was taken or is kept, or wait no longer; without either, do nothing.

        May call others back: hold no lock that they take.

        Parameters
        ----------
        ran
            Whether a batch has run: it counts for the rank.
        again
            Whether there is more work. Without this what comes back goes to others before `try_acquire` can
            be called, whatever their rank.

        Returns
        -------
        bool
            Whether its needs are kept for it anew. If there is more work and they are not, `on_grant` is
            called as after `try_acquire`.
        """
        limiter = self._limiter
        with limiter._lock:
            granted = limiter._queue.release(self._member, ran=ran, again=again)
            called = limiter._permits_of(member for member in granted if member is not self._member)
            kept = self._member in granted
        _call(called)
        return kept


class RateLimiter:
    """Lends resources to instances of all models. Thread-safe.

    Parameters
    ----------
    available
        How many there are: by name, on each device or in the whole server; or by name and device. Of what is
        not named there is as much as the instance that needs most of it needs.
    """

    def __init__(self, available: Mapping[str | tuple[str, str], int] | None = None) -> None:
        self._limits = ResourceLimits(available or {})
        self._lock = threading.Lock()
        self._queue = ResourceQueue()
        self._permits: dict[Member, Permits] = {}
        self._available: dict[Resource, int] = {}

    def __repr__(self) -> str:
        with self._lock:
            used = ", ".join(
                f"{self._queue.used[resource]} of {count} {resource.name}"
                + (f" on {resource.device}" if resource.device else "")
                for resource, count in self._available.items()
            )
            instances, waiting = len(self._permits), len(self._queue.waiting)
        return f"<RateLimiter of {instances} instances: {used or 'no resources'} in use, {waiting} waiting>"

    def register(self, name: str, needs: RateNeeds, on_grant: Callable[[], None]) -> Permits:
        """Return the permits of an instance.

        Parameters
        ----------
        name
            Of the instance, for people.
        on_grant
            Called without locks, on whichever thread gave back what it waited for, once for each wait that
            `Permits.try_acquire` or `Permits.release` has begun, unless `release` ended it.

        Raises
        ------
        InvalidArgument
            It needs more than there is, or shares with the whole server what others have on each device.
            The texts are Triton's.
        """
        member = Member(_located(needs), max(1, needs.priority))
        permits = Permits(self, name, member, on_grant)
        with self._lock:
            available = self._limits.available([*self._permits, member])
            self._permits[member] = permits
            called = self._change(available)
        _call(called)
        return permits

    def unregister(self, permits: Permits) -> None:
        """Take back all that an instance holds; it is granted nothing any more. Idempotent."""
        with self._lock:
            if self._permits.pop(permits._member, None) is None:
                return
            self._queue.remove(permits._member)
            called = self._change(self._limits.available(self._permits))
        _call(called)

    def _change(self, available: dict[Resource, int]) -> list[Permits]:
        self._available = available
        return self._permits_of(self._queue.change(available))

    def _permits_of(self, members: Iterable[Member]) -> list[Permits]:
        return [self._permits[member] for member in members]


def _located(needs: RateNeeds) -> dict[Resource, int]:
    return {
        Resource(name, None if name in needs.shared else needs.device): count
        for name, count in needs.resources.items()
    }


def _call(granted: Iterable[Permits]) -> None:
    for permits in granted:
        try:
            permits._on_grant()
        except Exception:
            _logger.exception("%r: what it calls when it is granted failed", permits)
