"""Streams of inference made by hand, and decoupled models for them."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import grpc
import numpy as np
from gated_models import TENSORS, Gate, gates, write_gated, write_python
from onnx_models import write
from sequence_models import IMPLICIT_SUM, implicit_sum
from serving_models import SOON, infer_request

from yais.protocol import kserve_pb2 as pb

FINAL = "triton_final_response"
WITH_END = "triton_enable_empty_final_response"

REPEAT = """
import numpy as np
from gated_models import gates

class Model:
    def execute(self, inputs):
        gate = gates["repeat"]
        try:
            for value in inputs["x"].tolist():
                if value < 0:
                    raise ValueError("negative")
                with gate.passing([value]):
                    yield {"y": np.array([value], np.float32)}
        finally:
            gate.note("ended")
"""
"""Gives each element of `x` as a response of its own; fails at the first one below zero."""

FLOOD = """
import numpy as np
from gated_models import gates

class Model:
    def execute(self, inputs):
        gate = gates["flood"]
        count, size = (int(value) for value in inputs["x"])
        try:
            for number in range(count):
                gate.note(number)
                yield {"y": np.full(size, number, np.float32)}
        finally:
            gate.note("ended")
"""
"""Answers x[0] times with x[1] elements."""


PATIENT = "direct {} max_sequence_idle_microseconds: 60000000"
"""A second, the default, may pass between two requests of a sequence on a busy machine."""


def fill_streams(repository: Path) -> Path:
    """Write models for streams; return the repository.

    first, second
        x: FP32[1, -1] -> y, held up at gates of these names; batches of up to 8.
    repeat, flood
        Decoupled: see above.
    sum
        The sum of each sequence.
    """
    for name in ("first", "second"):
        write_gated(repository, name, "max_batch_size: 8 dynamic_batching {}")
    for name, source in (("repeat", REPEAT), ("flood", FLOOD)):
        write_python(repository, name, source, TENSORS)
    write(repository, "sum", implicit_sum(), IMPLICIT_SUM.replace("STRATEGY {}", PATIENT))
    return repository


def gate(name: str) -> Gate:
    """Return the gate of a model, opened."""
    gates[name].batches.clear()
    return gates[name]


def item(model: str, request_id: str, *values: float, **fields: Any) -> pb.ModelInferRequest:
    """Return a request with one item, a row but for decoupled models."""
    flat = model in {"repeat", "flood"}
    array = np.array(values if flat else [values], np.float32)
    return infer_request(model, {"x": array}, id=request_id, **fields)


def with_end(request: pb.ModelInferRequest) -> pb.ModelInferRequest:
    """Return a request that wants to be told its end."""
    request.parameters[WITH_END].bool_param = True
    return request


class Conversation:
    """A stream of inference: requests are sent when they are put, responses received when they are asked for.

    Parameters
    ----------
    channel
        Where to.
    metadata
        Sent when it is opened.
    """

    def __init__(self, channel: grpc.Channel, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self._requests: queue.Queue[Any] = queue.Queue()
        method = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        self.call = method(iter(self._requests.get, None), timeout=2 * SOON, metadata=metadata)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.call.cancel()
        self._requests.put(None)

    def send(self, *requests: pb.ModelInferRequest | bytes) -> None:
        """Send requests."""
        for request in requests:
            self._requests.put(request if isinstance(request, bytes) else request.SerializeToString())

    def half_close(self) -> None:
        """Send no more."""
        self._requests.put(None)

    def __iter__(self) -> Iterator[pb.ModelStreamInferResponse]:
        """Receive all responses; raises the status if it is not OK."""
        return map(pb.ModelStreamInferResponse.FromString, self.call)

    def next(self) -> pb.ModelStreamInferResponse:
        """Receive a response."""
        return next(iter(self))

    def take(self, count: int) -> list[tuple[str, Any]]:
        """Receive so many responses, as `told` says."""
        return [told(self.next()) for _ in range(count)]

    def rest(self) -> list[tuple[str, Any]]:
        """Send no more, and receive what is left."""
        self.half_close()
        return [told(response) for response in self]

    def status(self) -> tuple[grpc.StatusCode, str]:
        """Wait for the end, with an error; return code and text."""
        error = self.call.exception(SOON)
        return error.code(), error.details()


def told(response: pb.ModelStreamInferResponse) -> tuple[str, Any]:
    """Return the id, and the first output as a list, an error's text, or None for the end of a response."""
    inner = response.infer_response
    if response.error_message:
        return inner.id, response.error_message
    if not inner.outputs:
        return inner.id, None
    return inner.id, np.frombuffer(inner.raw_output_contents[0], np.float32).tolist()
