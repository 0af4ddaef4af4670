"""What open and closed loads have in common: sending, counting, and the end."""

from __future__ import annotations

import itertools
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

from yais.client.transport import Done
from yais.core.clock import Clock
from yais.core.thread_pool import name_thread
from yais.errors import Code, FailedPrecondition, InvalidArgument, status_of
from yais.load.recorder import Recorder
from yais.load.recording import Recording

__all__ = ["BaseLoad", "Sender"]


class Sender(Protocol):
    """What a load needs of a `Transport`."""

    def send(self, request: Any, done: Done) -> None:
        """Send a request; see `Transport.send`."""


class BaseLoad(ABC):
    """Sends requests in turn, when its kind of load says so. See `Load`."""

    def __init__(self, transport: Sender, requests: Sequence[Any], clock: Clock) -> None:
        if not requests:
            raise InvalidArgument("requests: got none, expected at least one")
        self._transport = transport
        self._requests = requests
        self._clock = clock
        self._start = clock()
        self._thread = threading.Thread(target=self._run, name="yais-load", daemon=True)
        self._over = threading.Event()
        self._numbers = itertools.count()
        self._spent: list[int] = []
        self._lock = threading.Lock()  # guards what follows, and the state of the kind of load
        self._recorder = Recorder()
        self._ended: int | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._recorder.outstanding} outstanding>"

    @abstractmethod
    def _begin(self) -> None:
        """Do what the load's own thread is for."""

    @abstractmethod
    def _next(self, now: int) -> int | None:
        """Return when the request that is to be sent now was due; None where there is none to send.

        It counts the request as sent, and ends the load with the last one. With the lock held.
        """

    @abstractmethod
    def _answered(self, due: int, sent: int, code: Code, text: str, reply: Any) -> None:
        """Write down how a request ended, and send what is to be sent then.

        Of a transport that answers before `send` returns, this is called inside `_send`.
        """

    def start(self) -> None:
        """Begin; once."""
        self._start = self._clock()
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Let it run for `seconds`; return at once, with True, when it is over."""
        return self._over.wait(seconds)

    def recording(self) -> Recording:
        """Return what came of it so far."""
        with self._lock:
            self._settle()
            return self._recorder.recording(self._now(), self._ended)

    def take(self) -> Recording:
        """Return what came of it since the last call, or the start: a window of time."""
        with self._lock:
            self._settle()
            return self._recorder.take(self._now())

    def stop(self, timeout: float) -> Recording:
        """Send no more, give those in flight `timeout` seconds to end, and return what came of all."""
        with self._lock:
            self._end(self._now())
        self._over.wait(timeout)
        return self.recording()

    def _run(self) -> None:
        name_thread("yais-load")
        try:
            self._begin()
        except BaseException:  # of a schedule, or of what is told of back-offs: nobody would send any more
            with self._lock:
                self._end(self._now())
            raise

    def _now(self) -> int:
        return self._clock() - self._start

    def _send_next(self) -> bool:
        with self._lock:
            now = self._now()
            due = self._next(now)
        if due is None:
            return False
        self._send(due, now)
        return True

    def _send(self, due: int, now: int) -> None:
        done = partial(self._answered, due, now)
        try:
            request = self._requests[next(self._numbers) % len(self._requests)]
            self._transport.send(request, done)
        except FailedPrecondition as error:
            with self._lock:  # the transport is closed: its thread, which sends, must come to an end
                self._end(self._now())
            done(*status_of(error), None)
        except Exception as error:
            done(*status_of(error), None)
        self._spent.append(self._now() - now)

    def _write_down(self, now: int, due: int, sent: int, code: Code, text: str) -> None:
        """Record how a request ended. With the lock held."""
        self._recorder.answered(now, due, sent, code, text)
        self._settle()

    def _settle(self) -> None:
        """Record what sending took since the last time. With the lock held."""
        while self._spent:
            self._recorder.spent(self._spent.pop())

    def _end(self, moment: int) -> None:
        """Send no more. With the lock held."""
        if self._ended is None:
            self._ended = moment
        self._see_whether_over()

    def _see_whether_over(self) -> None:
        if not self._recorder.outstanding:
            self._over.set()
