"""The stages of a batch: what is given back when, and what is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from modelling import SOON, X, Y, doubling, is_double, request, rows, stopped

from yais.inference.model import Model
from yais.lane import Lanes
from yais.testing import FakeEngine

MakeModel = Any


@pytest.fixture
def staged() -> Iterator[Lanes]:
    lanes = Lanes("staged", threads={"execute": 2, "post": 1})
    yield lanes
    assert lanes.close(SOON)


def free(lanes: Lanes) -> bool:
    statistics = lanes.pool.statistics()
    return statistics.available == statistics.size


def test_instance_and_lane_are_free_before_outputs_are_handed_out(
    make_model: MakeModel, staged: Lanes
) -> None:
    engine: Any = doubling()
    engine.blocks = True  # so that no batch is known to be short, and runs through without a hop
    model: Model = make_model(engine, lanes=staged)
    busy, go_on = threading.Event(), threading.Event()

    def occupy() -> None:
        busy.set()
        assert go_on.wait(SOON)

    occupied = staged.threads[0]["post"].submit(occupy)
    assert busy.wait(SOON)
    engine.gate.clear()
    futures = [model.submit(request())]
    assert engine.entered.acquire(timeout=SOON)
    futures += [model.submit(request()) for _ in range(3)]
    engine.gate.set()
    assert engine.entered.acquire(timeout=SOON)  # the three, gathered
    futures.append(model.submit(request()))
    assert engine.entered.acquire(timeout=SOON)  # the instance was free again
    deadline = time.monotonic() + SOON
    while not free(staged):  # the last batch gives its lane back a moment after the engine
        assert time.monotonic() < deadline
    assert not any(future.done() for future in futures)
    go_on.set()
    assert occupied.exception(SOON) is None
    assert all(future.get(SOON) for future in futures) and engine.batches == [1, 3, 1]


def test_what_is_gathered_is_in_the_memory_of_a_lane(make_model: MakeModel, lanes: Lanes) -> None:
    engine = doubling()
    model = make_model(engine)
    asked = [request(float(index), batch=4) for index in range(8)]
    with stopped(engine, model):
        futures = [model.submit(one) for one in asked]
    assert all(is_double(future.get(SOON), one) for future, one in zip(futures, asked, strict=True))
    leases = [lanes.pool.acquire(SOON) for _ in range(lanes.size)]
    assert max(lease.item.staging.size for lease in leases) >= 64
    for lease in leases:
        lease.release()


def test_what_was_answered_does_not_change(make_model: MakeModel) -> None:
    engine = FakeEngine([X], [Y], lambda x: [x])
    model = make_model(engine)
    kept = []
    for start in range(5):
        asked = [request(100.0 * start + index) for index in range(3)]
        with stopped(engine, model):
            futures = [model.submit(one) for one in asked]
        kept += [(future.get(SOON), one) for future, one in zip(futures, asked, strict=True)]
    for response, one in kept:
        assert rows(response).tobytes() == one.data[0]


def test_inputs_of_the_engine_are_as_promised(make_model: MakeModel) -> None:
    seen: list[Any] = []

    def function(x: Any) -> list[Any]:
        seen.append((x.dtype, x.shape, x.flags.c_contiguous, x.ctypes.data % 64, x.sum().item()))
        return [x]

    engine = FakeEngine([X], [Y], function)
    model = make_model(engine)
    with stopped(engine, model):
        futures = [model.submit(request(1.0, batch=3)), model.submit(request(7.0, batch=2))]
    assert all(future.get(SOON) for future in futures)
    # Gathered memory is aligned to a cache line.
    assert seen[-1] == (np.dtype(np.float32), (5, 2), True, 0, 2 * (1 + 2 + 3 + 7 + 8))
