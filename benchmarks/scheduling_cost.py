"""What scheduling costs: the state machines alone, and the whole way of a request through a model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.scheduling_simulation import Arrival
from yais.core.clock import monotonic
from yais.core.tensor import DataType, TensorSpec
from yais.core.timer import Timer
from yais.inference.batch_times import BatchTimes
from yais.inference.layout import Signature
from yais.inference.model import Model
from yais.inference.model_options import ModelOptions
from yais.inference.request import InferRequest, SequenceStep
from yais.inference.scheduling.direct import DirectQueue
from yais.inference.scheduling.dynamic import BatchingPolicy, DynamicQueue
from yais.inference.scheduling.queue import BatchQueue
from yais.inference.scheduling.sequence import LiveSequence, SequencePolicy, SequenceQueue, Strategy
from yais.inference.scheduling.slo import SloPolicy, SloQueue
from yais.inference.tokens import Tokens
from yais.lane import Lanes
from yais.testing import FakeEngine

__all__ = ["Cost", "costs", "costs_of_models"]

MAX_BATCH = 16
_HOUR = 3_600_000_000_000


@dataclass(frozen=True)
class Cost:
    """Microseconds of CPU time for each request: the least of the rounds."""

    scheduler: str
    batch: int
    us: float


@dataclass(eq=False)
class Step(Arrival):
    """A request of a sequence."""

    step: SequenceStep | None = None
    sequence: LiveSequence | None = None


Make = Callable[[], BatchQueue[Any]]


def _policy(**options: Any) -> BatchingPolicy:
    return BatchingPolicy(MAX_BATCH, **options)


def _times() -> BatchTimes:
    return BatchTimes((size, 2_000_000 + 500_000 * size) for size in range(1, MAX_BATCH + 1))


def _sequences(strategy: Strategy) -> SequenceQueue[Step]:
    return SequenceQueue(SequencePolicy(MAX_BATCH, 1, strategy, max_idle=_HOUR), "model")


QUEUES: dict[str, Make] = {
    "direct": DirectQueue,
    "dynamic": lambda: DynamicQueue(_policy()),
    "dynamic, preferred sizes and a delay": lambda: DynamicQueue(
        _policy(preferred=(4, 8), max_delay=1_000_000)
    ),
    "dynamic, priority levels": lambda: DynamicQueue(_policy(priority_levels=4, default_priority=2)),
    "SLO": lambda: SloQueue(SloPolicy(_policy(), _HOUR), _times()),
    "sequences, direct": lambda: _sequences(Strategy.DIRECT),
    "sequences, oldest": lambda: _sequences(Strategy.OLDEST),
}


def _items(batch: int, count: int) -> list[Step]:
    """Return the requests, of as many endless sequences as a batch has items."""
    steps = [SequenceStep(index + 1) for index in range(batch)]
    first = [SequenceStep(index + 1, start=True) for index in range(batch)]
    return [Step(0, step=(first if index < batch else steps)[index % batch]) for index in range(count)]


def _run(queue: BatchQueue[Any], batch: int, items: list[Step]) -> float:
    """Push and take batch after batch, as the shell does; return the microseconds for each item."""
    free = (0,)
    begin = time.process_time_ns()
    now, taken = 0, 0
    for start in range(0, len(items), batch):
        now += 10_000_000
        for item in items[start : start + batch]:
            item.queued = now
            queue.push(item, now)
        moment = now + 1_000_000  # whoever waits for others has waited
        while (formed := queue.take(moment, free)) is not None:
            taken += len(formed.items)
            queue.reap(moment)
            queue.released(formed.instance, moment + 100_000)
    if taken != len(items):
        raise AssertionError(f"got {taken} items, expected {len(items)}")
    return (time.process_time_ns() - begin) / len(items) / 1e3


def costs(count: int = 16_000, rounds: int = 5) -> list[Cost]:
    """Measure each state machine with batches of one item, and with full ones."""
    found = []
    for name, make in QUEUES.items():
        for batch in (1, MAX_BATCH):
            least = min(_run(make(), batch, _items(batch, count)) for _ in range(rounds))
            found.append(Cost(name, batch, least))
    return found


def costs_of_models(count: int = 6_400, rounds: int = 5) -> list[Cost]:
    """Measure the way of a request from `Model.submit` to its answer, with an engine that does nothing."""
    policy = _policy()
    kinds = {
        "direct": ModelOptions(),
        "dynamic": ModelOptions(policy),
        "SLO": ModelOptions(slo=SloPolicy(policy, _HOUR)),
    }
    timer, tokens = Timer("cost-timer"), Tokens(1)
    lanes = Lanes("cost", threads={"execute": 1})
    try:
        found = []
        for name, options in kinds.items():
            least = min(_run_model(options, count, lanes, tokens, timer) for _ in range(rounds))
            found.append(Cost(name, MAX_BATCH, least))
        return found
    finally:
        lanes.close(10.0)
        timer.close(10.0)


def _run_model(options: ModelOptions, count: int, lanes: Lanes, tokens: Tokens, timer: Timer) -> float:
    spec = [TensorSpec("X", DataType.FP32, (2,)), TensorSpec("Y", DataType.FP32, (2,))]
    answer = np.zeros((MAX_BATCH, 2), np.float32)
    engine = FakeEngine(spec[:1], spec[1:], lambda x: [answer[: len(x)]])
    signature = Signature("cost", (spec[0],), (spec[1],), max_batch=MAX_BATCH)
    model = Model(signature, "1", engine, options, lanes=lanes, tokens=tokens, timer=timer)
    try:
        model.warm_up()
        row = np.zeros((1, 2), np.float32).tobytes()
        shape = [TensorSpec("X", DataType.FP32, (1, 2))]
        begin = time.process_time_ns()
        for _ in range(count // 64):
            now = monotonic()
            asked = [InferRequest(shape, [row], received=now, signature="one") for _ in range(64)]
            for future in [model.submit(request) for request in asked]:
                future.result(10.0)
        return (time.process_time_ns() - begin) / count / 1e3
    finally:
        model.close(10.0)
