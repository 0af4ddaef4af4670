"""The versions of a model, loaded side by side: all of them, or none."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from yais.core.thread_pool import ThreadPool
from yais.repository.entry import ModelEntry, ModelState
from yais.repository.loader import LoadPlan, ModelLoader
from yais.repository.outcomes import models_of, reason_of
from yais.repository.retirement import Retirement
from yais.repository.source import Source

__all__ = ["VersionLoader"]


class VersionLoader:
    """Loads versions of models on the threads of a pool. Only used on one event loop."""

    def __init__(self, loader: ModelLoader, retirement: Retirement, pool: ThreadPool) -> None:
        self._loader = loader
        self._retirement = retirement
        self._pool = pool

    async def load(self, source: Source, plan: LoadPlan) -> tuple[list[ModelEntry], list[tuple[str, str]]]:
        """Load what is planned.

        Returns
        -------
        tuple
            The entries of the versions if all are ready; else none, and why each is not.
        """
        outcomes = await asyncio.gather(*(self._in_pool(source, plan, version) for version in plan.versions))
        made = [outcome for outcome in outcomes if isinstance(outcome, ModelEntry)]
        failures = [
            (str(version), outcome)
            for version, outcome in zip(plan.versions, outcomes, strict=True)
            if isinstance(outcome, str)
        ]
        if failures:
            self.drop(source, made)
            text = f"it is not loaded without version {failures[0][0]}"
            return [], failures + [(entry.version, text) for entry in made]
        return made, []

    def drop(self, source: Source, made: list[ModelEntry]) -> None:
        """Free versions that are not wanted, and what they were loaded from."""
        if made:
            self._retirement.retire(models_of(made), lambda: None)
        else:
            source.discard()

    async def _in_pool(self, source: Source, plan: LoadPlan, version: int) -> ModelEntry | str:
        return await asyncio.wrap_future(self._pool.submit(partial(self._attempt, source, plan, version)))

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
