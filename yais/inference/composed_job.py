"""Requests to models composed of others, and what happens to them, one thing after the other."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from yais.core.clock import monotonic
from yais.core.offered_future import OfferedFuture
from yais.errors import Internal
from yais.inference.job import Job
from yais.inference.layout import Layout
from yais.inference.log_fields import log_fields
from yais.inference.request import InferRequest, InferResponse

if TYPE_CHECKING:
    from yais.inference.composed import ComposedModel

__all__ = ["ComposedFuture", "ComposedJob"]

_log = logging.getLogger("yais.inference")


class ComposedJob(Job):
    """A request to a composed model, and the events of its way.

    Attributes
    ----------
    began
        When it began to run, ns; 0 before.
    error
        Why it was stopped, if it was: None where its future was cancelled.
    stopped
        Whether nothing further is to be begun for it.
    """

    __slots__ = ("_events", "_handling", "_model", "began", "error", "stopped")

    def __init__(self, model: ComposedModel[Any], request: InferRequest, layout: Layout) -> None:
        super().__init__(request, layout, monotonic())
        self._model = model
        self.future = ComposedFuture(self)
        self.began = 0
        self.error: BaseException | None = None
        self.stopped = False
        self._events: deque[Callable[[], object]] = deque()
        self._handling = threading.Lock()

    def post(self, event: Callable[[], object]) -> None:
        """Call `event` before, or while, this returns; or on another thread that is about to call others.

        So events of one request never overlap, and none of them nests in another however long the chain of
        models is that answer at once.
        """
        self._events.append(event)
        while self._events and self._handling.acquire(blocking=False):
            try:
                while self._events:
                    self._events.popleft()()
            except BaseException as error:  # a fault of ours must not leave anybody waiting
                name = self._model.name
                _log.exception("model '%s' failed", name, extra=log_fields(name, self.request))
                failure = Internal(f"model '{name}' failed: {error}")
                self._events.append(partial(self.stop, failure))
            finally:
                self._handling.release()

    def stop(self, error: BaseException | None) -> None:
        """Begin nothing further, and end with `error`, or as cancelled, once nothing is under way any more.

        In an event.
        """
        if not self.stopped and not self.future.done():
            self.stopped, self.error = True, error
            self._model._stop(self)


class ComposedFuture(OfferedFuture[InferResponse]):
    """A future that is cancelled when what runs has ended: until then that reads the request's contents."""

    def __init__(self, job: ComposedJob) -> None:
        super().__init__()
        self._job: ComposedJob | None = job

    def cancel(self) -> bool:
        """Stop the request; return whether that was possible at once."""
        job = self._job
        if job is not None:
            job.post(partial(job.stop, None))
        return self.cancelled()

    def give_up(self) -> None:
        """Be cancelled now."""
        super().cancel()

    def _run_callbacks(self) -> None:
        self._job = None  # no cycle keeps the tensors until the garbage collector comes by
        super()._run_callbacks()
