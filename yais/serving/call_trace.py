"""The trace of a call: of its request, of those that models made for it, and of its front door."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from yais.core.clock import monotonic
from yais.core.future import Future
from yais.core.tensor import TensorSpec
from yais.inference.request import InferRequest, InferResponse
from yais.inference.request_trace import BatchMoments
from yais.serving.trace_settings import TraceSetting

__all__ = ["CallTrace", "RequestRecord", "TracedCaller", "TracedTensor"]

_ids = itertools.count(1)

_NO_IDS: Mapping[str, str] = {}


@runtime_checkable
class TracedCaller(Protocol):
    """A `Caller` that tells when its answer is sent.

    Attributes
    ----------
    protocol
        "GRPC" or "HTTP".
    trace
        None; set where its request is traced. It then calls `trace.sent()` once, when all of the answer is on
        its way or will never be.
    """

    protocol: str
    trace: CallTrace | None


class TracedTensor(NamedTuple):
    """A tensor of a request or a response; the contents are a copy."""

    activity: str
    spec: TensorSpec
    contents: Any


class RequestRecord:
    """One request to one model, as it went: a `RequestTrace`.

    Attributes
    ----------
    id, parent
        Of this request, and of the one it was made for: 0 if there is none. No two in a process are the same.
    model, version, request_id
        What was asked.
    received
        When it came in, ns of `monotonic`.
    moments
        Name and moment, ns of `monotonic`, as they were reported.
    batches
        Those it was in: more than one if the first has failed.
    tensors
        Its inputs and outputs, if they are wanted.
    error
        Why it failed; nothing if it did not.
    """

    __slots__ = (
        "batches",
        "call",
        "error",
        "id",
        "model",
        "moments",
        "parent",
        "received",
        "request_id",
        "tensors",
        "version",
    )

    def __init__(self, call: CallTrace, parent: int, model: str, version: str, request: InferRequest) -> None:
        self.call = call
        self.id = next(_ids)
        self.parent = parent
        self.model = model
        self.version = version
        self.request_id = request.id
        self.received = request.received
        self.moments: list[tuple[str, int]] = [("REQUEST_START", monotonic())]
        self.batches: list[BatchMoments] = []
        self.tensors: list[TracedTensor] = []
        self.error = ""
        self._take("TENSOR_QUEUE_INPUT", request.inputs, request.data)
        if request.respond is not None:
            request.respond = self._responding(request.respond)
        request.trace = self
        call.records.append(self)

    @property
    def ids(self) -> Mapping[str, str]:
        """See `RequestTrace`."""
        return self.call.ids

    def mark(self, name: str, at: int) -> None:
        """See `RequestTrace`."""
        self.moments.append((name, at))

    def batch(self, moments: BatchMoments) -> None:
        """See `RequestTrace`."""
        self.batches.append(moments)

    def child(self, model: str, version: str, request: InferRequest) -> None:
        """See `RequestTrace`."""
        RequestRecord(self.call, self.id, model, version, request)

    def follow(self, future: Future[InferResponse]) -> None:
        """See `RequestTrace`."""
        if not self.parent:
            self.call.awaits()
        future.add_done_callback(self._ended)

    def _ended(self, future: Future[InferResponse]) -> None:
        error = CancelledError() if future.cancelled() else future.exception(0)
        if error is None:
            self._responded(future.result(0))
        else:
            self.error = str(error) or type(error).__name__
        self.mark("REQUEST_END", monotonic())
        if not self.parent:
            self.call.answered()

    def _responding(self, respond: Callable[[InferResponse], bool]) -> Callable[[InferResponse], bool]:
        def responding(response: InferResponse) -> bool:
            self._responded(response)
            return respond(response)

        return responding

    def _responded(self, response: InferResponse) -> None:
        self._take("TENSOR_BACKEND_OUTPUT", response.form.outputs, response.data)
        if not self.parent:
            self.call.mark("INFER_RESPONSE_COMPLETE", monotonic())

    def _take(self, activity: str, specs: Sequence[TensorSpec], data: Sequence[Any]) -> None:
        if self.call.setting.tensors:
            for spec, contents in zip(specs, data, strict=True):
                copy = contents.copy() if isinstance(contents, np.ndarray) else bytes(contents)
                self.tensors.append(TracedTensor(activity, spec, copy))
                self.call.nbytes += copy.nbytes if isinstance(copy, np.ndarray) else len(copy)


class CallTrace:
    """All that is traced of one call.

    Parameters
    ----------
    setting
        What it is made by.
    written
        Gets it when it is over. What comes in later may be lost.
    context
        Of OpenTelemetry, if there is one: what the caller says of its own trace.

    Attributes
    ----------
    records
        The request's, and then those of requests made for it.
    moments
        Of the front door, as in `RequestRecord`.
    span, ids
        Its span of OpenTelemetry, if there is one, and the `trace_id` and `span_id` of that, for logs.
    epoch
        What to add to moments to make them nanoseconds since 1970.
    nbytes
        Contents of tensors that it holds, roughly.
    """

    def __init__(
        self, setting: TraceSetting, written: Callable[[CallTrace], object], context: Any = None
    ) -> None:
        self.setting = setting
        self.context = context
        self.span: Any = None
        self.ids: Mapping[str, str] = _NO_IDS
        self.records: list[RequestRecord] = []
        self.moments: list[tuple[str, int]] = []
        self.epoch = time.time_ns() - monotonic()
        self.nbytes = 0
        self._written = written
        self._protocol = ""
        self._answered = 0
        self._lock = threading.Lock()
        self._awaited = 0  # of its two ends, that of the request and that of the front door

    def mark(self, name: str, at: int) -> None:
        """Take a moment of the front door."""
        self.moments.append((name, at))

    def received(self, protocol: str, start: int) -> None:
        """Take that the call began at `start`, and is now known. Whoever calls this calls `sent`, too."""
        self.awaits()
        self._protocol = protocol
        reading = "WAITREAD" if protocol == "GRPC" else "RECV"
        self.mark(f"{protocol}_{reading}_START", start)
        self.mark(f"{protocol}_{reading}_END", monotonic())

    def awaits(self) -> None:
        """Take that `answered`, or `sent`, will be called."""
        with self._lock:
            self._awaited += 1

    def answered(self) -> None:
        """Take that the request has ended."""
        self._answered = monotonic()
        self._end()

    def sent(self) -> None:
        """Take that the answer was sent, or never will be. Once."""
        if self._answered:
            self.mark(f"{self._protocol}_SEND_START", self._answered)
            self.mark(f"{self._protocol}_SEND_END", monotonic())
        self._end()

    def _end(self) -> None:
        with self._lock:
            self._awaited -= 1
            last = not self._awaited
        if last:
            self._written(self)
