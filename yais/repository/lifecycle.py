"""The lifecycle of models: loaded, replaced, unloaded, each with those that need it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

from yais.core.thread_pool import ThreadPool
from yais.errors import InvalidArgument, NotFound, Unavailable, YaisError
from yais.repository.entry import ModelEntry, ModelState
from yais.repository.loader import LoadPlan, ModelLoader
from yais.repository.outcomes import LoadOutcomes, models_of, reason_of
from yais.repository.records import Record, dependants, reaches
from yais.repository.retirement import Retirement
from yais.repository.snapshot import Snapshot, changes
from yais.repository.source import Source
from yais.repository.table import ModelTable

__all__ = ["ModelLifecycle"]

T = TypeVar("T")

_NONE = "which has no loaded version"


class ModelLifecycle:
    """Changes a table of models. All of it runs on one event loop; what takes time runs on a pool.

    What is done about one model is done in the order asked for. Who needs others waits for them with its own
    turn held, and nobody waits in a circle: `_waits` says who waits for whom.

    Parameters
    ----------
    find_source
        Returns what a name stands for in the directories; raises NotFound.
    loads_needed
        Whether a model that others need is loaded for them, if nobody has asked for it.
    """

    def __init__(
        self,
        loader: ModelLoader,
        table: ModelTable,
        retirement: Retirement,
        outcomes: LoadOutcomes,
        pool: ThreadPool,
        find_source: Callable[[str], Source],
        *,
        loads_needed: bool,
    ) -> None:
        self._loader = loader
        self._table = table
        self._retirement = retirement
        self._outcomes = outcomes
        self._pool = pool
        self._find_source = find_source
        self._loads_needed = loads_needed
        self._records: dict[str, Record] = {}
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
        changed = await self._bring(name, make_source, retry=True, wanted=True)
        error = self._record(name).error
        if changed:
            await self._refresh(name)
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
        tried = {
            name: record.source.snapshot
            for name, record in self._records.items()
            if record.source is not None and not record.turn.locked()
        }
        idle = {name: now for name, now in found.items() if not self._record(name).turn.locked()}
        change = changes(tried, idle)
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
        record = self._records.get(name)
        if record is None:
            return
        async with record.turn:
            await self._free_dependants(name)
            needs = record.needs
            self._outcomes.withdraw(name, record)
            record.source = record.plan = record.error = None
            record.lacking = record.wanted = False
        if not dependents:
            return
        await _ended(record)  # its requests still use what it needs
        for needed in sorted(needs):
            other = self._records.get(needed)
            if other is not None and not other.wanted and not dependants(self._records, needed):
                await self.unload(needed, dependents=True)

    async def _free_dependants(self, name: str) -> None:
        """Withdraw the models that need one, and wait until their requests have ended."""
        while self._take_down_dependants(name):
            for other in dependants(self._records, name):
                await _ended(self._records[other])

    async def _bring(
        self,
        name: str,
        make_source: Callable[[], Source] | None = None,
        *,
        retry: bool = False,
        wanted: bool = False,
    ) -> bool:
        """Bring a model up to its source; return whether what serves is another now."""
        record = self._record(name)
        async with record.turn:
            record.wanted = record.wanted or wanted
            try:
                source = await self._in_pool(make_source or partial(self._source, name, record))
            except Exception as error:
                return self._outcomes.unread(name, record, None, error)
            same = source == record.source
            if same and record.error is not None and not (retry or record.lacking):
                return False
            plan = record.plan if same and record.error is None else None
            try:
                if plan is None:
                    plan = await self._in_pool(partial(self._loader.plan, source))
            except Exception as error:
                return self._outcomes.unread(name, record, source, error)
            changed = await self._bring_needed(name, plan)
            if same and record.error is None and record.loaded and not (changed or record.lacking):
                return False
            record.source, record.plan = source, plan
            return await self._load(name, record, source, plan)

    async def _bring_needed(self, name: str, plan: LoadPlan) -> bool:
        """Wait for the models that one needs, loading them if need be; return whether any has changed."""
        needs = frozenset(needed for needed, _ in plan.needs)
        if not needs or reaches(self._waits, needs, name):
            return False  # in a circle, none is ever there
        self._waits[name] = needs
        try:
            known = [needed for needed in sorted(needs) if self._loads_needed or needed in self._records]
            return any(await asyncio.gather(*(self._bring(needed) for needed in known)))
        finally:
            del self._waits[name]

    async def _load(self, name: str, record: Record, source: Source, plan: LoadPlan) -> bool:
        if lack := self._lack(name, plan):
            source.discard()
            return self._outcomes.lost(name, record, lack)
        versions = [str(version) for version in plan.versions]
        for version in versions:
            self._outcomes.begin(name, version)
        outcomes = await asyncio.gather(
            *(self._in_pool(partial(self._attempt, source, plan, version)) for version in plan.versions)
        )
        made = [outcome for outcome in outcomes if isinstance(outcome, ModelEntry)]
        failures = [
            (version, outcome)
            for version, outcome in zip(versions, outcomes, strict=True)
            if isinstance(outcome, str)
        ]
        lack = self._lack(name, plan)  # it may have gone meanwhile
        if not failures and not lack:
            return self._outcomes.serve(name, record, made)
        if made:
            self._retirement.retire(models_of(made), lambda: None)
        else:
            source.discard()
        if not failures:
            return self._outcomes.lost(name, record, lack)
        text = f"it is not loaded without version {failures[0][0]}"
        failures += [(entry.version, text) for entry in made]
        # What it needs has changed, so what serves does not fit it any more.
        changed = record.lacking and self._outcomes.withdraw(name, record)
        self._outcomes.failed(name, record, failures, lacking=record.lacking)
        return changed

    def _attempt(self, source: Source, plan: LoadPlan, version: int) -> ModelEntry | str:
        """Load a version, on a thread of the pool; return why it cannot be, if so."""
        start = time.monotonic()
        try:
            loaded = self._loader.load(plan, version)
        except BaseException as error:  # a model may exit, too, and only ends itself with it
            return reason_of(error)
        if not self._retirement.admit(loaded, source):
            return "the repository is closed"
        seconds = time.monotonic() - start
        return ModelEntry(plan.directory.name, str(version), ModelState.READY, "", loaded, seconds)

    def _lack(self, name: str, plan: LoadPlan) -> str:
        """Return which model that one needs is not there; empty if all are."""
        for needed, version in plan.needs:
            try:
                self._table.find(needed, version)
            except (NotFound, Unavailable, InvalidArgument):
                which = f"whose required version {version} is not loaded" if version else _NONE
                return f"ensemble '{name}' depends on '{needed}' {which}"
        return ""

    def _take_down_dependants(self, name: str) -> bool:
        """Withdraw the loaded models that need one; return whether there were any."""
        found = False
        for other in dependants(self._records, name):
            record = self._records[other]
            if record.loaded:
                found = True
                self._take_down_dependants(other)
                text = f"ensemble '{other}' depends on '{name}' {_NONE}"
                self._outcomes.lost(other, record, text)
        return found

    async def _refresh(self, name: str) -> None:
        """Look again at the models that need one which has changed."""
        for other in dependants(self._records, name):
            self._records[other].lacking = True  # so that it is tried again, if only to be checked
            if await self._bring(other):
                await self._refresh(other)

    def _source(self, name: str, record: Record) -> Source:
        """Return what a model is made from that nobody asks for right now: as a client wanted it, if so."""
        if record.loaded and record.source is not None and record.source.config is not None:
            return record.source
        return self._find_source(name)

    def _record(self, name: str) -> Record:
        return self._records.setdefault(name, Record())

    async def _in_pool(self, call: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._pool.submit(call))


async def _ended(record: Record) -> None:
    if record.freed is not None:
        await asyncio.wrap_future(record.freed)
