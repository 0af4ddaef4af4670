"""Homes: the sites of one model's instances, as its scheduler sees them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from yais.core.pool import Lease
from yais.inference.site import Site
from yais.lane import Lane

__all__ = ["Home", "Homes", "Lent"]


class Home:
    """A site that instances are on.

    Attributes
    ----------
    lanes
        Lends its lanes.
    blocked_since
        When a lane was first found to be lacking, ns; None while none is waited for.
    """

    __slots__ = ("blocked_since", "lanes", "site")

    def __init__(self, site: Site) -> None:
        self.site = site
        self.lanes = site.lanes.pool
        self.blocked_since: int | None = None

    def __repr__(self) -> str:
        return f"<Home {self.site}: {self.lanes!r}>"


class Lent(NamedTuple):
    """A lane that was waited for, so many ns."""

    home: Home
    lane: Lease[Lane]
    blocked: int


class Homes:
    """Where the instances of a model are. Not thread-safe, as a scheduler's state.

    Parameters
    ----------
    sites
        Of each instance.
    bound
        Whether what waits may be bound to an instance, as sequences are: then those of a lost site take their
        part, and fail. Else they do only where all sites are lost: what fails at once looks idle.

    Attributes
    ----------
    sole
        The home of all instances; None where they have several.
    """

    def __init__(self, sites: Sequence[Site], *, bound: bool = False) -> None:
        self._bound = bound
        homes = {site: Home(site) for site in sites}
        self._of = [homes[site] for site in sites]
        # The host's is the last: of two that could take a batch, a GPU does.
        self._all = sorted(homes.values(), key=lambda home: home.site.gpu is None)
        self.sole = self._all[0] if len(self._all) == 1 else None

    def of(self, instance: int) -> Home:
        """Return that of an instance."""
        return self._of[instance]

    def holding(self, lane: Lane | None) -> Home | None:
        """Return that whose lane it is; None if there is none."""
        return next((home for home in self._all if lane in home.site.lanes), None)

    def avoided(self, home: Home) -> bool:
        """Whether a home is lost, and others are to be used."""
        return bool(home.site.lost) and not self._bound and not all(each.site.lost for each in self._all)

    def avoiding(self, free: Sequence[int]) -> Sequence[int]:
        """Return the free instances that are of no use, as their home is avoided."""
        return [instance for instance in free if self.avoided(self._of[instance])]

    def idle(self, free: Sequence[int], lent: Lent | None) -> Iterable[tuple[Home, Sequence[int]]]:
        """Return those to use, and their free instances: that of a lent lane first, then the idlest."""
        by_home: dict[Home, list[int]] = {home: [] for home in self._all}
        for instance in free:
            by_home[self._of[instance]].append(instance)
        first = lent.home if lent is not None else None
        found = [(home, those) for home, those in by_home.items() if those and not self.avoided(home)]
        found.sort(key=lambda each: (bool(each[0].site.lost), each[0] is not first, -len(each[1])))
        return found
