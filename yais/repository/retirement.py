"""Retirement: models that are no longer found end what they have begun, and are freed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import wait

from yais.core.clock import Deadline
from yais.core.future import Future
from yais.core.thread_pool import name_thread
from yais.repository.entry import LoadedModel
from yais.repository.heap import release_memory
from yais.repository.source import Source

__all__ = ["Retirement"]

_log = logging.getLogger("yais.repository")

_PATIENCE = 3600.0
"""Seconds that the requests of a model that is unloaded may take; ours, against a leak of threads only."""


class Retirement:
    """All models of a repository that are in memory, and how they leave it. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._alive: dict[LoadedModel, Source] = {}
        self._threads: set[threading.Thread] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Retirement: {len(self._alive)} models in memory, {len(self._threads)} leaving>"

    def admit(self, loaded: LoadedModel, source: Source) -> bool:
        """Take a model that was just loaded, and what it was loaded from, to be discarded with it.

        After `close` the model is closed at once, and False returned.
        """
        with self._lock:
            if not self._closed:
                self._alive[loaded] = source
                return True
        source.discard()
        loaded.model.close(0.0)
        return False

    def retire(
        self, models: Iterable[LoadedModel], then: Callable[[], None], timeout: float = _PATIENCE
    ) -> Future[bool]:
        """Close models on a thread of their own, which waits until their requests have ended.

        Parameters
        ----------
        then
            Called on that thread when they are closed.
        timeout
            Seconds that the requests may take.

        Returns
        -------
        Future
            Whether they have ended.
        """
        done: Future[bool] = Future()
        done.set_running_or_notify_cancel()  # nobody who waits for it can cancel it
        arguments = (list(models), then, timeout, done)
        thread = threading.Thread(target=self._retire, args=arguments, name="yais-unload", daemon=True)
        with self._lock:
            self._threads.add(thread)
            thread.start()
        return done

    def close(self, timeout: float) -> bool:
        """Close all models, composed ones first; return whether all have ended within `timeout` seconds.

        One whose code does not come to an end keeps no other from being closed.
        """
        deadline = Deadline.after(timeout)
        with self._lock:
            self._closed = True
            models = list(self._alive)
        closing: list[Future[bool]] = []
        for composed in (True, False):
            left = deadline.remaining() or 0.0
            chosen = [loaded for loaded in models if loaded.composed is composed]
            closing += [self.retire([loaded], lambda: None, left) for loaded in chosen]
            wait(closing, deadline.remaining())
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(deadline.remaining())
        ended = all(future.done() and future.result() for future in closing)
        return ended and not any(thread.is_alive() for thread in threads)

    def _retire(
        self, models: list[LoadedModel], then: Callable[[], None], timeout: float, done: Future[bool]
    ) -> None:
        name_thread("yais-unload")
        ended = True
        while models:
            try:
                ended = self._free(models.pop(), timeout) and ended
            except BaseException:  # a model's own `finalize` may raise anything
                _log.exception("a model could not be unloaded")
        if not self._closed:
            release_memory()
        try:
            then()
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())
            done.set_result(ended)

    def _free(self, loaded: LoadedModel, timeout: float) -> bool:
        try:
            ended = loaded.model.close(timeout)
            if not ended:
                _log.error("model '%s' still has requests after %.0f s", loaded.model.name, timeout)
            return ended
        finally:
            with self._lock:
                source = self._alive.pop(loaded, None)
                used = any(other is source for other in self._alive.values())
            if source is not None and not used:
                source.discard()
