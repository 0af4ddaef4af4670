"""Helpers for tests: those of this package, and those of services built with it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from yais.core.clock import NANOSECONDS
from yais.rpc.resources import Resources
from yais.rpc.server import Server
from yais.rpc.service import Service

__all__ = ["ManualClock", "Served", "serving"]


class ManualClock:
    """A `yais.core.clock.Clock` that stands still until it is told to go on. Thread-safe.

    Parameters
    ----------
    start
        The first moment, in nanoseconds.

    Examples
    --------
    >>> clock = ManualClock()
    >>> deadline = Deadline.after(1.5, clock=clock)
    >>> clock.advance(2.0)
    >>> deadline.expired(clock=clock)
    True
    """

    def __init__(self, start: int = 0) -> None:
        self._now = start
        self._lock = threading.Lock()

    def __call__(self) -> int:
        """Return the present moment in nanoseconds."""
        return self._now

    def __repr__(self) -> str:
        return f"<ManualClock at {self._now} ns>"

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.advance_ns(round(seconds * NANOSECONDS))

    def advance_ns(self, nanoseconds: int) -> None:
        """Let `nanoseconds` pass.

        Raises
        ------
        ValueError
            The number is negative: a monotonic clock never goes back.
        """
        if nanoseconds < 0:
            raise ValueError(f"got {nanoseconds} ns, expected at least 0")
        with self._lock:
            self._now += nanoseconds


@dataclass(frozen=True, slots=True)
class Served:
    """A running server, its port, and a channel to it, as `serving` yields them."""

    server: Server
    port: int
    channel: grpc.Channel


@contextmanager
def serving(
    *services: Service, resources: Resources | None = None, **server_options: Any
) -> Iterator[Served]:
    """Run a server on a free port of the loopback interface while the block lasts.

    When the block ends, the channel is closed first, which cancels what is still called through it, and
    then the server is stopped.

    Parameters
    ----------
    services
        What to serve.
    resources
        The server's resources.
    server_options
        Further keyword arguments of `yais.Server`.

    Examples
    --------
    >>> with serving(service, grace=1.0) as served:
    ...     stub = EchoStub(served.channel)
    ...     assert stub.Say(EchoRequest(text="hello")).text == "hello"
    """
    server = Server("127.0.0.1:0", resources=resources, **server_options)
    for service in services:
        server.add(service)
    # With the pool that channels share by default, the next test on the same port might find a connection
    # of this one.
    own_connection = [("grpc.use_local_subchannel_pool", 1)]
    with server, grpc.insecure_channel(f"127.0.0.1:{server.port}", options=own_connection) as channel:
        yield Served(server, server.port, channel)
