"""Results as perf_analyzer prints them, to the letter: people read them with programs of their own.

Sections are indented as there, "p95latency" has no space, and some lines end in one.
"""

from __future__ import annotations

from collections.abc import Sequence

from yais.load.perf.profiler import LevelResult
from yais.load.perf.settings import PerfSettings
from yais.load.perf.times_text import client_time_line, server_lines
from yais.load.perf.window import Window, latency_of

__all__ = [
    "failure_text",
    "level_text",
    "level_title",
    "number",
    "pass_text",
    "percentiles",
    "settings_text",
    "summary_text",
]

_LATE = 0.01  # share of the requests above which it is said that they were late
_LIMIT = 0.95  # share of a CPU above which the sender may be what limits

_BEHIND = "[WARNING] Perf Analyzer was not able to keep up with the desired request rate."


def number(value: float) -> str:
    """Return a number as C++ writes it: six digits, without zeros at the end."""
    return f"{value:g}"


def percentiles(settings: PerfSettings) -> list[int]:
    """Return the percentiles that are shown."""
    return sorted({50, 90, 95, 99, settings.percentile or 99})


def settings_text(settings: PerfSettings) -> str:
    """Return what is printed before anything is measured; ends with an empty line."""
    counts = settings.window_requests
    metric = "throughput" if settings.asynchronous else "latency and throughput"
    average = "average " if settings.percentile is None else f"p{settings.percentile}"
    lines = [
        "*** Measurement Settings ***",
        f"  Batch size: {settings.batch}",
        "  Service Kind: TRITON",
        f'  Using "{"count" if counts else "time"}_windows" mode for stabilization',
        f"  Stabilizing using {average}{metric}",
        f"  Minimum number of samples in each window: {counts}"
        if counts
        else f"  Measurement window: {settings.window_ms} msec",
        *_range_lines(settings),
        f"  Using {'a' if settings.asynchronous else ''}synchronous calls for inference",
    ]
    if settings.decoupled:
        lines.append("  Detected decoupled model, using the first response for measuring latency")
    return "\n".join([*lines, "", ""])


def level_title(settings: PerfSettings, level: float) -> str:
    """Return the line above what is measured at a level."""
    if settings.at_rates:
        return f"Request Rate: {number(level)} inference requests per seconds"
    return f"Request concurrency: {level}"


def pass_text(settings: PerfSettings, count: int, window: Window) -> str:
    """Return the line of a window."""
    head = f"  Pass [{count}] throughput: {number(window.throughput)} infer/sec. "
    latency = latency_of(window, settings) // 1000
    if settings.percentile is not None:
        return f"{head}p{settings.percentile} latency: {latency} usec"
    return f"{head}Avg latency: {latency} usec (std {window.deviation // 1000} usec). "


def level_text(settings: PerfSettings, result: LevelResult, *, verbose: bool) -> str:
    """Return the result of a level; without the line feed at its end."""
    lines = ["  Client: ", *_client_lines(settings, result, verbose=verbose)]
    window = result.window
    if window.server is not None:
        lines += ["  Server: ", *server_lines(window.server, settings.cached)]
    if window.cpu_share >= _LIMIT:
        lines.append(
            f"[WARNING] The client used {window.cpu_share:.0%} of a CPU: it may be what limits the "
            f"{window.throughput:.0f} infer/sec."
        )
    return "\n".join(lines)


def summary_text(settings: PerfSettings, results: Sequence[LevelResult]) -> str:
    """Return the table at the end."""
    percentile = settings.percentile
    latency = "Average" if percentile is None else f"p{percentile}"
    level = "Request Rate" if settings.at_rates else "Concurrency"
    return "\n".join(
        [
            f"Inferences/Second vs. Client {latency} Batch Latency",
            *(
                f"{level}: {number(result.level)}, throughput: {number(result.window.throughput)} infer/sec, "
                f"latency {latency_of(result.window, settings) // 1000} usec"
                for result in results
            ),
        ]
    )


def failure_text(settings: PerfSettings, result: LevelResult) -> str:
    """Return why a level was not met."""
    if result.over:
        return f"Measured latency went over the set limit of {settings.limit_ms} msec. "
    if settings.at_rates:
        return "Failed to obtain stable measurement."
    more = "request-count" if settings.window_requests else "interval"
    return (
        f"Failed to obtain stable measurement within {settings.trials} measurement windows for concurrency "
        f"{result.level}. Please try to increase the --measurement-{more}."
    )


def _range_lines(settings: PerfSettings) -> list[str]:
    lines, levels = [], settings.levels
    # A last level of 1 is what there is when none is given.
    if levels.end != 1:
        lines.append(f"  Latency limit: {settings.limit_ms} msec")
        if levels.end:
            most = number(max(levels.start, levels.end))
            lines.append(
                f"  Request Rate limit: {most} requests per seconds"
                if settings.at_rates
                else f"  Concurrency limit: {most} concurrent requests"
            )
    if settings.at_rates:
        lines.append(
            f"  Using {'poisson' if settings.poisson else 'uniform'} distribution on request generation"
        )
    if settings.binary:
        lines.append("  Using Binary Search algorithm")
    return lines


def _client_lines(settings: PerfSettings, result: LevelResult, *, verbose: bool) -> list[str]:
    window = result.window
    recording = window.recording
    lines = [f"Request count: {window.requests}"]
    late = recording.late / recording.sent if recording.sent else 0.0
    if settings.at_rates and late > _LATE:
        lines += [
            f"Avg send request rate: {recording.sent / window.seconds:.2f} infer/sec",
            f"{_BEHIND} {late * 100:.2f}% of the requests were delayed. ",
        ]
    lines.append(f"Throughput: {number(window.throughput)} infer/sec")
    if settings.decoupled:
        lines.append(f"Response Throughput: {number(window.responses / window.seconds)} infer/sec")
    if verbose:
        lines.append(f"Avg client overhead: {min(window.cpu_share, 1) * 100:.2f}%")
    if settings.percentile is None:
        deviation = window.deviation // 1000
        lines.append(f"Avg latency: {window.mean // 1000} usec (standard deviation {deviation} usec)")
    lines += [f"p{each} latency: {window.percentile(each) // 1000} usec" for each in percentiles(settings)]
    lines.append(client_time_line(settings, window, verbose=verbose))
    return [f"    {line}" for line in lines]
