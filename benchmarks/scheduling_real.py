"""The same with real threads and real time: a model that does nothing but take its time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from benchmarks.scheduling_simulation import Machine, Outcome, poisson
from yais.core.clock import NANOSECONDS, monotonic
from yais.core.future import Future
from yais.core.tensor import DataType, TensorSpec
from yais.core.timer import Timer
from yais.inference.layout import Signature
from yais.inference.model import Model
from yais.inference.model_options import ModelOptions
from yais.inference.request import InferRequest, InferResponse
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.inference.scheduling.slo import SloPolicy
from yais.inference.tokens import Tokens
from yais.lane import Lanes
from yais.testing import FakeEngine

__all__ = ["REAL", "run_real"]

REAL = Machine(alpha=8_000_000, beta=2_000_000, max_batch=16)
"""Four times as slow as the simulated one, so that a sleep's 0.1 ms and Python's time matter little."""

_X = TensorSpec("X", DataType.FP32, (2,))
_Y = TensorSpec("Y", DataType.FP32, (2,))


def run_real(objective: int | None, load: float, seconds: float, seed: int) -> Outcome:
    """Run a model under a load, with the SLO scheduler if there is an objective, else the dynamic batcher."""
    policy = BatchingPolicy(REAL.max_batch)
    options = ModelOptions(policy) if objective is None else ModelOptions(slo=SloPolicy(policy, objective))
    sizes: Counter[int] = Counter()

    def execute(x: np.ndarray) -> Sequence[np.ndarray]:
        time.sleep(REAL.time(len(x)) / NANOSECONDS)
        sizes[len(x)] += 1
        return [x]

    timer, tokens, lanes = Timer("real-timer"), Tokens(1), Lanes("real", threads={"execute": 1})
    signature = Signature("real", (_X,), (_Y,), max_batch=REAL.max_batch)
    engine = FakeEngine((_X,), (_Y,), execute)
    model = Model(signature, "1", engine, options, lanes=lanes, tokens=tokens, timer=timer)
    try:
        model.warm_up()
        sizes.clear()
        moments = poisson(load * REAL.capacity, int(load * REAL.capacity * seconds), seed)
        outcome = _ask(model, moments)
        outcome.sizes = sizes
        return outcome
    finally:
        model.close(30.0)
        lanes.close(10.0)
        timer.close(10.0)


def _ask(model: Model, moments: Sequence[int]) -> Outcome:
    """Send requests when they are due, whatever became of the others."""
    outcome, lock, done = Outcome(), threading.Lock(), threading.Semaphore(0)
    row = np.zeros((1, 2), np.float32).tobytes()
    shape = [TensorSpec("X", DataType.FP32, (1, 2))]
    begin = monotonic()

    def ask(due: int) -> None:
        def answered(future: Future[InferResponse]) -> None:
            waited = monotonic() - due
            with lock:
                kept = outcome.latencies if future.exception(0) is None else outcome.refused
                kept.append(waited)
            done.release()

        model.submit(InferRequest(shape, [row])).add_done_callback(answered)

    for moment in moments:
        due = begin + moment
        time.sleep(max(0, due - monotonic()) / NANOSECONDS)
        ask(due)
    with lock:
        outcome.in_time = len(outcome.latencies)
    outcome.seconds = (moments[-1] - moments[0]) / NANOSECONDS
    for _ in moments:
        if not done.acquire(timeout=60.0):
            raise TimeoutError("a request was not answered within a minute")
    return outcome
