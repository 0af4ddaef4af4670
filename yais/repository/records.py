"""Records of models: what was last done about each, and which need which."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from yais.core.future import Future
from yais.errors import YaisError
from yais.repository.entry import LoadedModel
from yais.repository.loader import LoadPlan
from yais.repository.source import Source

__all__ = ["Attempt", "Record", "dependants", "reaches", "served_needs"]


@dataclass(frozen=True, slots=True, eq=False)
class Attempt:
    """What it was tried to load a model from.

    Attributes
    ----------
    plan
        None if the source could not be read.
    found
        Keys of the models that it needs, as they were then; None for one that was not there.
    """

    source: Source
    plan: LoadPlan | None = None
    found: tuple[object | None, ...] = ()

    @property
    def needs(self) -> frozenset[str]:
        """Names of the models that it needs."""
        return frozenset(name for name, _ in self.plan.needs) if self.plan else frozenset()


@dataclass(slots=True, eq=False)
class Record:
    """What a repository remembers of a model.

    Attributes
    ----------
    turn
        Held while something is done about the model; first come, first served.
    holders
        Who has the turn, or waits for it.
    tried
        What was tried last; None when there was nothing.
    error
        Why that did not work.
    good
        What was loaded last, until somebody unloads it.
    loaded
        What serves; empty if `good` has lost what it needs.
    leaving
        Of what serves no more, what it needs, and the future that is done when it is freed.
    wanted
        Whether it was asked for itself, not only by a model that needs it.
    """

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    holders: int = 0
    tried: Attempt | None = None
    error: YaisError | None = None
    good: Attempt | None = None
    loaded: tuple[LoadedModel, ...] = ()
    leaving: list[tuple[Future[bool], frozenset[str]]] = field(default_factory=list)
    wanted: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """Names of the models that what serves needs, or what is to be loaded."""
        attempts = (self.tried, self.good if self.loaded else None)
        return frozenset().union(*(attempt.needs for attempt in attempts if attempt is not None))

    @property
    def blank(self) -> bool:
        """Whether there is nothing to remember, and nobody here."""
        return not (self.holders or self.tried or self.good or self.leaving)


def dependants(records: Mapping[str, Record], name: str) -> list[str]:
    """Return the models that need this one, and are loaded or are to be."""
    return sorted(other for other, record in records.items() if name in record.needs)


def served_needs(records: Mapping[str, Record]) -> dict[str, frozenset[str]]:
    """Return what the models that serve need, for each that does."""
    return {name: record.good.needs for name, record in records.items() if record.loaded and record.good}


def reaches(waits: Mapping[str, Iterable[str]], start: Iterable[str], goal: str) -> bool:
    """Return whether one who waits for any of `start` waits for `goal`, too."""
    seen: set[str] = set()
    todo = list(start)
    while todo:
        name = todo.pop()
        if name == goal:
            return True
        if name not in seen:
            seen.add(name)
            todo.extend(waits.get(name, ()))
    return False
