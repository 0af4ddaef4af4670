"""Models with inputs that requests may leave out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from modelling import SOON, rows

from yais.core.tensor import DataType, TensorSpec
from yais.engines.python import PythonEngine
from yais.inference.layout import Signature
from yais.inference.model import Model
from yais.inference.request import InferRequest

MakeModel = Callable[..., Model]

A = TensorSpec("A", DataType.FP32, (2,))
B = TensorSpec("B", DataType.FP32, (2,))
Y = TensorSpec("Y", DataType.FP32, (2,))
SIGNATURE = Signature("M", (A, B), (Y,), max_batch=8, optional=frozenset({"A"}))
ROWS = [TensorSpec(name, DataType.FP32, (-1, 2)) for name in "ABY"]  # as the engine has them


class Adding:
    """Y = A + 10 B, where A is 0.5 unless it is given; notes what it was called with, and can be stopped."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, inputs: dict[str, Any]) -> dict[str, Any]:
        self.calls.append(("".join(sorted(inputs)), len(inputs["B"])))
        self.entered.release()
        assert self.gate.wait(SOON)
        return {"Y": inputs.get("A", np.float32(0.5)) + 10 * inputs["B"]}


def request(b: float, a: float | None = None) -> InferRequest:
    given = {"B": b} if a is None else {"B": b, "A": a}
    specs = [TensorSpec(name, DataType.FP32, (1, 2)) for name in given]
    return InferRequest(specs, [np.full((1, 2), value, np.float32).tobytes() for value in given.values()])


@pytest.mark.parametrize("batching", [False, True])
def test_with_and_without(make_model: MakeModel, batching: bool) -> None:
    adding = Adding()
    engine = PythonEngine(adding, inputs=ROWS[:2], outputs=ROWS[2:])
    model = make_model(engine, signature=SIGNATURE, batching=batching)
    assert rows(model.submit(request(1)).result(SOON)).tolist() == [[10.5, 10.5]]
    assert rows(model.submit(request(1, 7)).result(SOON)).tolist() == [[17, 17]]
    assert adding.calls == [("B", 1), ("AB", 1)]


def test_a_batch_is_of_requests_with_the_same_inputs(make_model: MakeModel) -> None:
    adding = Adding()
    engine = PythonEngine(adding, inputs=ROWS[:2], outputs=ROWS[2:])
    model = make_model(engine, signature=SIGNATURE)
    adding.gate.clear()
    futures = [model.submit(request(0))]
    try:
        assert adding.entered.acquire(timeout=SOON)
        futures += [model.submit(request(index, 1 if index < 4 else None)) for index in range(1, 7)]
    finally:
        adding.gate.set()
    answers = [rows(future.result(SOON))[0, 0] for future in futures]
    assert answers == [0.5, 11, 21, 31, 40.5, 50.5, 60.5]
    assert adding.calls == [("B", 1), ("AB", 3), ("B", 3)]
