"""Values of `--metrics-config` and `--trace-config`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from yais.serving.metrics import MetricsOptions
from yais.serving.trace_export import SPAN_DEFAULTS
from yais.serving.trace_settings import TraceOptions

__all__ = ["metrics_options", "metrics_setting", "trace_options", "trace_setting"]

_LATENCIES = {
    "counter_latencies": "counters",
    "histogram_latencies": "histograms",
    "summary_latencies": "summaries",
}
_BOOLEANS = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}

_LEVELS = ("OFF", "TIMESTAMPS", "TENSORS")
_MODES = ("triton", "opentelemetry")


def metrics_setting(value: str) -> tuple[str, Any]:
    """Return the field of `MetricsOptions` of "SETTING=VALUE", and what it is set to."""
    name, _, said = value.partition("=")
    if name in _LATENCIES:
        if said.lower() not in _BOOLEANS:
            raise click.BadParameter(f"got '{value}', expected {name}=true or {name}=false")
        return _LATENCIES[name], _BOOLEANS[said.lower()]
    if name != "summary_quantiles":
        names = ", ".join([*_LATENCIES, "summary_quantiles"])
        raise click.BadParameter(f"got '{value}', expected SETTING=VALUE with one of {names}")
    return "quantiles", tuple(_quantile(value, pair) for pair in said.split(","))


def metrics_options(settings: Sequence[tuple[str, Any]]) -> MetricsOptions:
    """Return what settings say; of two for the same the last counts."""
    return MetricsOptions(**dict(settings))


def _quantile(value: str, pair: str) -> tuple[float, float]:
    try:
        quantile, error = map(float, pair.split(":"))
    except ValueError:
        quantile = error = -1.0
    if not (0 <= quantile <= 1 and 0 <= error <= 1):  # neither is NaN
        raise click.BadParameter(f"got '{value}', expected QUANTILE:ERROR,... with numbers from 0 to 1")
    return quantile, error


def trace_setting(value: str) -> tuple[str, Any]:
    """Return what "[MODE,]SETTING=VALUE" sets and to what.

    It sets a field of `TraceOptions`; or, as "otel.NAME", one of the values in its `otel`.
    """
    name, equals, said = value.partition("=")
    mode, comma, setting = name.rpartition(",")
    if not equals or (comma and mode not in _MODES):
        raise click.BadParameter(f"got '{value}', expected [MODE,]SETTING=VALUE with {' or '.join(_MODES)}")
    if mode == "opentelemetry":
        return _otel_setting(value, setting, said)
    if mode == "triton":
        if setting == "file" and said:
            return "file", said
        if setting == "log-frequency":
            return "log_frequency", _number(value, said, least=0)
        raise click.BadParameter(f"got '{value}', expected triton,file=FILE or triton,log-frequency=N")
    return _global_setting(value, setting, said)


def trace_options(settings: Sequence[tuple[str, Any]]) -> TraceOptions:
    """Return what settings say; levels add up, and of two others for the same the last counts."""
    fields = {name: said for name, said in settings if name != "level" and not name.startswith("otel.")}
    levels = [said for name, said in settings if name == "level"]
    if levels:
        fields["level"] = tuple(dict.fromkeys(levels)) if "OFF" not in levels else ("OFF",)
    otel = {name.removeprefix("otel."): said for name, said in settings if name.startswith("otel.")}
    return TraceOptions(**fields, otel=otel)


def _otel_setting(value: str, setting: str, said: str) -> tuple[str, str]:
    if setting == "resource":
        key, equals, attribute = said.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"got '{value}', expected opentelemetry,resource=KEY=VALUE")
        return f"otel.resource.{key}", attribute
    if setting not in SPAN_DEFAULTS or not said:
        names = ", ".join(SPAN_DEFAULTS)
        raise click.BadParameter(
            f"got '{value}', expected opentelemetry,SETTING=VALUE with one of {names}, resource"
        )
    return f"otel.{setting}", said


def _global_setting(value: str, setting: str, said: str) -> tuple[str, Any]:
    if setting == "rate":
        return "rate", _number(value, said, least=0)
    if setting == "count":
        return "count", _number(value, said, least=-1)
    choices = {"level": _LEVELS, "mode": _MODES}.get(setting)
    if choices is None:
        raise click.BadParameter(f"got '{value}', expected level, rate, count or mode, or a MODE before it")
    if said not in choices:
        raise click.BadParameter(f"got '{value}', expected {setting}={'|'.join(choices)}")
    return setting, said


def _number(value: str, said: str, *, least: int) -> int:
    try:
        number = int(said)
    except ValueError:
        number = least - 1
    if not least <= number < 2**31:
        raise click.BadParameter(f"got '{value}', expected a whole number of at least {least}")
    return number
