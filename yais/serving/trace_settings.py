"""Trace settings: which requests are traced, for all models and for single ones; clients may change them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from yais.errors import InvalidArgument
from yais.serving.trace_change import OFF, TraceChange

__all__ = ["TraceOptions", "TraceSetting", "TraceSettings", "TraceValues"]


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """What is traced at the start.

    Attributes
    ----------
    file
        Where traces go in mode "triton".
    level
        "OFF", or "TIMESTAMPS" and "TENSORS".
    rate
        One in so many requests is traced. In mode "opentelemetry" 0 traces those only whose callers are
        traced themselves; others of these are traced whatever the rate.
    count
        Traces that are still to be made; -1 for no limit.
    log_frequency
        Traces to a file; 0 for all to one.
    mode
        "triton" or "opentelemetry".
    otel
        Of mode "opentelemetry": "url" of a collector that takes OTLP, "bsp_max_queue_size",
        "bsp_schedule_delay" (ms) and "bsp_max_export_batch_size" of the batch span processor, and attributes
        of the resource as "resource.NAME".
    provider
        Of mode "opentelemetry": an `opentelemetry.trace.TracerProvider` that gets the spans in the place of
        the collector. Stays open.
    """

    file: str = ""
    level: tuple[str, ...] = OFF
    rate: int = 1000
    count: int = -1
    log_frequency: int = 0
    mode: str = "triton"
    otel: Mapping[str, str] = field(default_factory=dict)
    provider: Any = None


@dataclass(frozen=True, slots=True)
class TraceValues:
    """What clients may change; see `TraceOptions`."""

    level: tuple[str, ...]
    rate: int
    count: int
    log_frequency: int


class TraceSetting:
    """What is in force for a model, or for all, until it is replaced; it picks the requests. Thread-safe.

    Parameters
    ----------
    values
        What it says.
    specified
        Names of the values that were said of the model itself; the others are those of all models.
    fault
        Why it cannot trace anything, in Triton's words; nothing if it can.

    Attributes
    ----------
    created
        Traces made, without those that were lost.
    remaining
        Traces still to be made; -1 for no limit.
    """

    def __init__(self, values: TraceValues, specified: frozenset[str] = frozenset(), fault: str = "") -> None:
        self._values = values
        self.fault = fault
        self.specified = specified
        self.created = 0
        self.remaining = values.count
        self._seen = 0
        self._retired = False
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        level = "+".join(self._values.level)
        return f"<TraceSetting {level}, 1 of {self._values.rate}: {self.created} made, {self.remaining} left>"

    @property
    def values(self) -> TraceValues:
        """What it says now: the count is that of traces still to be made."""
        return replace(self._values, count=self.remaining)

    @property
    def tensors(self) -> bool:
        """Whether the contents of tensors are traced."""
        return "TENSORS" in self._values.level

    @property
    def log_frequency(self) -> int:
        """Traces to a file; 0 for all to one."""
        return self._values.log_frequency

    @property
    def on(self) -> bool:
        """Whether it may trace any request."""
        return not self.fault and self.remaining != 0

    @property
    def ended(self) -> bool:
        """Whether there will be no more traces than were made: it was replaced, or its count was reached."""
        return self._retired or self.remaining == 0

    def lost(self) -> None:
        """Take that a trace was lost."""
        with self._lock:
            self.created -= 1

    def retire(self) -> None:
        """Make no more traces."""
        with self._lock:
            self._retired = True

    def sample(self, *, always: bool = False) -> bool:
        """Return whether to trace this request; `always` does at any rate, and takes nothing of the count."""
        with self._lock:
            if self._retired or not self.on:
                return False
            if not always:
                rate = self._values.rate
                self._seen += 1
                if not rate or self._seen % rate:
                    return False
                if self.remaining > 0:
                    self.remaining -= 1
            self.created += 1
            return True


class TraceSettings:
    """The settings of all models, and those of models that have their own. Not thread-safe but for `of`.

    What is not said of a model is as for all, and what is not said for all is as at the start. Settings are
    replaced and never changed, so that traces that have begun end as they began.
    """

    def __init__(self, options: TraceOptions) -> None:
        self._options = options
        self._start = TraceValues(options.level, options.rate, options.count, options.log_frequency)
        self._all = TraceSetting(self._start, fault=self._fault(self._start))
        self._models: dict[str, TraceSetting] = {}

    def __repr__(self) -> str:
        return f"<TraceSettings {self._all!r}, {len(self._models)} models with their own>"

    def of(self, model: str) -> TraceSetting:
        """Return what is in force for a model, or for all if it is empty."""
        return self._models.get(model, self._all)

    def every(self) -> list[TraceSetting]:
        """Return what is in force for all, and for models."""
        return [self._all, *self._models.values()]

    def update(self, model: str, change: TraceChange) -> list[TraceSetting]:
        """Change what is said of a model, or of all; return the settings that were replaced.

        Raises
        ------
        InvalidArgument
            Nothing could be traced so; nothing is changed then.
        """
        models = dict(self._models)  # others may be reading it
        if model:
            old = models.pop(model, None)
            new = self._changed(old, self._all.values, change)
            if new.specified:
                models[model] = new
            self._models = models
            return [] if old is None else [old]
        new = self._changed(self._all, self._start, change)
        for name, own in models.items():
            models[name] = self._changed(own, new.values, TraceChange())
        replaced = self.every()
        self._all, self._models = new, models
        return replaced

    def _changed(self, old: TraceSetting | None, others: TraceValues, change: TraceChange) -> TraceSetting:
        said: dict[str, Any] = {}
        if old is not None:
            said = {name: getattr(old.values, name) for name in old.specified - change.cleared}
        said.update(change.values)
        values = replace(others, **said)
        fault = self._fault(values)
        if fault and values.level != OFF:
            raise InvalidArgument(f"Attempting to set invalid trace setting :{fault}")
        return TraceSetting(values, frozenset(said), fault)

    def _fault(self, values: TraceValues) -> str:
        """Return why nothing can be traced, in Triton's words."""
        if values.level == OFF:
            return "tracing is disabled"
        if self._options.mode != "triton":
            return ""
        if not values.rate:
            return "sample rate must be non-zero"
        return "" if self._options.file else "trace file name is not given"
