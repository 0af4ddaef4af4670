"""Metrics as text, in the OpenMetrics format 1.0: with exemplars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.utils import floatToGoString

from yais.telemetry.exposition import CONTENT_TYPE, exposition

__all__ = ["OPENMETRICS", "metrics_page", "openmetrics"]

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
"""The content type of OpenMetrics."""

_MEDIA_TYPE = "application/openmetrics-text"

_NUMBERS = ("le", "quantile")  # labels whose values are numbers, which the format wants written in one way


def metrics_page(registry: CollectorRegistry, accept: str) -> tuple[str, str]:
    """Return all metrics of a registry as a page, and its content type. As thread-safe as its collectors.

    Parameters
    ----------
    accept
        The header `Accept` of who asks: who names OpenMetrics 1 gets it, everybody else `exposition`.
    """
    if any(map(_is_openmetrics, accept.split(","))):
        return openmetrics(registry), OPENMETRICS
    return exposition(registry), CONTENT_TYPE


def openmetrics(registry: CollectorRegistry) -> str:
    """Return all metrics of a registry as OpenMetrics.

    Names are those of `exposition`. There a counter may be called other than `..._total`, as Triton's are; it
    may not here, and is of the type "unknown".
    """
    page: bytes = generate_latest(cast("CollectorRegistry", _Strict(registry)))  # type: ignore[no-untyped-call]
    return page.decode()


class _Strict:
    """A registry's families, as the format allows them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        return map(_strict, self._registry.collect())


def _strict(family: Metric) -> Metric:
    kind = family.type
    if kind == "counter" and any(sample.name == family.name for sample in family.samples):
        kind = "unknown"
    strict = Metric(family.name, family.documentation, kind)
    strict.samples = [sample._replace(labels=_labels(sample.labels)) for sample in family.samples]
    return strict


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    return {name: _number(value) if name in _NUMBERS else value for name, value in labels.items()}


def _number(text: str) -> str:
    written: str = floatToGoString(text)  # type: ignore[no-untyped-call]
    return written


def _is_openmetrics(accepted: str) -> bool:
    kind, *parameters = (part.strip().replace(" ", "") for part in accepted.lower().split(";"))
    versions = [said.removeprefix("version=") for said in parameters if said.startswith("version=")]
    wanted = not versions or versions[0].startswith("1.")
    return kind == _MEDIA_TYPE and wanted and "q=0" not in parameters
