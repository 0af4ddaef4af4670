"""Options of `yais perf` that say at what loads to measure, and until when: those of perf_analyzer."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from yais.load.perf.search import LevelRange
from yais.load.perf.settings import PerfSettings
from yais.tools.option_groups import grouped, with_options
from yais.tools.perf_levels import checked_levels, levels_of

__all__ = ["perf_settings_options"]

F = TypeVar("F", bound=Callable[..., Any])

_THREADS = 16
"""Requests in flight at most where synchronous ones have no other end, as perf_analyzer has threads."""


def _percentile(_context: click.Context, _option: click.Parameter, value: int) -> int | None:
    if not value:
        raise click.BadParameter("The value must be -1 for not reporting or in range (0, 100).")
    return None if value < 0 else value


def _share(_context: click.Context, _option: click.Parameter, value: float) -> float:
    if math.isnan(value):  # click's range lets it pass
        raise click.BadParameter(f"got {value}, expected a percentage")
    return value / 100


_load = grouped("Load")
_stability = grouped("Measurement")

_OPTIONS = (
    _load(
        "--concurrency-range",
        metavar="START[:END[:STEP]]",
        help="Requests in flight, one level after another; with an END of 0 until the latency is over the "
        "threshold. [default: 1]",
    ),
    _load(
        "--request-rate-range",
        metavar="START[:END[:STEP]]",
        help="Requests per second instead, sent whether or not others are answered.",
    ),
    _load(
        "--request-distribution",
        type=click.Choice(["constant", "poisson"]),
        default="constant",
        show_default=True,
        help="Whether these come evenly or at random.",
    ),
    _load(
        "--latency-threshold",
        "-l",
        type=click.IntRange(min=0),
        default=0,
        metavar="MSEC",
        help="Stop at the level at which the latency reaches this. [default: never]",
    ),
    _load(
        "--binary-search", is_flag=True, help="Search between START and END for the level at the threshold."
    ),
    _load("-t", "concurrent", type=click.IntRange(min=1), help="Requests in flight, as in perf_client."),
    _load("-d", "dynamic", is_flag=True, help="From -t upwards, one by one, until the latency is over -l."),
    _load("-c", "most", type=click.IntRange(min=0), help="End of that. [default: none]"),
    _load(
        "--async/--sync",
        "-a",
        "asynchronous",
        envvar="YAIS_PERF_ASYNC",
        default=None,
        help="Whether only the throughput must be stable, or (--sync) the latency, too. Requests are sent in "
        "the same way. [default: --sync; with --streaming --async]",
    ),
    _load("--streaming", is_flag=True, help="Send requests on streams; gRPC only."),
    _load(
        "--max-threads",
        type=click.IntRange(min=1),
        default=_THREADS,
        show_default=True,
        help="Streams of --streaming at most, and end of synchronous requests without another one.",
    ),
    _stability(
        "--measurement-interval",
        "-p",
        type=click.IntRange(min=1),
        default=5000,
        show_default=True,
        metavar="MSEC",
        help="Length of a window.",
    ),
    _stability(
        "--measurement-mode",
        type=click.Choice(["time_windows", "count_windows"]),
        default="time_windows",
        show_default=True,
        help="Whether windows have a length, or a number of requests.",
    ),
    _stability(
        "--measurement-request-count",
        type=click.IntRange(min=1),
        default=50,
        show_default=True,
        help="Requests at least in each window of count_windows.",
    ),
    _stability(
        "--stability-percentage",
        "-s",
        type=click.FloatRange(min=0),
        default=10.0,
        show_default=True,
        callback=_share,
        help="How far three windows in a row may be apart.",
    ),
    _stability(
        "--max-trials",
        "-r",
        type=click.IntRange(min=1),
        default=10,
        show_default=True,
        help="Windows of a level at most.",
    ),
    _stability(
        "--percentile",
        type=click.IntRange(min=-1, max=99),
        default=-1,
        callback=_percentile,
        help="Take this percentile of the latency instead of the mean; -1: the mean.",
    ),
)


def perf_settings_options(command: F) -> F:
    """Give a command the options; it gets `settings: PerfSettings`, `streams` and `sync`.

    What depends on the protocol and the model is left as it is by default. There are at most so many
    `streams`, 0 for unary requests; `sync` is whether that was asked for.
    """

    @with_options(_OPTIONS)
    @wraps(command)
    def given(
        *arguments: Any,
        concurrency_range: str | None,
        request_rate_range: str | None,
        request_distribution: str,
        latency_threshold: int,
        binary_search: bool,
        concurrent: int | None,
        dynamic: bool,
        most: int | None,
        asynchronous: bool | None,
        streaming: bool,
        max_threads: int,
        measurement_interval: int,
        measurement_mode: str,
        measurement_request_count: int,
        stability_percentage: float,
        max_trials: int,
        percentile: int | None,
        **others: Any,
    ) -> Any:
        levels = levels_of(concurrency_range, request_rate_range, concurrent, most, dynamic=dynamic)
        levels = checked_levels(levels, latency_threshold, binary=binary_search)
        at_rates = request_rate_range is not None
        if not (levels.end or asynchronous or streaming or at_rates):
            click.echo(
                "WARNING: The maximum attainable concurrency will be limited by max_threads specification.",
                err=True,
            )
            levels = LevelRange(levels.start, max_threads, levels.step)
        settings = PerfSettings(
            levels,
            at_rates=at_rates,
            binary=binary_search,
            poisson=request_distribution == "poisson",
            limit_ms=latency_threshold,
            window_ms=measurement_interval,
            window_requests=measurement_request_count if measurement_mode == "count_windows" else None,
            stability=stability_percentage,
            trials=max_trials,
            percentile=percentile,
            asynchronous=bool(asynchronous) or streaming,
        )
        streams = max_threads if streaming else 0
        return command(*arguments, settings=settings, streams=streams, sync=asynchronous is False, **others)

    return given  # type: ignore[return-value]  # its parameters are those of the options
