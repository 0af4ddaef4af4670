"""The tracer: picks requests, and sees to it that what happened to them is written."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence

from yais.errors import InvalidArgument, NotFound, Unavailable
from yais.inference.request import InferRequest
from yais.inference.request_trace import RequestTrace
from yais.serving.call_trace import CallTrace, RequestRecord, TracedCaller
from yais.serving.caller import Caller
from yais.serving.exemplars import Exemplars
from yais.serving.trace_change import OFF, TraceChange
from yais.serving.trace_export import span_settings
from yais.serving.trace_file import TraceFiles
from yais.serving.trace_settings import TraceOptions, TraceSettings
from yais.serving.trace_spans import TraceSpans
from yais.serving.trace_writer import TraceWriter

__all__ = ["Tracer"]

_log = logging.getLogger("yais.serving")


class Tracer:
    """Traces requests, as far as its settings say. Thread-safe.

    Parameters
    ----------
    options
        What is traced at the start, and where traces go.
    find
        Finds a model by name and version; raises NotFound or Unavailable.

    Attributes
    ----------
    active
        Whether any request may be traced: asked for each request, before `begin`.
    exemplars
        Of requests that were traced in mode "opentelemetry".

    Raises
    ------
    ImportError
        OpenTelemetry is asked for, and not installed.
    ValueError
        There is no such mode.
    """

    def __init__(self, options: TraceOptions, find: Callable[[str, str], object]) -> None:
        if options.mode not in {"triton", "opentelemetry"}:
            raise ValueError(f"got trace mode '{options.mode}', expected 'triton' or 'opentelemetry'")
        self._options = options
        self._find = find
        self._settings = TraceSettings(options)
        if options.level != OFF and (fault := self._settings.of("").fault):
            _log.warning("requests are not traced: %s", fault)
        self.exemplars = Exemplars()
        self._spans = TraceSpans(options, self.exemplars) if options.mode == "opentelemetry" else None
        self._writer = TraceWriter(self._spans or TraceFiles(options.file))
        self._lock = threading.Lock()
        self._closed = False
        self.active = False
        self._look()

    def __repr__(self) -> str:
        return f"<Tracer {self._settings!r}, {self._writer!r}>"

    def begin(self, model: str, version: str, request: InferRequest, caller: Caller) -> RequestTrace | None:
        """Trace a request, if it is its turn: return its trace, which the request gets, too.

        Whoever submits the request lets the trace `follow` its future.
        """
        setting = self._settings.of(model)
        context, traced = (None, False) if self._spans is None else self._spans.context(caller.metadata)
        if not setting.sample(always=traced):
            return None
        if not setting.on:  # that was the last one
            self._look()
        call = CallTrace(setting, self._writer.write, context)
        if self._spans is not None:
            self._spans.begin(call, caller.accepted)
        if isinstance(caller, TracedCaller):
            caller.trace = call
            call.received(caller.protocol, caller.accepted)
        return RequestRecord(call, 0, model, version, request)

    def settings(self, model: str = "") -> dict[str, list[str]]:
        """Return what is in force for a model, or for all, as the protocol has it.

        Raises
        ------
        InvalidArgument
            There is no such model.
        """
        self._check(model)
        values = self._settings.of(model).values
        said = {
            "trace_level": list(values.level),
            "trace_rate": [str(values.rate)],
            "trace_count": [str(values.count)],
            "trace_mode": [self._options.mode],
        }
        if self._spans is None:
            said["log_frequency"] = [str(values.log_frequency)]
            said["trace_file"] = [self._options.file]
        else:
            said.update({name: [value] for name, value in span_settings(self._options.otel).items()})
        return said

    def update(self, model: str, settings: Mapping[str, Sequence[str]]) -> None:
        """Change what is in force for a model, or for all, as the protocol asks for it.

        Raises
        ------
        InvalidArgument
            There is no such model, or a setting is none.
        Unimplemented
            The setting cannot be changed.
        """
        self._check(model)
        change = TraceChange.parse(settings)
        with self._lock:
            replaced = self._settings.update(model, change)
        for setting in replaced:
            setting.retire()
            self._writer.settle(setting)
        self._look()

    def close(self) -> None:
        """Trace no more, and write what is not written yet. Idempotent."""
        with self._lock:
            self._closed = True
            self.active = False
        self._writer.close()

    def _look(self) -> None:
        with self._lock:
            self.active = not self._closed and any(setting.on for setting in self._settings.every())

    def _check(self, model: str) -> None:
        if model:
            try:
                self._find(model, "")
            except (NotFound, Unavailable):
                raise InvalidArgument(f"Request for unknown model : {model}") from None
