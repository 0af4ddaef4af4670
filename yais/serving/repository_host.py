"""What a repository of models runs with in a process: lanes, tokens, sites and a timer."""

from __future__ import annotations

from yais.core.cgroup import concurrency
from yais.core.timer import Timer
from yais.inference.rate_limiter import RateLimiter
from yais.inference.response_cache import ResponseCache
from yais.inference.site import Site
from yais.inference.sites import Sites
from yais.inference.tokens import Tokens
from yais.lane import Lanes
from yais.memory.tracked import MemoryTracker
from yais.repository.repository import ModelRepository
from yais.serving.options import ServerOptions

__all__ = ["RepositoryHost"]


class RepositoryHost:
    """A repository of models, and what they run with.

    Attributes
    ----------
    repository
        Not loaded yet.
    sites
        Where batches run.
    """

    def __init__(self, options: ServerOptions) -> None:
        # No threads of their own for "pre" and "post": handing batches on costs more than it overlaps
        # (measured on 2 cores with `digits`, 8 in flight: 6.6k requests/s against 5.4k).
        threads = max(2, concurrency())
        self._lanes = Lanes("yais", threads={"execute": threads})
        self._tokens = Tokens(threads + 1)  # and one for the queue's own thread
        self.sites = Sites(
            Site(self._lanes, self._tokens),
            gpus=options.gpus,
            executions=options.gpu_executions,
            lanes=options.gpu_lanes,
        )
        self._timer = Timer("yais-timer")
        self.repository = ModelRepository(
            options.repositories,
            lanes=self._lanes,
            tokens=self._tokens,
            timer=self._timer,
            sites=self.sites,
            control=options.control,
            poll_seconds=options.poll_seconds,
            load_threads=options.load_threads,
            load=options.load,
            defaults=options.defaults,
            cache=ResponseCache(options.cache_size) if options.cache_size else None,
            limiter=None if options.rate_limit is None else RateLimiter(options.rate_limit),
        )

    def __repr__(self) -> str:
        return f"<RepositoryHost of {self.repository!r}>"

    @property
    def memory(self) -> MemoryTracker:
        """What the models have of host memory."""
        return self._lanes.memory

    def close(self, timeout: float) -> bool:
        """Unload every model and end all threads; return whether they ended. Idempotent.

        Parameters
        ----------
        timeout
            Seconds for each of the parts.
        """
        ended = [self.repository.close(timeout), self._timer.close(timeout), self.sites.close(timeout)]
        return all(ended)
