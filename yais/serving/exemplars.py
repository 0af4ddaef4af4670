"""Exemplars: for each bucket of a histogram the trace of a request that fell into it."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from yais.core.clock import NANOSECONDS
from yais.inference.counts import Counts
from yais.telemetry.exemplar import Exemplar

__all__ = ["Exemplars", "TracedTimes"]

_MAX_MODELS = 1024  # versions of models, those included that were unloaded


class TracedTimes(NamedTuple):
    """What a request that was traced, and has succeeded, took.

    Attributes
    ----------
    ids
        `trace_id` and `span_id`, see `hexadecimal`.
    end
        When it had its answer, ns since 1970.
    total, compute
        From its arrival to the answer, and in the engine, ns.
    """

    ids: Mapping[str, str]
    end: int
    total: int
    compute: int


class Exemplars:
    """The last traced request in each bucket of the histograms of models. Thread-safe.

    Told of traced requests only: others cost nothing. The histograms are those of `Counts` by name:
    `request_seconds`, `compute_seconds` and `load_ratio`.
    """

    def __init__(self) -> None:
        counts = Counts()
        self._bounds: Mapping[str, Sequence[float]] = {
            name: getattr(counts, name).bounds
            for name in ("request_seconds", "compute_seconds", "load_ratio")
        }
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], dict[tuple[str, int], Exemplar]] = {}

    def add(self, model: str, version: str, times: TracedTimes) -> None:
        """Take what a request to a model took."""
        values = {
            "request_seconds": times.total / NANOSECONDS,
            "compute_seconds": times.compute / NANOSECONDS,
            "load_ratio": times.total / max(times.compute, 1),
        }
        with self._lock:
            if len(self._kept) >= _MAX_MODELS and (model, version) not in self._kept:
                self._kept.clear()
            kept = self._kept.setdefault((model, version), {})
            for name, value in values.items():
                bucket = bisect_left(self._bounds[name], value)
                kept[name, bucket] = Exemplar(times.ids, value, times.end / NANOSECONDS)

    def of(self, model: str, version: str, name: str) -> dict[int, Exemplar]:
        """Return what there is of a histogram, by the number of the bucket."""
        with self._lock:
            kept = self._kept.get((model, version), {})
            return {bucket: exemplar for (of, bucket), exemplar in kept.items() if of == name}
