"""The inference server, assembled: a repository of models and the service of them."""

from __future__ import annotations

from yais.core.cgroup import concurrency
from yais.core.timer import Timer
from yais.inference.rate_limiter import RateLimiter
from yais.inference.response_cache import ResponseCache
from yais.inference.tokens import Tokens
from yais.lane import Lanes
from yais.repository.repository import ModelRepository
from yais.serving.model_server import ModelServer
from yais.serving.options import ServerOptions

__all__ = ["InferenceServer", "ServerOptions"]


class InferenceServer(ModelServer):
    """Serves the models of repositories over KServe v2.

    Examples
    --------
    >>> with InferenceServer(ServerOptions((Path("models"),), grpc_port=0)) as server:
    ...     print(server.port)
    """

    def __init__(self, options: ServerOptions) -> None:
        # No threads of their own for "pre" and "post": handing batches on costs more than it overlaps
        # (measured on 2 cores with `digits`, 8 in flight: 6.6k requests/s against 5.4k).
        threads = max(2, concurrency())
        self._lanes = Lanes("yais", threads={"execute": threads})
        self._tokens = Tokens(threads + 1)  # and one for the queue's own thread
        self._timer = Timer("yais-timer")
        self.repository = ModelRepository(
            options.repositories,
            lanes=self._lanes,
            tokens=self._tokens,
            timer=self._timer,
            control=options.control,
            poll_seconds=options.poll_seconds,
            load_threads=options.load_threads,
            load=options.load,
            defaults=options.defaults,
            cache=ResponseCache(options.cache_size) if options.cache_size else None,
            limiter=None if options.rate_limit is None else RateLimiter(options.rate_limit),
        )
        super().__init__(self.repository, options, memory=self._lanes.memory)

    def stop(self) -> bool:
        """Drain and stop; return whether every request in flight ended in time. Idempotent."""
        clean = super().stop()
        self.repository.close(timeout=5.0)
        self._timer.close(5.0)
        return self._lanes.close() and clean
