"""The model repository: loads models from directories and finds them by name and version."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from yais.core.clock import Deadline
from yais.core.future import Future
from yais.core.loop_thread import LoopThread
from yais.core.thread_pool import ThreadPool
from yais.core.timer import Timer
from yais.errors import NotFound, Unavailable
from yais.inference.rate_limiter import RateLimiter
from yais.inference.response_cache import ResponseCache
from yais.inference.servable import Servable
from yais.inference.sites import Sites
from yais.inference.tokens import Tokens
from yais.lane import Lanes
from yais.repository.control import ControlMode
from yais.repository.directory import check_name, check_not_empty, find_model, find_models
from yais.repository.entry import LoadedModel, ModelEntry, ModelState
from yais.repository.lifecycle import ModelLifecycle
from yais.repository.loader import ConfigDefaults, ModelLoader
from yais.repository.outcomes import LoadOutcomes, Progress
from yais.repository.poller import Poller
from yais.repository.retirement import Retirement
from yais.repository.roots import Roots
from yais.repository.snapshot import snapshot
from yais.repository.source import Source, UploadedFiles
from yais.repository.table import ModelTable

__all__ = ["ControlMode", "LoadedModel", "ModelEntry", "ModelRepository", "ModelState"]

_log = logging.getLogger("yais.repository")

_FILE_THREADS = 2
"""Of their own for looking at directories, so that the index never waits for a model that is loaded."""


class ModelRepository:
    """The models of one or more directories. Thread-safe.

    Parameters
    ----------
    roots
        Directories of model directories.
    lanes, tokens
        What models run with.
    timer
        For their schedulers.
    sites
        Where they run on GPUs; None for models on the host only.
    control
        Who decides which models are loaded.
    poll_seconds
        How often directories are looked at in mode POLL.
    load_threads
        Versions of models that are loaded at once.
    load
        Models to load at the start in mode EXPLICIT; "*" is all that are there.
    defaults
        What is done to all configurations.
    cache
        Of the responses of models that ask for it.
    limiter
        Of the resources that models share.

    Raises
    ------
    ValueError
        A number is too small.
    """

    def __init__(
        self,
        roots: Iterable[Path],
        *,
        lanes: Lanes,
        tokens: Tokens,
        timer: Timer,
        sites: Sites | None = None,
        control: ControlMode = ControlMode.NONE,
        poll_seconds: float = 15.0,
        load_threads: int = 4,
        load: Sequence[str] = (),
        defaults: ConfigDefaults | None = None,
        cache: ResponseCache | None = None,
        limiter: RateLimiter | None = None,
    ) -> None:
        self._roots = list(roots)
        self._polled = Roots(self._roots)
        self._control = control
        self._load = tuple(load)
        self._overridden = frozenset(defaults.overrides) if defaults is not None else frozenset()
        self._table = ModelTable()
        self._retirement = Retirement()
        self._outcomes = LoadOutcomes(self._table, self._retirement)
        self._poller = Poller(poll_seconds, self._poll)
        self._pool = ThreadPool(load_threads, name="yais-load")
        self._files = ThreadPool(_FILE_THREADS, name="yais-files")
        self._loop = LoopThread("yais-repository")
        self._pipelines = LoopThread("yais-pipelines")
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sent: weakref.WeakSet[UploadedFiles] = weakref.WeakSet()  # files of clients
        loader = ModelLoader(
            lanes=lanes,
            tokens=tokens,
            timer=timer,
            sites=sites,
            find=self._find_servable,
            pipelines=self._pipelines,
            defaults=defaults or ConfigDefaults(),
            cache=cache,
            limiter=limiter,
        )
        self._lifecycle = ModelLifecycle(
            loader,
            self._table,
            self._retirement,
            self._outcomes,
            self._pool,
            self._files,
            self._source,
            loads_needed=control is ControlMode.EXPLICIT,
        )
        self.find = self._table.find  # one call less for each request

    def __repr__(self) -> str:
        ready = sum(entry.state is ModelState.READY for entry in self.entries)
        return f"<ModelRepository: {ready} of {len(self.entries)} models ready>"

    @property
    def entries(self) -> list[ModelEntry]:
        """All versions that were to be loaded, by name and number."""
        return self._table.entries

    @property
    def ready(self) -> bool:
        """Whether every version that is to be loaded is ready, and none has lost what it runs on."""
        return all(entry.ready or (entry.as_wanted and entry.loaded is None) for entry in self.entries)

    def index(self) -> Future[list[ModelEntry]]:
        """Return the entries, and one without a version for every directory that was never loaded.

        While a root cannot be read there are only the entries.
        """
        return self._files.submit(self._index)

    def load_all(self, progress: Progress | None = None) -> None:
        """Load the models of the start. One that cannot be loaded keeps no other from it.

        Parameters
        ----------
        progress
            Told the entry of each version when it begins to load and when it has ended; on a thread of the
            repository's, one call at a time.

        Raises
        ------
        NotFound
            A root is no directory.
        """
        found = self._polled.look()
        for name in sorted(self._overridden - found.keys()):
            _log.warning("fields of model '%s' are set, and no repository has it", name)
        chosen = self._control is not ControlMode.EXPLICIT or "*" in self._load
        names = sorted({*(found if chosen else ()), *self._load} - {"*"})
        if progress is not None:
            self._outcomes.progress = progress
        loading = self._run(self._lifecycle.load_all, names)
        while not loading.wait(0.5):  # a signal that came just before the wait is seen after it
            pass
        loading.result()
        if self._control is ControlMode.POLL:
            self._poller.start()

    def load(
        self, name: str, config: str | None = None, files: Mapping[str, bytes] | None = None
    ) -> Future[None]:
        """Load a model, or load it anew if what it is made from has changed. Only in mode EXPLICIT.

        The models that it is composed of are loaded, too. The new versions are ready before the old ones are
        taken away, which end what they have begun. If the new ones cannot be loaded the old ones stay.

        Parameters
        ----------
        config
            A configuration as JSON to take instead of the file.
        files
            Files to take instead of the model's directory, by their paths in it; only with `config`.

        Returns
        -------
        Future
            Done when the model is loaded. It fails with Internal when there is no such model or its
            configuration cannot be read, and with InvalidArgument when a version cannot be loaded.

        Raises
        ------
        Unavailable
            The mode is another.
        InvalidArgument
            The name is none that a directory can have.
        """
        self._check_explicit()
        check_name(name)

        def source() -> Source:
            if files:
                sent = Source.upload(name, config, files)
                if sent.uploaded is not None:
                    self._sent.add(sent.uploaded)
                return sent
            return self._source(name, config)

        return self._run(self._lifecycle.load, name, source)

    def unload(self, name: str, *, dependents: bool = False) -> Future[None]:
        """Take a model away; it is freed once the requests in flight have ended. Only in mode EXPLICIT.

        Models composed of it become unavailable. One that is not there is none to be unloaded.

        Parameters
        ----------
        dependents
            Whether the models that it is composed of go, too, unless others need them or they were asked for
            by name.

        Returns
        -------
        Future
            Done when it takes no requests any more.

        Raises
        ------
        Unavailable
            The mode is another.
        InvalidArgument
            The name is empty.
        """
        self._check_explicit()
        check_not_empty(name)
        return self._run(partial(self._lifecycle.unload, dependents=dependents), name)

    def close(self, timeout: float) -> bool:
        """Unload every model; return whether all requests and threads have ended in `timeout` seconds."""
        deadline = Deadline.after(timeout)
        ended = [
            self._poller.close(deadline.remaining() or 0.0),
            self._loop.close(deadline.remaining() or 0.0),
            self._retirement.close(deadline.remaining() or 0.0),
            self._pipelines.close(deadline.remaining() or 0.0),
            self._pool.close(deadline.remaining() or 0.0, discard=True),
            self._files.close(deadline.remaining() or 0.0, discard=True),
        ]
        self._table.clear()
        for sent in list(self._sent):
            sent.remove()
        return all(ended)

    def _check_explicit(self) -> None:
        if self._control is not ControlMode.EXPLICIT:
            raise Unavailable("explicit model load / unload is not allowed if polling is enabled")

    def _find_servable(self, name: str, version: str = "") -> Servable:
        return self._table.find(name, version).model

    def _source(self, name: str, config: str | None = None) -> Source:
        return Source.of(find_model(self._roots, name), config)

    def _index(self) -> list[ModelEntry]:
        known = self.entries
        try:
            names = find_models(self._roots).keys() - {entry.name for entry in known}
        except (OSError, NotFound) as error:
            _log.warning("the model repositories could not be read for the index: %s", error)
            names = set()
        new = [ModelEntry(name, "", ModelState.UNKNOWN) for name in names]
        return sorted([*known, *new], key=lambda entry: entry.name)

    def _poll(self) -> None:
        found = {name: snapshot(paths) for name, paths in self._polled.look().items()}
        self._run(self._lifecycle.follow, found)

    def _run(self, work: Callable[..., Coroutine[Any, Any, None]], *args: object) -> Future[None]:
        return self._loop.spawn(self._kept(work, *args))

    async def _kept(self, work: Callable[..., Coroutine[Any, Any, None]], *args: object) -> None:
        # Who waits may give up, the work does not.
        task = asyncio.get_running_loop().create_task(work(*args))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # has been asked for, so that asyncio does not complain
