"""The engine for tests, tested."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from yais.core.tensor import DataType, TensorSpec
from yais.engines.engine import Engine
from yais.testing import FakeEngine

SOON = 20.0

A, B = (TensorSpec(name, DataType.FP32, (-1,)) for name in "AB")
SUM, DIFFERENCE = (TensorSpec(name, DataType.FP32, (-1,)) for name in ("sum", "difference"))


def engine() -> FakeEngine:
    return FakeEngine([A, B], [SUM, DIFFERENCE], lambda a, b: [a + b, a - b])


def test_computes_and_remembers() -> None:
    fake: Engine = engine()
    assert (fake.inputs, fake.outputs) == ((A, B), (SUM, DIFFERENCE))
    assert isinstance(fake, FakeEngine)
    total, difference = fake.execute([np.array([5.0, 1.0]), np.array([2.0, 1.0])])
    assert total.tolist() == [7.0, 2.0] and difference.tolist() == [3.0, 0.0]
    fake.execute([np.float64(1.0).reshape(()), np.float64(1.0).reshape(())])
    assert fake.batches == [2, 1] and repr(fake) == "<FakeEngine: 2 batches>"


def test_select() -> None:
    fake = engine()
    fake.select(["B", "A"], ["difference"])
    assert (fake.inputs, fake.outputs) == ((B, A), (DIFFERENCE,))
    assert fake.execute([np.array([2.0]), np.array([5.0])])[0].tolist() == [3.0]
    fake.select(["A", "B"], ["difference"])
    assert fake.execute([np.array([5.0]), np.array([2.0])])[0].tolist() == [3.0]


def test_outputs_are_copies() -> None:
    fake = FakeEngine([A], [SUM], lambda a: [a])
    array = np.array([1.0])
    (output,) = fake.execute([array])
    assert not np.shares_memory(output, array)


def test_blocks_and_tells() -> None:
    fake = engine()
    fake.gate.clear()
    ended = threading.Event()

    def run() -> None:
        fake.execute([np.zeros(1), np.zeros(1)])
        ended.set()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
        assert fake.entered.acquire(timeout=SOON)
    assert not ended.is_set() and fake.batches == [1, 1]
    fake.gate.set()
    for thread in threads:
        thread.join(SOON)
        assert not thread.is_alive()


def test_raises() -> None:
    fake = engine()
    fake.error = KeyError("x")
    with pytest.raises(KeyError):
        fake.execute([np.zeros(1), np.zeros(1)])
    fake.error = None
    assert len(fake.execute([np.zeros(1), np.zeros(1)])) == 2


def test_closed() -> None:
    fake = engine()
    fake.close()
    fake.close()
    assert fake.closed == 2
    with pytest.raises(RuntimeError, match="is closed, expected an open one"):
        fake.execute([np.zeros(1), np.zeros(1)])
