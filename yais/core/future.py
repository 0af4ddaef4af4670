"""A future light enough to make one per request.

`concurrent.futures.Future` builds a condition variable and a list for every instance. This subclass
makes them only once somebody blocks on it (`result`, `wait`, `as_completed`), which the servers of this
package never do: they attach callbacks. Everything that takes a standard future takes this one, and it
can be awaited.

Thread-safety: every method may be called from any thread. Callbacks run on the thread that completes
the future, or at once on the caller's where it is complete already.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Self, TypeVar

__all__ = ["Future"]

T = TypeVar("T")

_log = logging.getLogger("yais.future")

# The states of concurrent.futures, whose helpers (`wait`, `as_completed`) read them.
_PENDING = "PENDING"
_RUNNING = "RUNNING"
_CANCELLED = "CANCELLED_AND_NOTIFIED"
_FINISHED = "FINISHED"
_DONE = frozenset({_CANCELLED, _FINISHED})


class Future(concurrent.futures.Future[T]):
    """The result of work that may not be done yet; see the module for how it differs."""

    _state: str
    _result: T | None
    _exception: BaseException | None

    def __init__(self) -> None:
        # Not calling the base: it would build what this class makes on demand.
        self._lock = threading.RLock()
        self._state = _PENDING
        self._result = None
        self._exception = None
        self._done_callbacks: list[Callable[[Any], Any]] = []
        self._blocking: threading.Condition | None = None
        self._sleepers: list[threading.Lock] | None = None  # each is held until the future is done

    if not TYPE_CHECKING:  # To type checkers it stays the attribute it is in the base class.

        @property
        def _condition(self) -> threading.Condition:
            # Read by the base class and by the helpers of concurrent.futures before they block.
            with self._lock:
                if self._blocking is None:
                    self._waiters: list[Any] = []
                    self._blocking = threading.Condition(self._lock)
                return self._blocking

    def done(self) -> bool:
        """Whether the future has a result, an exception, or is cancelled."""
        return self._state in _DONE

    def cancelled(self) -> bool:
        """Whether the future was cancelled."""
        return self._state == _CANCELLED

    def running(self) -> bool:
        """Whether the work has begun and can no longer be cancelled."""
        return self._state == _RUNNING

    def result(self, timeout: float | None = None) -> T:
        """Return the result, waiting up to `timeout` seconds for it; raise the error if there is one."""
        if self._state not in _DONE:
            self._sleep(timeout)
        if self._state == _FINISHED:
            if self._exception is not None:
                try:
                    raise self._exception
                finally:
                    del self  # the error refers to this frame, which must not refer back to the error
            return self._result  # type: ignore[return-value]
        return super().result(0)  # cancelled, or too late: raises what the base class raises

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the error, or None for a result, waiting up to `timeout` seconds."""
        if self._state not in _DONE:
            self._sleep(timeout)
        if self._state == _FINISHED:
            return self._exception
        return super().exception(0)  # as in `result`

    def cancel(self) -> bool:
        """Cancel the work if it has not begun; return whether the future is cancelled now."""
        with self._lock:
            if self._state in {_RUNNING, _FINISHED}:
                return False
            if self._state == _CANCELLED:
                return True
            # The standard class leaves telling the waiters to an executor. Here there may be none.
            self._state = _CANCELLED
            if self._blocking is not None:
                for waiter in self._waiters:
                    waiter.add_cancelled(self)
                self._blocking.notify_all()
            if self._sleepers:
                self._wake()
        self._run_callbacks()
        return True

    def set_running_or_notify_cancel(self) -> bool:
        """Claim the work: False if it was cancelled, else it can no longer be."""
        with self._lock:
            if self._state == _PENDING:
                self._state = _RUNNING
                return True
            if self._state == _CANCELLED:
                return False
            raise concurrent.futures.InvalidStateError(f"future is {self._state}, expected PENDING")

    def set_result(self, result: T) -> None:
        """Complete the future with a value. Raises InvalidStateError if it is complete."""
        self._complete(result, None)

    def set_exception(self, exception: BaseException | None) -> None:
        """Complete the future with an error. Raises InvalidStateError if it is complete."""
        self._complete(None, exception)

    def _complete(self, result: T | None, exception: BaseException | None) -> None:
        with self._lock:
            if self._state in _DONE:
                raise concurrent.futures.InvalidStateError(f"future is {self._state} already")
            self._result = result
            self._exception = exception
            self._state = _FINISHED
            if self._blocking is not None:
                for waiter in self._waiters:
                    if exception is None:
                        waiter.add_result(self)
                    else:
                        waiter.add_exception(self)
                self._blocking.notify_all()
            if self._sleepers:
                self._wake()
        self._run_callbacks()

    def add_done_callback(self, fn: Callable[[Self], Any]) -> None:
        """Call `fn(self)` once the future is done. What it raises is logged and goes no further."""
        with self._lock:
            if self._state not in _DONE:
                self._done_callbacks.append(fn)
                return
        self._run(fn)

    def _run_callbacks(self) -> None:
        # No lock: the state is final, so nobody appends any more. They go, or two futures that wait for each
        # other, as for a result and for being cancelled, would hold all they hold until garbage is collected.
        callbacks, self._done_callbacks = self._done_callbacks, []
        for fn in callbacks:
            self._run(fn)

    def _run(self, fn: Callable[[Self], Any]) -> None:
        try:
            fn(self)
        except BaseException:  # SystemExit, too: neither the thread nor the other callbacks are this one's
            _log.exception("a callback of %r raised", self)

    def _invoke_callbacks(self) -> None:
        # Name under which the base class runs them.
        self._run_callbacks()

    def get(self, timeout: float | None = None) -> T:
        """Return the result, waiting up to `timeout` seconds: the original library's name for `result`."""
        return self.result(timeout)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds; return whether the future is done. Raises nothing of its own."""
        if self._state not in _DONE:
            self._sleep(timeout)
        return self._state in _DONE

    def _sleep(self, timeout: float | None) -> None:
        """Wait until the future is done, or for `timeout` seconds."""
        # A plain lock takes a third of the time of a condition variable, of which most is making it.
        sleeper = threading.Lock()
        sleeper.acquire()
        with self._lock:
            if self._state in _DONE:
                return
            if self._sleepers is None:
                self._sleepers = []
            self._sleepers.append(sleeper)
        woken = False
        try:
            woken = sleeper.acquire(timeout=-1 if timeout is None else max(timeout, 0))
        finally:
            if not woken:
                with self._lock:
                    if sleeper in self._sleepers:
                        self._sleepers.remove(sleeper)

    def _wake(self) -> None:
        # Under the lock, and once: the state is final.
        sleepers, self._sleepers = self._sleepers, []
        for sleeper in sleepers or ():
            sleeper.release()

    def __await__(self) -> Generator[Any, None, T]:
        """Wait in asyncio; cancelling the awaiting task cancels work that has not begun."""
        return asyncio.wrap_future(self).__await__()
