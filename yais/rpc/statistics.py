"""The state of a server at one moment."""

from __future__ import annotations

from dataclasses import dataclass

from yais.core.thread_pool import ThreadPoolStatistics

__all__ = ["MethodStatistics", "ServerStatistics"]


@dataclass(frozen=True, slots=True)
class MethodStatistics:
    """One registered RPC.

    Attributes
    ----------
    executor
        Name of the executor that serves it.
    contexts
        Calls in flight at most.
    in_flight
        Calls that have a context now.
    calls
        Calls that got a context since the start.
    """

    executor: str
    contexts: int
    in_flight: int
    calls: int


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """A server.

    Attributes
    ----------
    methods
        By "/package.Service/Method".
    servicers_in_flight
        Calls of mounted servicers, those that wait for a thread included.
    servicer_threads
        The pool that serves them; None before the start.
    """

    methods: dict[str, MethodStatistics]
    servicers_in_flight: int
    servicer_threads: ThreadPoolStatistics | None
