"""The lifecycle of models: loaded, replaced, unloaded, each with those that need it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol, TypeVar

from yais.core.future import Future
from yais.core.thread_pool import ThreadPool
from yais.errors import NotFound, YaisError
from yais.repository.dependencies import Dependencies, lacks
from yais.repository.entry import ModelEntry
from yais.repository.loader import LoadPlan, ModelLoader
from yais.repository.outcomes import LoadOutcomes
from yais.repository.records import Attempt, Record, dependants, reaches, served_needs
from yais.repository.retirement import Retirement
from yais.repository.snapshot import Snapshot, changes
from yais.repository.source import Source
from yais.repository.table import ModelTable
from yais.repository.version_loader import VersionLoader

__all__ = ["FindSource", "ModelLifecycle"]

T = TypeVar("T")


class FindSource(Protocol):
    """Finds what a name stands for in the directories."""

    def __call__(self, name: str, config: str | None = None) -> Source:
        """Return it, with a configuration that is to be taken instead of the file; raise YaisError."""


class ModelLifecycle:
    """Changes a table of models. All of it runs on one event loop; what takes time runs on two pools.

    What is done about one model is done in the order asked for. Who needs others waits for them with its own
    turn held, and nobody waits in a circle: `_waits` says who waits for whom.

    Parameters
    ----------
    load_pool, file_pool
        Where models are loaded, and where directories are looked at: that never waits for a model.
    loads_needed
        Whether a model that others need is loaded for them, if nobody has asked for it.
    """

    def __init__(
        self,
        loader: ModelLoader,
        table: ModelTable,
        retirement: Retirement,
        outcomes: LoadOutcomes,
        load_pool: ThreadPool,
        file_pool: ThreadPool,
        find_source: FindSource,
        *,
        loads_needed: bool,
    ) -> None:
        self._loader = loader
        self._table = table
        self._versions = VersionLoader(loader, retirement, load_pool)
        self._outcomes = outcomes
        self._file_pool = file_pool
        self._find_source = find_source
        self._loads_needed = loads_needed
        self._records: dict[str, Record] = {}
        self._dependencies = Dependencies(table, self._records)
        self._waits: dict[str, frozenset[str]] = {}

    async def load(self, name: str, make_source: Callable[[], Source] | None = None) -> None:
        """Load a model, or load it anew if what it is made from has changed; try again what has failed.

        Parameters
        ----------
        make_source
            Returns what to load it from, and raises YaisError; by default what the directories say.

        Raises
        ------
        Internal
            There is no such model, or its configuration cannot be read.
        InvalidArgument
            A version of it cannot be loaded.
        """
        changed: set[str] = set()
        async with self._turn(name) as record:
            record.wanted = True
            await self._renew(name, record, make_source, changed, retry=True)
            error = record.error
        await self._refresh(changed)
        if error is not None:
            raise type(error)(str(error))

    async def load_all(self, names: list[str]) -> None:
        """Load models side by side. One that cannot be loaded keeps no other from it."""
        outcomes = await asyncio.gather(*(self.load(name) for name in names), return_exceptions=True)
        for name, outcome in zip(names, outcomes, strict=True):
            if isinstance(outcome, YaisError) and not self._outcomes.known(name):
                self._outcomes.fail(name, [("", str(outcome))])

    async def follow(self, found: Mapping[str, Snapshot]) -> None:
        """Make the models what their directories say, but for those that something is being done about."""
        busy = {name for name, record in self._records.items() if record.holders}
        tried = {
            name: record.tried.source.snapshot
            for name, record in self._records.items()
            if record.tried is not None and name not in busy
        }
        # Somebody may have asked for what was not there at all.
        failed = {entry.name for entry in self._table.entries if not entry.as_wanted} - busy
        tried = dict.fromkeys(failed, Snapshot()) | tried
        change = changes(tried, {name: now for name, now in found.items() if name not in busy})
        loads = [self.load(name) for name in sorted(change.load)]
        unloads = [self.unload(name) for name in sorted(change.unload)]
        await asyncio.gather(*loads, *unloads, return_exceptions=True)  # the entries say what went wrong

    async def unload(self, name: str, *, dependents: bool = False) -> None:
        """Let a model take no more requests; it is freed once those in flight have ended.

        Models that need it are unloaded first, with a reason that says so.

        Parameters
        ----------
        dependents
            Whether models that only it has needed, and that nobody has asked for, are unloaded, too.
        """
        async with self._turn(name) as record:
            await self._free_dependants(name)
            needs = record.needs
            self._outcomes.withdraw(name, record)
            record.tried = record.good = record.error = None
            record.wanted = False
        if not dependents:
            return
        for needed in sorted(needs):
            if self._needless(needed):
                await self.unload(needed, dependents=True)  # once the requests of this one have ended

    def _needless(self, name: str) -> bool:
        record = self._records.get(name)
        waited_for = frozenset().union(*self._waits.values())
        return not (record is None or record.wanted or name in waited_for or dependants(self._records, name))

    async def _free_dependants(self, name: str) -> None:
        """Withdraw the models that need one, and wait until the requests of all that did have ended."""
        while True:
            loaded = [other for other, needs in served_needs(self._records).items() if name in needs]
            for other in loaded:
                await self._free_dependants(other)
                if (record := self._records[other]).loaded:
                    self._outcomes.lost(other, record, lacks(other, name))
            ending = [
                freed
                for record in self._records.values()
                for freed, needs in record.leaving
                if name in needs and not freed.done()
            ]
            if not (loaded or ending):
                return
            await _all_done(ending)

    async def _bring(self, name: str, changed: set[str]) -> None:
        """Bring a model up to its source, that nobody asks for right now."""
        async with self._turn(name) as record:
            await self._renew(name, record, partial(self._known_source, name, record), changed)

    async def _renew(
        self,
        name: str,
        record: Record,
        make_source: Callable[[], Source] | None,
        changed: set[str],
        *,
        retry: bool = False,
    ) -> None:
        """Bring a model up to a source; note in `changed` what serves otherwise than before."""
        try:
            source = await self._look(make_source or partial(self._find_source, name))
        except Exception as error:
            return self._outcomes.unread(name, record, None, error)
        tried, good = record.tried, record.good
        failed = tried is not None and tried.source == source and record.error is not None
        if tried is not None and failed and not (retry or self._dependencies.outdated(tried)):
            return None
        same = good if good is not None and good.source == source else None
        try:
            plan = same.plan if same else None
            if plan is None:
                plan = await self._look(partial(self._loader.plan, source))
        except Exception as error:
            return self._outcomes.unread(name, record, source, error)
        await self._bring_needed(name, plan, changed)
        if same and record.loaded and not self._dependencies.outdated(same):
            return self._outcomes.settle(name, record)
        if await self._load(name, record, Attempt(source, plan, self._dependencies.found(plan)), plan):
            changed.add(name)
        return None

    async def _bring_needed(self, name: str, plan: LoadPlan, changed: set[str]) -> None:
        """Wait for the models that one needs, loading them if need be."""
        needs = frozenset(needed for needed, _ in plan.needs)
        if not needs or reaches(self._waits, needs, name):
            return  # in a circle, none is ever there
        self._waits[name] = needs
        try:
            known = [needed for needed in sorted(needs) if self._loads_needed or needed in self._records]
            await asyncio.gather(*(self._bring(needed, changed) for needed in known))
        finally:
            del self._waits[name]

    async def _load(self, name: str, record: Record, attempt: Attempt, plan: LoadPlan) -> bool:
        """Load all versions; return whether what serves is another now, or nothing."""
        record.tried = attempt
        made: list[ModelEntry] = []
        failures: list[tuple[str, str]] = []
        lack = self._dependencies.lack(name, plan)
        if not lack:
            for version in plan.versions:
                self._outcomes.begin(name, str(version))
            made, failures = await self._versions.load(attempt.source, plan)
            lack = self._dependencies.lack(name, plan)  # it may have gone meanwhile
            if not (lack or failures):
                return self._outcomes.serve(name, record, made)
        if not failures:
            self._versions.drop(attempt.source, made)
        # If what it needs has changed, what serves does not fit it any more.
        unfit = record.good is not None and self._dependencies.outdated(record.good)
        changed = unfit and self._outcomes.withdraw(name, record)
        failures = failures or [(str(version), lack) for version in plan.versions]
        self._outcomes.failed(name, record, failures)
        return changed

    async def _refresh(self, changed: set[str]) -> None:
        """Look again at the models that need some which have changed."""
        while changed:
            others = {other for name in changed for other in dependants(self._records, name)}
            changed = set()
            for other in sorted(others):
                await self._bring(other, changed)

    def _known_source(self, name: str, record: Record) -> Source:
        """Return what a model is made from: as a client wanted it, if so."""
        source = record.good.source if record.good is not None else None
        if source is None or source.uploaded is None:
            return self._find_source(name, source.config if source is not None else None)
        if not record.loaded:
            raise NotFound(f"the files that a client has sent for model '{name}' are gone")
        return source

    @asynccontextmanager
    async def _turn(self, name: str) -> AsyncIterator[Record]:
        record = self._records.setdefault(name, Record())
        record.holders += 1
        try:
            async with record.turn:
                yield record
        finally:
            record.holders -= 1
            if record.blank:  # a name that stands for nothing; anybody may ask for any number of them
                del self._records[name]

    async def _look(self, call: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._file_pool.submit(call))


async def _all_done(futures: list[Future[bool]]) -> None:
    for future in futures:
        await asyncio.wrap_future(future)
