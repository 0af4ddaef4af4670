"""How a model is to be measured."""

from __future__ import annotations

from dataclasses import dataclass

from yais.load.perf.search import LevelRange

__all__ = ["PerfSettings"]


@dataclass(frozen=True, slots=True)
class PerfSettings:
    """Levels of load, and when a measurement at one of them is done.

    Attributes
    ----------
    levels
        Requests in flight or, with `at_rates`, requests per second.
    binary
        Whether to search between the first and the last level instead of taking one after another.
    poisson
        Whether requests come at random instead of evenly; of rates.
    limit_ms
        Latency at which a level is not met, milliseconds; 0: there is none.
    batch
        Items of a request.
    window_ms, window_requests
        Length of a window in milliseconds; if given, the requests it has at least instead.
    stability
        How far three windows in a row may be apart: the highest is at most 1 + `stability` times the lowest.
    trials
        Windows at most.
    percentile
        Of the latency that must be stable and is compared with the limit; None: the mean.
    asynchronous
        Whether the load is thought of as one sender's, as opposed to senders that wait for their answers:
        for those the latency must be stable too. It is made in the same way.
    protocol
        "grpc" or "http".
    decoupled, cached
        Whether a request may have several answers; whether the model has a response cache.
    """

    levels: LevelRange
    at_rates: bool = False
    binary: bool = False
    poisson: bool = False
    limit_ms: int = 0
    batch: int = 1
    window_ms: int = 5000
    window_requests: int | None = None
    stability: float = 0.1
    trials: int = 10
    percentile: int | None = None
    asynchronous: bool = False
    protocol: str = "grpc"
    decoupled: bool = False
    cached: bool = False
