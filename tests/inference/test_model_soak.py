"""Everything at once for a while: nothing is lost, done twice, or kept."""

from __future__ import annotations

import random
import threading
from typing import Any

import numpy as np
import pytest
from many_threads import in_threads
from modelling import SIGNATURE, SOON, X, Y, check_invariants, dispatching, is_double, request

from yais.core.clock import Deadline
from yais.core.future import Future
from yais.core.timer import Timer
from yais.errors import DeadlineExceeded, Internal, InvalidArgument
from yais.inference.failure import FailureReason
from yais.inference.model import Model
from yais.inference.model_options import ModelOptions
from yais.inference.request import InferRequest, InferResponse
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.inference.tokens import Tokens
from yais.lane import Lanes
from yais.testing import FakeEngine

REQUESTS = 1000  # of each thread


class Tally:
    """Counts how often each future is done."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.asked: list[tuple[Future[InferResponse], InferRequest]] = []
        self.done: dict[int, int] = {}

    def add(self, future: Future[InferResponse], asked: InferRequest) -> None:
        with self._lock:
            self.asked.append((future, asked))
        future.add_done_callback(self._count)

    def _count(self, future: Future[InferResponse]) -> None:
        with self._lock:
            self.done[id(future)] = self.done.get(id(future), 0) + 1


def unreliable() -> FakeEngine:
    """Return an engine of y = 2 x that fails on negative values, always, and sometimes on others."""
    rng = random.Random(0)

    def function(x: Any) -> list[Any]:
        if (x < 0).any() or rng.random() < 0.02:
            raise ValueError("bad luck")
        return [x * 2] if rng.random() > 0.02 else [x[:-1]]

    return FakeEngine([X], [Y], function)


def some_request(rng: random.Random, name: str) -> InferRequest:
    chance = rng.random()
    batch = rng.randint(1, 8) if chance > 0.02 else 9
    value = -100.0 if chance > 0.97 else float(rng.randint(0, 10**6))
    deadline = Deadline.after(rng.choice([None, None, None, 0.0, 0.0005, 10.0]))
    return request(value, batch, name=name, deadline=deadline)


@pytest.mark.parametrize(
    "stages", [{"execute": 2}, {"pre": 1, "execute": 2, "post": 1}], ids=["one", "three"]
)
@pytest.mark.parametrize(
    ("instances", "policy"),
    [(1, {}), (3, {"max_delay": 300_000, "preferred": (4,)}), (2, None)],
    ids=["greedy", "delayed", "direct"],
)
def test_soak(
    instances: int, policy: dict[str, Any] | None, stages: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "yais.inference")
    engine = unreliable()
    lanes, tokens, timer = Lanes("soak", threads=stages), Tokens(2), Timer("soak-timer")
    options = ModelOptions(None if policy is None else BatchingPolicy(8, **policy), instances)
    model = Model(SIGNATURE, "1", engine, options, lanes=lanes, tokens=tokens, timer=timer)
    tally = Tally()

    def ask(index: int, rng: random.Random, number: int) -> None:
        asked = some_request(rng, f"{index}/{number}")
        future = model.submit(asked)
        tally.add(future, asked)
        if rng.random() < 0.2:
            future.cancel()
        elif rng.random() < 0.1:
            future.wait(SOON if index < 4 else 0)

    def work(index: int) -> None:
        rng = random.Random(index)
        if index < 4:
            for number in range(REQUESTS):
                ask(index, rng, number)
            return
        with dispatching() as dispatcher:
            for number in range(REQUESTS):
                ask(index, rng, number)
                if rng.random() < 0.2:
                    dispatcher.drain()
            dispatcher.drain()

    in_threads(6, work)
    outcomes = {"answered": 0, "cancelled": 0, "failed": 0}
    late = 0
    for future, asked in tally.asked:
        assert future.wait(SOON), "a future was left incomplete"
        if future.cancelled():
            outcomes["cancelled"] += 1
        elif (error := future.exception(0)) is not None:
            assert isinstance(error, DeadlineExceeded | Internal | InvalidArgument), error
            outcomes["failed"] += 1
            late += isinstance(error, DeadlineExceeded)
        else:
            assert is_double(future.result(0), asked)
            outcomes["answered"] += 1
    assert all(outcomes.values()), outcomes
    check_instances(model, engine, min(instances, stages["execute"], tokens.size), instances)
    assert model.close(SOON) and timer.close(SOON) and lanes.close(SOON)
    # Each was done once: counted only now, when the last callbacks have run.
    assert tally.done == {id(future): 1 for future, _ in tally.asked}
    counts = model.counts()
    check_invariants(counts)
    assert counts.success.count == outcomes["answered"] + instances
    assert counts.fail.count == outcomes["failed"] + outcomes["cancelled"] == counts.failures.total()
    assert counts.failures[FailureReason.CANCELED] == outcomes["cancelled"] + late
    staging = lanes.pool.statistics()
    assert staging.available == staging.size
    assert tokens.pool.statistics().available == tokens.size


def check_instances(model: Model, engine: FakeEngine, at_once: int, instances: int) -> None:
    """Check that as many batches as ever run at once."""
    engine._function = lambda x: [np.array(x * 2)]
    engine.gate.clear()
    while engine.entered.acquire(blocking=False):
        pass
    futures = [model.submit(request(batch=8)) for _ in range(instances)]
    for _ in range(at_once):
        assert engine.entered.acquire(timeout=SOON), "an instance was lost"
    engine.gate.set()
    assert all(future.get(SOON) for future in futures)
