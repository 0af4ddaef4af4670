"""Inference requests and responses, whichever way they came in."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from yais.core.clock import NEVER, Deadline, monotonic
from yais.core.tensor import TensorSpec
from yais.engines.engine import Array
from yais.inference.device_contents import DeviceContents
from yais.inference.request_trace import RequestTrace
from yais.lane import Lane

__all__ = ["InferRequest", "InferResponse", "Respond", "ResponseForm", "SequenceStep", "TensorData"]

TensorData = bytes | memoryview | Array | DeviceContents
"""Contents of a tensor: row-major little-endian bytes, or for BYTES a flat array of `bytes` objects; or a
C-contiguous array of the tensor's shape and type; or, for a model with `Servable.gpus`, bytes on a GPU."""


Respond = Callable[["InferResponse"], bool]
"""Takes one of several responses to a request; returns whether more are wanted."""


@dataclass(frozen=True, slots=True)
class SequenceStep:
    """Which of a sequence of requests one is.

    Attributes
    ----------
    id
        Of the sequence: a number from 1 to 2^64-1, or text that is not empty. Numbers and texts never mean
        the same sequence.
    start, end
        Whether it is the first, and the last one.
    """

    id: int | str
    start: bool = False
    end: bool = False


@dataclass(slots=True, eq=False)
class InferRequest:
    """One request to a model.

    Attributes
    ----------
    inputs
        What is given, with concrete shapes; for a batching model the first dimension is the batch.
    data
        The contents of each, in the same order. They must not change until the answer is there.
    outputs
        Names of the outputs asked for, in the order wanted; empty for all of the model's.
    id
        Repeated in the response and in error messages.
    parameters
        Whatever else the caller said.
    sequence
        Its place in a sequence, if it has one.
    priority
        1 is the highest; 0 leaves it to the model.
    timeout
        How long it wants to wait in the queue at most, ns; 0 leaves it to the model.
    deadline
        After it nobody waits for the answer.
    received
        When the request came in: ns of `monotonic`.
    waits
        Whether whoever asks is likely to wait for the answer next. A short batch is then run by the thread
        that waits, unless another begins before.
    arrays
        Whether the contents of the response are to be arrays, too.
    waited
        How much of the time since then it waited for its RPC's context, ns.
    signature
        Requests to the same model with equal signatures have equal inputs and outputs, so that checking
        the first of them is enough; None when the caller cannot tell.
    respond
        Takes the responses of a decoupled model, on a thread of the lane; other models do not use it.
    lane
        The lane whose memory the contents are in, if any. Its holder keeps it until the answer is there.
    trace
        Takes the moments of the request, if somebody wants to know them.
    volatile
        Whether the contents are where others may change them after all, as in shared memory: then the answer
        is only kept for others if they have not.
    bundle
        For a request that stands for several of one form, whose items are its own one after the other: when
        each of them came in, and how long it waited for a context, ns. They are counted instead of it; if it
        fails nothing is, since they are then submitted one by one.
    """

    inputs: Sequence[TensorSpec]
    data: Sequence[TensorData]
    outputs: Sequence[str] = ()
    id: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    deadline: Deadline = NEVER
    received: int = field(default_factory=monotonic)
    signature: Hashable | None = None
    respond: Respond | None = None
    lane: Lane | None = None
    waited: int = 0
    sequence: SequenceStep | None = None
    priority: int = 0
    timeout: int = 0
    arrays: bool = False
    waits: bool = False
    trace: RequestTrace | None = None
    volatile: bool = False
    bundle: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ResponseForm:
    """What responses of one form have in common; they share the object.

    Attributes
    ----------
    model_name, model_version
        What answered.
    outputs
        What is returned, with concrete shapes.
    parameters
        By the name of an output, what is said of it: where its contents are, for one in shared memory.
    """

    model_name: str
    model_version: str
    outputs: tuple[TensorSpec, ...]
    parameters: Mapping[str, Mapping[str, str | int]] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class InferResponse:
    """The answer to one request.

    Attributes
    ----------
    form
        Everything but what follows.
    id
        The request's.
    data
        The contents of each output: row-major little-endian bytes, or for BYTES an array of `bytes`; arrays
        of the outputs' shapes if that was asked for.
    """

    form: ResponseForm
    id: str
    data: Sequence[memoryview | Array]
