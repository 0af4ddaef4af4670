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
    waiting
        Calls that wait for a context, of those the server knows: as many as there are contexts (or 64), where
        the executor has one thread, and none otherwise. The others wait in gRPC core.
    refused
        Calls that were refused while they waited, or because as many waited as may. No interceptor saw them,
        and those that gRPC core refuses are not counted.
    """

    executor: str
    contexts: int
    in_flight: int
    calls: int
    waiting: int = 0
    refused: int = 0


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
