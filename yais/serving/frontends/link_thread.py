"""The thread of a link: takes what arrives on its connections, and is a dispatcher."""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import select
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from yais.core.dispatcher import set_current_dispatcher
from yais.core.thread_pool import name_thread
from yais.errors import FailedPrecondition

if TYPE_CHECKING:
    from yais.serving.frontends.link_connection import LinkConnection

__all__ = ["LinkThread"]

_log = logging.getLogger("yais.serving")

# Rounds of arrivals before `when_drained` callbacks run although more has arrived, as in an executor of RPCs.
_BUSY_LIMIT = 64


class LinkThread:
    """A thread and its connections; also the `Dispatcher` of that thread.

    Thread-safe, but for `when_drained`. What is sent on the thread leaves when everything that arrived was
    handled, so that the answers of a batch leave together.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._connections: dict[int, LinkConnection] = {}
        self._drained: list[Callable[[], None]] = []
        self._soon: collections.deque[Callable[[], None]] = collections.deque()  # from other threads
        self._unsent: set[LinkConnection] = set()
        self._identity = 0
        self._closing = False
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<LinkThread {self._name}: {len(self._connections)} connections>"

    def add(self, connection: LinkConnection) -> None:
        """Serve one more connection. Raises FailedPrecondition once closed."""
        with self._lock:
            if self._closing:
                raise FailedPrecondition(f"got a connection for {self!r}, which is closed")
            self._connections[connection.fileno()] = connection
            self._epoll.register(connection.fileno(), select.EPOLLIN)

    def forget(self, connection: LinkConnection) -> None:
        """Serve a connection no longer. On the thread."""
        with self._lock:
            self._connections.pop(connection.fileno(), None)
            self._unsent.discard(connection)
            with contextlib.suppress(OSError):
                self._epoll.unregister(connection.fileno())

    def end(self, connection: LinkConnection, reason: str) -> None:
        """End a connection: at once, or from another thread soon."""
        if threading.get_ident() == self._identity:
            connection.end(reason)
        else:
            self.call_soon(partial(connection.end, reason))

    def watch(self, connection: LinkConnection, events: int) -> None:
        """Wait for other events of a connection."""
        with self._lock:
            if self._connections.get(connection.fileno()) is connection:
                self._epoll.modify(connection.fileno(), events)

    def flushes(self, connection: LinkConnection) -> bool:
        """Return whether this is the thread, which then sends what was posted when it has time to."""
        if threading.get_ident() != self._identity:
            return False
        self._unsent.add(connection)
        return True

    def when_drained(self, callback: Callable[[], None]) -> None:
        """See `yais.core.dispatcher.Dispatcher`."""
        self._drained.append(callback)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call a function on the thread, from any; not at all once it has ended."""
        self._soon.append(callback)
        with self._lock:
            if not self._closing:
                os.eventfd_write(self._wake, 1)

    def close(self, timeout: float) -> bool:
        """End all connections and the thread; return whether it has ended within `timeout` s. Idempotent."""
        with self._lock:
            if not self._closing:
                self._closing = True
                os.eventfd_write(self._wake, 1)
        if threading.get_ident() == self._identity:
            return False
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._identity = threading.get_ident()
        name_thread(self._name)
        set_current_dispatcher(self)
        rounds = 0
        while not self._closing:
            rounds += 1
            if self._round() and rounds < _BUSY_LIMIT:
                continue
            rounds = 0
            self._run_drained()
            self._send()
        self._send()
        for connection in list(self._connections.values()):
            connection.end("this process ends the link")
        self._run_drained()
        set_current_dispatcher(None)
        with self._lock:  # `close` may be about to wake this thread, which has seen before that it is to end
            self._epoll.close()
            os.close(self._wake)

    def _round(self) -> bool:
        """Handle what there is, or wait for something; return whether more is likely to be there."""
        messages = 0
        for descriptor, events in self._epoll.poll(0 if self._drained or self._unsent else -1):
            connection = self._connections.get(descriptor)
            if descriptor == self._wake and not self._closing:
                os.eventfd_read(self._wake)
            if connection is None:
                continue
            try:
                if events & select.EPOLLOUT:
                    connection.writable()
                if events & ~select.EPOLLOUT:
                    messages += connection.read()
            except Exception:
                # What a connection handles ends that connection; this is a fault of ours, and ends no other.
                _log.exception("unexpected error on %r", self)
        return messages > 1

    def _send(self) -> None:
        while self._unsent:
            self._unsent.pop().send()

    def _run_drained(self) -> None:
        while self._soon:
            self._drained.append(self._soon.popleft())
        while self._drained:
            callbacks, self._drained = self._drained, []
            for callback in callbacks:
                try:
                    callback()
                except BaseException:
                    _log.exception("unexpected error in a when_drained callback of %r", self)
