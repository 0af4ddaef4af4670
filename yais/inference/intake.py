"""What every model does with a request before it runs: check it, and look whether it was answered before."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable

from yais.core.clock import monotonic
from yais.core.future import Future
from yais.errors import Unimplemented, YaisError
from yais.inference.failure import reason_of
from yais.inference.layout import Layout, Signature
from yais.inference.request import InferRequest, InferResponse
from yais.inference.request_digest import request_digest
from yais.inference.response_cache import ResponseCache
from yais.inference.statistics import ModelStatistics

__all__ = ["Intake", "Run"]

_MAX_LAYOUTS = 1024  # forms of requests kept per model

_identities = itertools.count()

Run = Callable[[InferRequest, Layout], Future[InferResponse]]
"""Lets a checked request run. Raises `YaisError` if it is refused."""


class Intake:
    """Takes the requests to one version of a model. Thread-safe.

    Parameters
    ----------
    signature
        What the model takes.
    statistics
        Where refusals, hits and misses are counted.
    decoupled
        Whether it answers a request any number of times.
    cache
        Where its answers are kept; None for nowhere.
    """

    def __init__(
        self,
        signature: Signature,
        statistics: ModelStatistics,
        *,
        decoupled: bool = False,
        cache: ResponseCache | None = None,
    ) -> None:
        self._signature = signature
        self._statistics = statistics
        self._decoupled = decoupled
        self._cache = cache
        self._identity = next(_identities)  # a version may be loaded anew, with other contents
        self._layouts: dict[Hashable, Layout] = {}

    def submit(
        self, request: InferRequest, run: Run, *, may_answer: Callable[[], bool] | None = None
    ) -> Future[InferResponse]:
        """Let a request run, or answer it.

        Returns at once. The future fails with InvalidArgument when the request is none that the model takes,
        with Unimplemented when a decoupled model is asked for one response, and with what `run` raises.

        Parameters
        ----------
        may_answer
            Whether a request may be answered from the cache now, where answers have an order.
        """
        try:
            if self._decoupled and request.respond is None:
                raise Unimplemented(
                    f"model '{self._signature.name}' has a decoupled transaction policy: it answers a "
                    "request any number of times, so ask it for a stream"
                )
            layout = self._layout(request)
            self._signature.check_sizes(layout, request.inputs, request.data)
            if request.trace is not None:
                request.trace.mark("QUEUE_START", monotonic())
            cache = self._cache
            if cache is None:
                return run(request, layout)
            return self._look_up(cache, request, layout, run, may_answer)
        except YaisError as error:
            if not request.bundle:  # its requests come again, one by one
                self._statistics.record_failure(monotonic() - request.received, reason_of(error))
            failed: Future[InferResponse] = Future()
            failed.set_exception(type(error)(f"[request id: {request.id or '<id_unknown>'}] {error}"))
            return failed

    def close(self) -> None:
        """Forget the model's answers, and keep none that is still on its way."""
        cache, self._cache = self._cache, None  # or a late request would make it known to the cache again
        if cache is not None:
            cache.drop(self._identity)

    def _look_up(
        self,
        cache: ResponseCache,
        request: InferRequest,
        layout: Layout,
        run: Run,
        may_answer: Callable[[], bool] | None,
    ) -> Future[InferResponse]:
        start = monotonic()
        key = cache.key(self._identity, request, layout)
        cached = cache.get(key)
        lookup = monotonic() - start
        if cached is not None and (may_answer is None or may_answer()):
            self._statistics.record_hit(request.received, lookup)
            if request.trace is not None:
                request.trace.mark("CACHE_HIT_LOOKUP_START", start)
                request.trace.mark("CACHE_HIT_LOOKUP_END", start + lookup)
            answered: Future[InferResponse] = Future()
            answered.set_result(cached.response(request))
            return answered

        def keep(future: Future[InferResponse]) -> None:
            if future.cancelled() or future.exception(0) is not None:
                return
            start = monotonic()
            if not request.volatile or key.endswith(request_digest(request, layout)):
                cache.put(key, future.result(0))
            self._statistics.record_miss(lookup + monotonic() - start)

        future = run(request, layout)
        future.add_done_callback(keep)
        return future

    def _layout(self, request: InferRequest) -> Layout:
        if request.signature is None:
            return self._signature.layout(request)
        layout = self._layouts.get(request.signature)
        if layout is None:
            layout = self._signature.layout(request)
            if len(self._layouts) >= _MAX_LAYOUTS:
                self._layouts.clear()
            self._layouts[request.signature] = layout
        return layout
