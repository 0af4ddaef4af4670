"""The engine process' ends of its links to all frontends, and their thread."""

from __future__ import annotations

import logging
import pickle
import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from yais.core.clock import Deadline
from yais.core.future import Future
from yais.errors import FailedPrecondition
from yais.serving.front_resources import Infer
from yais.serving.frontends.link_bundles import Bundles
from yais.serving.frontends.link_served import Call, FrontendSession
from yais.serving.frontends.link_statistics import LinkStatistics
from yais.serving.frontends.link_thread import LinkThread

__all__ = ["FrontendLinks"]

_log = logging.getLogger("yais.serving")

_POLL = 0.005  # seconds between two looks at what is pending, while draining


class FrontendLinks:
    """The engine's ends of all links. Thread-safe. One thread serves them all, and is a `Dispatcher`.

    Parameters
    ----------
    infer
        `partial(yais.serving.inference.infer, resources)`.
    call
        Serves an RPC by its name. Called on the thread of the links: must not block. May raise `YaisError`.
    bundles
        `Bundles(resources)`; without, every request goes to its model by itself.
    gone
        Called with the number of a frontend when that is gone; on the thread of the links.
    """

    def __init__(
        self,
        infer: Infer,
        call: Call,
        *,
        bundles: Bundles | None = None,
        gone: Callable[[int], None] = lambda _frontend: None,
    ) -> None:
        self._infer = infer
        self._call = call
        self._bundles = bundles
        self._gone = gone
        self._lock = threading.Lock()
        self._topics: dict[str, bytes] = {}
        self._sessions: dict[int, FrontendSession] = {}
        self._thread = LinkThread("frontends")

    def __repr__(self) -> str:
        return f"<FrontendLinks to {len(self._sessions)} frontends: {self.pending} requests pending>"

    @property
    def pending(self) -> int:
        """Requests without an answer; a bundle is one."""
        return sum(session.pending for session in list(self._sessions.values()))

    def add(self, frontend: int, connection: socket.socket) -> None:
        """Serve one more frontend; the connection is closed here in the end.

        Raises
        ------
        FailedPrecondition
            These links are closed, or one to a frontend of that number is open.
        """
        with self._lock:
            if frontend in self._sessions:
                raise FailedPrecondition(f"got a second connection to frontend {frontend}, expected one")
            session = FrontendSession(
                connection,
                f"frontend {frontend}",
                thread=self._thread,
                infer=self._infer,
                call=self._call,
                bundles=self._bundles,
                ended=partial(self._ended, frontend),
            )
            self._sessions[frontend] = session
            for topic, value in self._topics.items():
                session.push(topic, value)

    def push(self, topic: str, value: Any) -> None:
        """Tell all frontends, and each that is added later, the value of a topic. It is pickled here.

        What was pushed before the answer to a call arrives before that. Whether requests may be bundled is
        looked at anew, too: push something when models have changed.
        """
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        with self._lock:
            self._topics[topic] = data
            for session in self._sessions.values():
                session.push(topic, data)

    def sync(self) -> list[Future[None]]:
        """Return for each frontend what is done when it has handled all that was pushed, or is gone."""
        with self._lock:
            return [session.sync() for session in self._sessions.values()]

    def drain(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until everything that came in is answered; return whether it is."""
        deadline = Deadline.after(timeout)
        pause = threading.Event()
        while self.pending:
            if deadline.expired():
                return False
            pause.wait(_POLL)
        return True

    def statistics(self) -> dict[int, LinkStatistics]:
        """Return the numbers of now of each frontend that is connected."""
        return {frontend: session.statistics() for frontend, session in list(self._sessions.items())}

    def close(self, timeout: float) -> bool:
        """End all links and the thread; return whether it ended within `timeout` seconds. Idempotent."""
        return self._thread.close(timeout)

    def _ended(self, frontend: int) -> None:
        with self._lock:
            self._sessions.pop(frontend, None)
        try:
            self._gone(frontend)
        except Exception:
            _log.exception("unexpected error after frontend %s was gone", frontend)
