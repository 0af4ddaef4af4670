"""Metrics as text, in Prometheus' format 0.0.4."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import cast

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

__all__ = ["CONTENT_TYPE", "exposition"]

CONTENT_TYPE = "text/plain; charset=utf-8"
"""Triton's."""

_VALUE = re.compile(r"^([^#\n].* )([0-9.e+-]+)$", re.MULTILINE)

_EXACT = 1 << 53  # up to here every whole number is a float


def exposition(registry: CollectorRegistry) -> str:
    """Return all metrics of a registry as text.

    As prometheus-client has it, but for two things in which Triton's differ: counters whose samples are not
    called `..._total` keep their names, and whole numbers are written without a point.
    """
    return "".join(map(_text, registry.collect()))


def _text(family: Metric) -> str:
    text = generate_latest(cast("Collector", _Only(family))).decode()
    if family.type == "counter" and any(sample.name == family.name for sample in family.samples):
        text = re.sub(rf"^(# \w+ {family.name})_total ", r"\1 ", text, flags=re.MULTILINE)
    return _VALUE.sub(_whole, text)


def _whole(match: re.Match[str]) -> str:
    value = float(match[2])
    return f"{match[1]}{int(value)}" if value.is_integer() and abs(value) < _EXACT else match[0]


class _Only:
    """What has one family."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)
