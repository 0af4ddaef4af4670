"""Options of `yais serve` that say what it tells of itself: metrics, logs and traces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import click

from yais.serving.log_format import FORMATS
from yais.serving.log_handler import log_handler
from yais.serving.log_settings import LogOptions
from yais.serving.metrics import MetricsOptions
from yais.tools.option_groups import grouped
from yais.tools.serve_values import verbosity
from yais.tools.telemetry_values import metrics_options, metrics_setting, trace_options, trace_setting

__all__ = ["TELEMETRY_OPTIONS", "log_options", "telemetry_options"]

_PORT = click.IntRange(0, 65535)

_metrics = grouped("Metrics")
_log = grouped("Logging")
_trace = grouped("Tracing")

TELEMETRY_OPTIONS = (
    _metrics("--allow-metrics", type=bool, default=True, show_default=True, help="Whether to serve metrics."),
    _metrics("--metrics-address", default="0.0.0.0", show_default=True, help="Where to offer metrics."),
    _metrics(
        "--metrics-port",
        type=_PORT,
        default=8002,
        show_default=True,
        help="Port for metrics; 0 takes a free one.",
    ),
    _metrics(
        "--allow-cpu-metrics",
        type=bool,
        default=True,
        show_default=True,
        help="Whether those of the machine's CPUs and memory are among them.",
    ),
    _metrics(
        "--allow-gpu-metrics",
        type=bool,
        default=True,
        show_default=True,
        help="Whether those of its GPUs are.",
    ),
    _metrics(
        "--metrics-interval-ms",
        type=click.FloatRange(0, 3_600_000),
        default=1000 * MetricsOptions().interval,
        show_default=True,
        help="Milliseconds that the load of the CPUs is measured over, and that GPUs are not asked again.",
    ),
    _metrics(
        "--metrics-config",
        type=metrics_setting,
        metavar="SETTING=VALUE",
        multiple=True,
        help="counter_latencies, histogram_latencies, summary_latencies: true or false; "
        "summary_quantiles: QUANTILE:ERROR,...; may be given more than once.",
    ),
    _log(
        "--log-verbose",
        type=verbosity,
        default="0",
        show_default=True,
        metavar="INTEGER",
        help="1 for more, 2 for what other libraries say, too.",
    ),
    *(
        _log(f"--log-{level}", type=bool, default=True, show_default=True, help=f"Log {what}.")
        for level, what in (("info", "what happens"), ("warning", "warnings"), ("error", "errors"))
    ),
    _log(
        "--log-format",
        type=click.Choice(FORMATS),
        default="default",
        show_default=True,
        help="How lines begin: I0922 10:00:00.123456, or 2026-09-22T10:00:00Z I; or lines of JSON.",
    ),
    _log("--log-file", default="", metavar="FILE", help="Where to log, instead of standard error."),
    _trace(
        "--trace-config",
        type=trace_setting,
        metavar="[MODE,]SETTING=VALUE",
        multiple=True,
        help="level=OFF|TIMESTAMPS|TENSORS, rate=N, count=N, mode=triton|opentelemetry; triton,file=FILE, "
        "triton,log-frequency=N; opentelemetry,url=URL, opentelemetry,resource=KEY=VALUE; may be given more "
        "than once.",
    ),
)


def telemetry_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `ServerOptions` that they are for, but that of the log."""
    return {
        "metrics_address": given["metrics_address"],
        "metrics_port": given["metrics_port"] if given["allow_metrics"] else None,
        "metrics": replace(
            metrics_options(given["metrics_config"]),
            cpu=given["allow_cpu_metrics"],
            gpu=given["allow_gpu_metrics"],
            interval=given["metrics_interval_ms"] / 1000,
        ),
        "trace": trace_options(given["trace_config"]),
    }


def log_options(given: Mapping[str, Any]) -> LogOptions:
    """Return what is logged, with a handler that is still to be added to a logger.

    Raises
    ------
    click.UsageError
        The file cannot be written.
    """
    file = given["log_file"]
    try:
        handler = log_handler(file)
    except OSError as error:
        raise click.UsageError(f"cannot write --log-file: {error}") from None
    return LogOptions(
        info=given["log_info"],
        warning=given["log_warning"],
        error=given["log_error"],
        verbose=given["log_verbose"],
        format=given["log_format"],
        file=file,
        handler=handler,
    )
