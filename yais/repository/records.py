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

__all__ = ["Record", "dependants", "reaches"]


@dataclass(slots=True, eq=False)
class Record:
    """What a repository remembers of a model.

    Attributes
    ----------
    turn
        Held while something is done about the model; first come, first served.
    source, plan
        What was tried last; None when there was nothing, or it could not be read.
    error
        Why that did not work.
    lacking
        Whether a model that it needs is not there, or has changed since.
    loaded
        What serves, which may be older.
    freed
        Done when what was unloaded last is freed.
    wanted
        Whether it was asked for itself, not only by a model that needs it.
    """

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    source: Source | None = None
    plan: LoadPlan | None = None
    error: YaisError | None = None
    lacking: bool = False
    loaded: tuple[LoadedModel, ...] = ()
    freed: Future[None] | None = None
    wanted: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """Names of the models that it needs."""
        return frozenset(name for name, _ in self.plan.needs) if self.plan else frozenset()


def dependants(records: Mapping[str, Record], name: str) -> list[str]:
    """Return the models that need this one, and are loaded or would be but for what they need."""
    return sorted(
        other
        for other, record in records.items()
        if name in record.needs and (record.loaded or record.lacking)
    )


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
