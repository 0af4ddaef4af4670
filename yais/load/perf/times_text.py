"""Where the time went, as perf_analyzer prints it: on the client, and in the server."""

from __future__ import annotations

from collections.abc import Iterator

from yais.load.perf.server_times import ServerTimes
from yais.load.perf.settings import PerfSettings
from yais.load.perf.window import Window

__all__ = ["client_time_line", "server_lines"]


def client_time_line(settings: PerfSettings, window: Window, *, verbose: bool) -> str:
    """Return the line of the client's share; an empty one for a decoupled model.

    Answers are not read, so that receiving takes no time.
    """
    if settings.decoupled:
        return ""
    total, send, receive = window.service_mean // 1000, window.send_mean // 1000, 0
    wait = max(0, total - send - receive)
    if settings.protocol == "grpc":
        if verbose:
            parts = f"marshal {send} usec + response wait {wait} usec + unmarshal {receive} usec"
        else:
            parts = f"(un)marshal request/response {send + receive} usec + response wait {wait} usec"
        return f"Avg gRPC time: {total} usec ({parts})"
    if verbose:
        parts = f"send {send} usec + response wait {wait} usec + receive {receive} usec"
    else:
        parts = f"send/recv {send + receive} usec + response wait {wait} usec"
    return f"Avg HTTP time: {total} usec ({parts})"


def server_lines(times: ServerTimes, cached: bool, depth: int = 1) -> Iterator[str]:
    """Yield the lines of a model and of those that it is composed of; an empty one after each.

    Parameters
    ----------
    cached
        Whether the model that is measured has a response cache.
    depth
        1 for that model, one more for each ensemble that a model is part of.
    """
    indent = "  " * depth
    if not times.success.count:
        yield f"{indent}  Request count: 0"
        return
    yield f"{indent}  Inference count: {times.inferences}"
    yield f"{indent}  Execution count: {times.executions}"
    if cached:
        yield f"{indent}  Cache hit count: {times.cache_hit.count}"
        yield f"{indent}  Cache miss count: {times.cache_miss.count}"
    yield f"{indent}  Successful request count: {times.success.count}"
    yield f"{indent}  Avg request latency: {_us(times.success.mean)} usec {_parts(times, cached)}"
    if cached:
        yield from (f"{indent}{indent}  {line}" for line in _cache_lines(times))
    yield ""
    if times.composing:
        yield f"{indent}Composing models: "
        for (name, version), part in times.composing.items():
            yield f"{indent}{name}, version: {version}"
            yield from server_lines(part, cached, depth + 1)


def _us(nanoseconds: int) -> int:
    return nanoseconds // 1000


def _parts(times: ServerTimes, cached: bool) -> str:
    queue, compute, cached_compute = _sums(times)
    total = _us(times.success.mean)
    if cached:
        parts = f"cache hit/miss {cached_compute} usec"
        compute = cached_compute
    elif times.composing:
        parts = f"compute {compute} usec"
    else:
        parts = " + ".join(_compute_parts(times))
    return f"(overhead {max(0, total - queue - compute)} usec + queue {queue} usec + {parts})"


def _compute_parts(times: ServerTimes) -> list[str]:
    parts = ("input", times.compute_input), ("infer", times.compute_infer), ("output", times.compute_output)
    return [f"compute {name} {_us(total.mean)} usec" for name, total in parts]


def _sums(times: ServerTimes) -> tuple[int, int, int]:
    """Return microseconds of queue, compute, and compute and cache together; of an ensemble the sums."""
    if times.composing:
        sums = [_sums(part) for part in times.composing.values()]
        queue, compute, cached = (sum(column) for column in zip(*sums, strict=True))
        return queue, compute, cached
    either = times.cache_hit.plus(times.compute)
    ns = either.ns + times.cache_miss.ns
    return (
        _us(times.queue.mean),
        _us(times.compute.mean),
        _us(ns // either.count) if either.count else 0,
    )


def _cache_lines(times: ServerTimes) -> list[str]:
    if times.composing:
        hit, miss = _cache_sums(times)
        return [f"Average Cache Hit Latency: {hit} usec", f"Average Cache Miss Latency: {miss} usec "]
    look = _us(times.cache_miss.mean)
    parts = " + ".join([f"cache lookup/insertion {look} usec", *_compute_parts(times)])
    return [
        f"Average Cache Hit Latency: {_us(times.cache_hit.mean)} usec",
        f"Average Cache Miss Latency: {look + _us(times.compute.mean)} usec ({parts})",
    ]


def _cache_sums(times: ServerTimes) -> tuple[int, int]:
    if not times.composing:
        return _us(times.cache_hit.mean), _us(times.cache_miss.mean) + _us(times.compute.mean)
    hits, misses = zip(*(_cache_sums(part) for part in times.composing.values()), strict=True)
    return sum(hits), sum(misses)
