"""Results as one JSON object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from yais.load.perf.profiler import LevelResult
from yais.load.perf.server_times import ServerTimes
from yais.load.perf.settings import PerfSettings
from yais.load.perf.text import percentiles

__all__ = ["results_json"]


def results_json(settings: PerfSettings, results: Sequence[LevelResult]) -> list[dict[str, Any]]:
    """Return an object for each level; times are microseconds, rates per second."""
    return [_level(settings, result) for result in results]


def _level(settings: PerfSettings, result: LevelResult) -> dict[str, Any]:
    window = result.window
    return {
        "request_rate" if settings.at_rates else "concurrency": result.level,
        "stable": result.stable,
        "seconds": window.seconds,
        "requests": window.requests,
        "responses": window.responses,
        "late": window.recording.late,
        "throughput": window.throughput,
        "latency_us": {
            "avg": window.mean / 1e3,
            "std": window.deviation / 1e3,
            **{f"p{each}": window.percentile(each) / 1e3 for each in percentiles(settings)},
        },
        "client": {
            "send_us": window.send_mean / 1e3,
            "service_us": window.service_mean / 1e3,
            "cpu_share": window.cpu_share,
        },
        "server": None if window.server is None else _server(window.server),
    }


def _server(times: ServerTimes) -> dict[str, Any]:
    return {
        "inferences": times.inferences,
        "executions": times.executions,
        "requests": times.success.count,
        "cache_hits": times.cache_hit.count,
        "cache_misses": times.cache_miss.count,
        "request_us": times.success.mean / 1e3,
        "queue_us": times.queue.mean / 1e3,
        "compute_input_us": times.compute_input.mean / 1e3,
        "compute_infer_us": times.compute_infer.mean / 1e3,
        "compute_output_us": times.compute_output.mean / 1e3,
        "composing": {
            f"{name}:{version}": _server(part) for (name, version), part in times.composing.items()
        },
    }
