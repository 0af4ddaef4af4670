"""`yais.core.future` as a standard future: whatever takes one must take this."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yais.core.future import Future

SOON = 10.0
"""Seconds after which a wait counts as lost."""


def cancelled() -> Future[int]:
    future: Future[int] = Future()
    assert future.cancel()
    return future


def failed(error: Exception) -> Future[int]:
    future: Future[int] = Future()
    future.set_exception(error)
    return future


def finished(result: int) -> Future[int]:
    future: Future[int] = Future()
    future.set_result(result)
    return future


def in_thread(*steps: object) -> threading.Thread:
    thread = threading.Thread(target=lambda: [step() for step in steps])  # type: ignore[operator]
    thread.start()
    return thread


class Blocked:
    """Runs `wait()` on a thread; `entered` is set once that thread blocks on a condition of the future."""

    def __init__(self, future: Future[int], wait: object) -> None:
        self.outcome: object = None
        self._wait = wait
        # The wait takes the condition, so it holds the lock from there until it sleeps.
        self._future = future
        self._thread = in_thread(self._run)

    def _run(self) -> None:
        try:
            self.outcome = self._wait()  # type: ignore[operator]
        except BaseException as error:
            self.outcome = error

    def join(self) -> object:
        self._thread.join(SOON)
        assert not self._thread.is_alive()
        return self.outcome
