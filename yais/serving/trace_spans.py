"""Traces as OpenTelemetry's spans: where they go in mode "opentelemetry"."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from yais.inference.request_trace import BatchMoments
from yais.rpc.metadata import Metadata
from yais.serving.call_trace import CallTrace, RequestRecord
from yais.serving.exemplars import Exemplars, TracedTimes
from yais.serving.trace_export import collector_provider
from yais.serving.trace_json import batch_events
from yais.serving.trace_settings import TraceOptions, TraceSetting
from yais.telemetry.trace_ids import hexadecimal

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanContext

__all__ = ["TraceSpans"]


class TraceSpans:
    """Makes spans of traces: a `TraceSink`. `context` and `begin` are thread-safe.

        InferRequest              the call, from its arrival until its answer is sent
          MODEL                   the request to a model; for steps of ensembles: within that of the ensemble
            queue                 until it is taken out of the queue, in a batch
            batch                 what is done with the batch, waiting for an execution token included
              compute             gathering its inputs, running the model, and its outputs

    Parameters
    ----------
    options
        Where spans go.
    exemplars
        Is told of requests that succeeded and whose spans are exported.

    Raises
    ------
    ImportError
        OpenTelemetry, or what exports its spans as asked, is not installed.
    ValueError
        An option is no number.
    """

    def __init__(self, options: TraceOptions, exemplars: Exemplars) -> None:
        self._exemplars = exemplars
        try:
            from opentelemetry import context, propagate, trace
            from opentelemetry.propagators.textmap import Getter

            self._own = collector_provider(options.otel) if options.provider is None else None
        except ImportError as error:
            raise ImportError(
                f"trace mode 'opentelemetry' needs OpenTelemetry ({error}): pip install 'yais[otel]'"
            ) from error

        class FromMetadata(Getter[Metadata]):
            def get(self, carrier: Metadata, key: str) -> list[str] | None:
                return [value for value in carrier.get_all(key.lower()) if isinstance(value, str)] or None

            def keys(self, carrier: Metadata) -> list[str]:
                return list(carrier)

        self._trace = trace
        self._propagate = propagate
        self._getter = FromMetadata()
        self._current = context.get_current
        self._nothing = context.Context()
        self._tracer = trace.get_tracer("yais.serving", tracer_provider=options.provider or self._own)

    def __repr__(self) -> str:
        return f"<TraceSpans {self._tracer!r}>"

    def context(self, metadata: Metadata) -> tuple[Context, bool]:
        """Return the context of a call, and whether its caller is traced itself.

        It is what the metadata say, by the process's propagators; or the current one where the call has a
        span already, by `yais.rpc.interceptors.tracing`.
        """
        said = self._propagate.extract(metadata, context=self._nothing, getter=self._getter)
        caller, current = self._span_context(said), self._current()
        context = current if self._span_context(current).is_valid else said
        return context, caller.is_valid and caller.trace_flags.sampled

    def begin(self, call: CallTrace, start: int) -> None:
        """Begin the span of a call that began at `start`, ns of `monotonic`, so that logs can name it."""
        within = self._span_context(call.context)
        local = within.is_valid and not within.is_remote
        kind = self._trace.SpanKind.INTERNAL if local else self._trace.SpanKind.SERVER
        call.span = span = self._tracer.start_span(
            "InferRequest", context=call.context, kind=kind, start_time=start + call.epoch
        )
        call.ids = hexadecimal(span.get_span_context())

    def write(self, call: CallTrace) -> None:
        """Make the other spans of a trace, and end all of them."""
        span: Span = call.span
        _add_events(span, call.moments, call.epoch)
        contexts = {0: self._trace.set_span_in_context(span, call.context)}
        ends = [self._request(call, record, contexts) for record in call.records]
        self._fail(span, call.records[0])
        span.end(max([*ends, *(at + call.epoch for _, at in call.moments)]))

    def settle(self, setting: TraceSetting) -> None:
        """See `TraceSink`: spans do not wait for each other."""

    def close(self) -> None:
        """Export what is left, if the exporter is not somebody else's."""
        if self._own is not None:
            self._own.shutdown()

    def _request(self, call: CallTrace, record: RequestRecord, contexts: dict[int, Context]) -> int:
        """Make the spans of a request to a model; return when it ended."""
        moments = sorted(record.moments, key=lambda moment: moment[1])
        attributes = {
            "triton.model_name": record.model,
            "triton.model_version": int(record.version) if record.version.isdecimal() else record.version,
            "triton.trace_id": record.id,
            "triton.trace_parent_id": record.parent,
            "triton.request_id": record.request_id,
        }
        start = moments[0][1] + call.epoch
        span = self._tracer.start_span(
            record.model, context=contexts[record.parent], start_time=start, attributes=attributes
        )
        contexts[record.id] = context = self._trace.set_span_in_context(span, contexts[record.parent])
        _add_events(span, moments, call.epoch)
        queued = dict(moments).get("QUEUE_START")
        if queued is not None and record.batches:
            taken = max(queued, record.batches[0].taken)
            queue = self._tracer.start_span("queue", context=context, start_time=queued + call.epoch)
            queue.end(taken + call.epoch)
        for batch in record.batches:
            self._batch(batch, context, call.epoch)
        self._fail(span, record)
        self._exemplify(span.get_span_context(), record, call.epoch)
        end = max([at for _, at in moments] + [batch.end for batch in record.batches]) + call.epoch
        span.end(end)
        return end

    def _batch(self, batch: BatchMoments, context: Context, epoch: int) -> None:
        size = {"yais.batch_size": batch.size}
        span = self._tracer.start_span(
            "batch", context=context, start_time=batch.taken + epoch, attributes=size
        )
        within = self._trace.set_span_in_context(span, context)
        compute = self._tracer.start_span("compute", context=within, start_time=batch.start + epoch)
        _add_events(compute, batch_events(batch), epoch)
        compute.end(batch.end + epoch)
        span.end(batch.end + epoch)

    def _exemplify(self, span: SpanContext, record: RequestRecord, epoch: int) -> None:
        if not record.batches or record.error or not span.trace_flags.sampled:
            return
        batch = record.batches[-1]
        times = TracedTimes(
            hexadecimal(span),
            batch.end + epoch,
            batch.end - record.received,
            batch.output_start - batch.input_end,
        )
        self._exemplars.add(record.model, record.version, times)

    def _fail(self, span: Span, record: RequestRecord) -> None:
        if record.error:
            span.set_status(self._trace.StatusCode.ERROR, record.error)

    def _span_context(self, context: Context | None) -> Any:
        return self._trace.get_current_span(context).get_span_context()


def _add_events(span: Span, moments: Iterable[tuple[str, int]], epoch: int) -> None:
    for name, at in moments:
        span.add_event(name, timestamp=at + epoch)
