"""What the tests of managers have in common."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from modelling import SOON

from yais.core.tensor import DataType, TensorSpec
from yais.inference.manager import InferenceManager
from yais.testing import FakeEngine

X = TensorSpec("x", DataType.FP32, (-1, 4))
Y = TensorSpec("y", DataType.FP32, (-1, 4))


def doubling() -> FakeEngine:
    """Return an engine of y = 2 x."""
    return FakeEngine([X], [Y], lambda x: [2 * x])


def ones(batch: int = 1, value: float = 1.0) -> Any:
    return np.full((batch, 4), value, np.float32)


def eventually(holds: Callable[[], object]) -> None:
    """Wait until something holds that nobody tells of."""
    deadline = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.001)


def free_lanes(manager: InferenceManager) -> int:
    return manager._lanes.pool.statistics().available


def free_tokens(manager: InferenceManager) -> int:
    return manager._tokens.pool.statistics().available


def check_idle(manager: InferenceManager) -> None:
    """Check that every lane and token comes back, and nobody waits for one."""
    for pool in (manager._lanes.pool, manager._tokens.pool):
        eventually(lambda pool=pool: pool.statistics().available == pool.statistics().size)  # type: ignore[misc]
        assert not pool.statistics().waiting
