"""A closed loop: a fixed number of requests in flight, each answer sending the next one."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable
from functools import partial

from yais.infer_runner import InferFuture

__all__ = ["ClosedLoop"]


class ClosedLoop:
    """Keeps requests in flight. Its own methods are for one thread; answers may come on any.

    The first request that fails ends it.

    Parameters
    ----------
    send
        Sends a request.
    in_flight
        How many.

    Attributes
    ----------
    error
        What the first request that failed raised; None if none did.
    """

    def __init__(self, send: Callable[[], InferFuture], in_flight: int) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._left = in_flight
        self._stopping = False
        self._failed = threading.Event()
        self._ended = threading.Event()
        self._latencies = array("d")
        self.error: BaseException | None = None

    def __repr__(self) -> str:
        return f"<ClosedLoop: {self._left} in flight, {len(self._latencies)} latencies to take>"

    def start(self) -> None:
        """Send the first requests."""
        for _ in range(self._left):
            self._next()

    def wait(self, seconds: float) -> bool:
        """Let it run for `seconds`; return at once, with False, if a request fails."""
        return not self._failed.wait(seconds)

    def take(self) -> array[float]:
        """Return the latencies of the requests that ended since the last call, in seconds."""
        latencies, self._latencies = self._latencies, array("d")
        return latencies

    def stop(self, timeout: float) -> bool:
        """Send no more; return whether those in flight ended within `timeout` seconds."""
        self._stopping = True
        return self._ended.wait(timeout)

    def _next(self) -> None:
        sent = time.perf_counter()
        try:
            self._send().add_done_callback(partial(self._answered, sent))
        except BaseException as error:
            self._fail(error)
            self._leave()

    def _answered(self, sent: float, future: InferFuture) -> None:
        elapsed = time.perf_counter() - sent
        try:
            future.result(0)
        except BaseException as error:
            self._fail(error)
        else:
            self._latencies.append(elapsed)
        if self._stopping:
            self._leave()
        else:
            self._next()

    def _fail(self, error: BaseException) -> None:
        self.error = self.error or error
        self._stopping = True
        self._failed.set()

    def _leave(self) -> None:
        with self._lock:
            self._left -= 1
            if not self._left:
                self._ended.set()
