"""What the tests of models have in common: requests, and engines that answer them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from yais.core.clock import NEVER, Deadline
from yais.core.dispatcher import set_current_dispatcher
from yais.core.future import Future
from yais.core.tensor import DataType, TensorSpec
from yais.inference.counts import Counts
from yais.inference.layout import Signature
from yais.inference.model import Model
from yais.inference.request import InferRequest, InferResponse
from yais.testing import FakeEngine

SOON = 20.0
"""Seconds after which a wait counts as lost."""

X = TensorSpec("X", DataType.FP32, (2,))
Y = TensorSpec("Y", DataType.FP32, (2,))
SIGNATURE = Signature("M", (X,), (Y,), max_batch=8)
WITHOUT_BATCH = Signature("M", (X,), (Y,), max_batch=0)


def doubling() -> FakeEngine:
    """Return an engine of y = 2 x."""
    return FakeEngine([X], [Y], lambda x: [x * 2])


def request(
    value: float = 1.0, batch: int = 1, *, name: str = "", deadline: Deadline = NEVER
) -> InferRequest:
    """Return a request whose rows are value, value + 1, and so on."""
    rows = np.full((batch, 2), value, np.float32) + np.arange(batch, dtype=np.float32)[:, None]
    spec = TensorSpec("X", DataType.FP32, (batch, 2))
    return InferRequest([spec], [rows.tobytes()], id=name, deadline=deadline)


def rows(response: InferResponse, output: int = 0) -> Any:
    """Return an output of a response as an array."""
    spec = response.form.outputs[output]
    data = response.data[output]
    if isinstance(data, np.ndarray):
        return data.reshape(spec.shape)
    return np.frombuffer(data, spec.datatype.numpy).reshape(spec.shape)


def is_double(response: InferResponse, asked: InferRequest) -> bool:
    """Whether a response is that of a doubling model to a request."""
    expected = np.frombuffer(asked.data[0], np.float32).reshape(asked.inputs[0].shape) * 2
    return (
        response.id == asked.id
        and rows(response).shape == expected.shape
        and bool((rows(response) == expected).all())
    )


@contextmanager
def stopped(engine: FakeEngine, model: Model, executions: int = 1) -> Iterator[list[Future[InferResponse]]]:
    """Keep `executions` instances busy while the block lasts, each with a request of one item.

    These requests are done when the block has ended.
    """
    engine.gate.clear()
    futures = []
    try:
        for _ in range(executions):
            futures.append(model.submit(request()))
            assert engine.entered.acquire(timeout=SOON)
        yield futures
    finally:
        engine.gate.set()
        for future in futures:
            future.wait(SOON)


class HandDispatcher:
    """A dispatcher whose queue runs empty when a test says so."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], None]] = []

    def when_drained(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)

    def drain(self) -> None:
        while self.callbacks:
            self.callbacks.pop(0)()


@contextmanager
def dispatching() -> Iterator[HandDispatcher]:
    """Make the thread one of a dispatcher while the block lasts."""
    dispatcher = HandDispatcher()
    set_current_dispatcher(dispatcher)
    try:
        yield dispatcher
    finally:
        set_current_dispatcher(None)


def onnx_model(operator: str, inputs: Sequence[str], kind: int = TensorProto.FLOAT) -> bytes:
    """Return a model of one operator on rows of two elements."""
    node = helper.make_node(operator, list(inputs), ["Y"])
    names = list(dict.fromkeys(inputs))
    graph = helper.make_graph(
        [node],
        "test",
        [helper.make_tensor_value_info(name, kind, ("batch", 2)) for name in names],
        [helper.make_tensor_value_info("Y", kind, ("batch", 2))],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def check_invariants(counts: Counts) -> None:
    """Check what Triton's clients rely on (kserve-v2.md, section 1.14)."""
    requests = counts.success.count
    assert counts.queue.count == requests
    for duration in (counts.compute_input, counts.compute_infer, counts.compute_output):
        assert duration.count == requests
    assert sum(batch.compute_infer.count for batch in counts.batches.values()) == counts.executions
    for batch in counts.batches.values():
        assert batch.compute_input.count == batch.compute_infer.count == batch.compute_output.count
    assert (
        sum(size * batch.compute_infer.count for size, batch in counts.batches.items()) == counts.inferences
    )
    assert sum(counts.closed.values()) == counts.executions
    for histogram, observations in (
        (counts.batch_size, counts.executions),
        (counts.request_seconds, requests),
        (counts.queue_seconds, requests),
        (counts.compute_seconds, requests),
        (counts.context_seconds, requests),
        (counts.buffers_seconds, requests),
        (counts.token_seconds, requests),
        (counts.stream_seconds, requests),
        (counts.load_ratio, requests),
    ):
        assert sum(histogram.counts) == observations
    assert counts.batch_size.sum == counts.inferences
    assert counts.request_seconds.sum == pytest.approx(counts.success.ns / 1e9)
    waited = counts.queue_seconds.sum + counts.buffers_seconds.sum + counts.token_seconds.sum
    assert waited == pytest.approx(counts.queue.ns / 1e9)
    assert counts.compute_seconds.sum == pytest.approx(counts.compute_infer.ns / 1e9)
