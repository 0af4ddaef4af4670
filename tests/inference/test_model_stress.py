"""Every scheduler at once with cancels, deadlines, failures and unloading: nothing is lost, wrong or kept."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from composing import eventually
from many_threads import in_threads
from modelling import SOON, X, Y, dispatching, request, rows

from yais.core.clock import Deadline
from yais.core.future import Future
from yais.core.tensor import DataType, TensorSpec
from yais.core.timer import Timer
from yais.engines.engine import Engine
from yais.engines.placed_engine import PlacedEngine
from yais.errors import DeadlineExceeded, Internal, InvalidArgument, ResourceExhausted, Unavailable
from yais.inference.failure import FailureReason
from yais.inference.layout import Signature
from yais.inference.model import Model
from yais.inference.model_options import ModelOptions
from yais.inference.rate_limiter import RateLimiter, RateNeeds
from yais.inference.request import InferRequest, InferResponse, SequenceStep
from yais.inference.response_cache import ResponseCache
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.inference.scheduling.queue_policy import QueuePolicy, TimeoutAction
from yais.inference.scheduling.sequence import SequencePolicy, Strategy
from yais.inference.scheduling.slo import SloPolicy
from yais.inference.sequence_tensors import SequenceTensors, State
from yais.inference.site import Site
from yais.inference.sites import Sites
from yais.inference.tokens import Tokens
from yais.lane import Lanes
from yais.testing import FakeDevice, FakeDeviceEngine, FakeEngine

THREADS = 5
REQUESTS = 100  # of each thread
MAX_BATCH = 4

MS = 1_000_000
SIGNATURES = {name: Signature(name, (X,), (Y,), MAX_BATCH) for name in "AB"}
STATE = State("in", "out", DataType.FP32, (2,), np.zeros(2, np.float32))
TENSORS = SequenceTensors((), (STATE,))
REJECT = QueuePolicy(default_timeout=3 * MS, allow_timeout_override=True, max_size=10)
DELAY = QueuePolicy(timeout_action=TimeoutAction.DELAY, default_timeout=MS)

ERRORS = (DeadlineExceeded, Internal, InvalidArgument, ResourceExhausted, Unavailable)


def sequences(strategy: Strategy, instances: int, **policy: Any) -> ModelOptions:
    policy = {"max_idle": 20 * MS, **policy}
    return ModelOptions(
        instances=instances,
        sequences=SequencePolicy(MAX_BATCH, instances, strategy, **policy),
        sequence_tensors=TENSORS,
    )


def dynamic(instances: int, **policy: Any) -> ModelOptions:
    return ModelOptions(BatchingPolicy(MAX_BATCH, **policy), instances)


SCHEDULERS = {
    "direct": ModelOptions(None, 2),
    "dynamic": dynamic(3, max_delay=MS // 5, preferred=(3,)),
    "priorities": dynamic(
        2, priority_levels=2, default_priority=2, queue_policies={1: REJECT}, default_queue_policy=DELAY
    ),
    "ordered": dynamic(3, preserve_ordering=True),
    "direct sequences": sequences(Strategy.DIRECT, 2, max_delay=MS, min_utilization=0.5),
    "oldest sequences": sequences(Strategy.OLDEST, 3, max_delay=MS, candidates=3),
    "slo": ModelOptions(slo=SloPolicy(BatchingPolicy(MAX_BATCH), objective=5 * MS, instances=2), instances=2),
}


@dataclass(eq=False)
class Asked:
    """A request, and what became of it."""

    future: Future[InferResponse]
    request: InferRequest
    before: list[Asked] = field(default_factory=list)  # of its sequence

    @property
    def value(self) -> Any:
        return np.frombuffer(self.request.data[0], np.float32).reshape(self.request.inputs[0].shape)

    def right(self) -> bool:
        """Whether the answer is: y = 2 x, or the sum of x and those before it of the sequence that ran."""
        own = self.value * (1 if self.request.sequence else 2)
        expected = [own]
        for each in self.before:
            added = [total + each.value for total in expected]
            if each.future.cancelled():  # it may have run, in a batch that may have failed
                expected += added
            elif each.future.exception(0) is None:
                expected = added
        answer = rows(self.future.result(0))
        return any(bool((answer == total).all()) for total in expected)


class Load:
    """What one thread asks of a model, and the order in which that is answered."""

    def __init__(self, model: Model, seed: int) -> None:
        self.model, self.seed = model, seed
        self.rng = random.Random(seed)
        self.asked: list[Asked] = []
        self.answered: list[str] = []
        self.done: Counter[Future[InferResponse]] = Counter()
        self._lock = threading.Lock()
        self._ids = itertools.count(1 + 1000 * seed)
        self._sequence: list[Asked] = []
        self.dispatches = seed % 4 > 1
        self._step: SequenceStep | None = None

    def run(self, half: Callable[[], object]) -> None:
        with dispatching() if self.dispatches else contextlib.nullcontext() as dispatcher:
            for number in range(REQUESTS):
                self.ask(number)
                if dispatcher is not None and self.rng.random() < 0.3:
                    dispatcher.drain()
                if number == REQUESTS // 2:
                    half()
            if dispatcher is not None:
                dispatcher.drain()

    def ask(self, number: int) -> None:
        rng = self.rng
        made = request(
            float(rng.randint(-2, 300)),
            1 if self.model.options.sequences else rng.randint(1, MAX_BATCH),
            name=f"{self.seed}/{number:04}",
            deadline=Deadline.after(rng.choice([*5 * [None], 0.0, 0.001])),
        )
        made.waits = rng.random() < 0.3
        made.priority = rng.randint(0, 3)
        made.timeout = rng.choice([0, 0, MS])
        if self.model.options.sequences:
            made.sequence = self.step()
        asked = Asked(self.model.submit(made), made, list(self._sequence))
        self.asked.append(asked)
        if made.sequence is not None:
            self._sequence.append(asked)
        asked.future.add_done_callback(lambda future: self.note(made.id, future))
        if rng.random() < 0.05:
            asked.future.cancel()
        elif rng.random() < 0.3 and not self.dispatches:
            in_time = asked.future.wait(SOON if (patient := rng.random() < 0.5) else 0.0005)
            assert in_time or not patient, f"{made} hangs"

    def step(self) -> SequenceStep:
        """The next of a sequence, or the first of another, which begins anew, or goes on, sometimes."""
        last, chance = self._step, self.rng.random()
        start = last is None or last.end or chance < 0.05
        if start:
            self._sequence = []
        again = last is not None and not last.end and chance < 0.02
        key = last.id if last is not None and (again or not start) else next(self._ids)
        self._step = SequenceStep(key, start=start, end=chance > 0.8)
        return self._step

    def note(self, name: str, future: Future[InferResponse]) -> None:
        with self._lock:
            self.done[future] += 1
            if not future.cancelled() and future.exception(0) is None:
                self.answered.append(name)


def engine_of(options: ModelOptions, seed: int, *, on_device: bool) -> Engine:
    """Return an engine that fails for -2, and for nothing at all now and then."""
    rng = random.Random(seed)

    def luck(x: Any) -> None:
        if (x == -2).any() or rng.random() < 0.02:
            raise ValueError("bad luck")

    def stateless(x: Any) -> list[Any]:
        luck(x)
        return [x * 2]

    def stateful(x: Any, state: Any) -> list[Any]:
        luck(x)
        return [x + state, x + state]

    kind = FakeDeviceEngine if on_device else FakeEngine
    if options.sequences is None:
        return kind([X], [Y], stateless)
    spec_in, spec_out = (TensorSpec(name, DataType.FP32, (2,)) for name in ("in", "out"))
    return kind([X, spec_in], [Y, spec_out], stateful)


def check(loads: list[Load], model: Model, cached: bool) -> None:
    outcomes: Counter[str] = Counter()
    for load in loads:
        for asked in load.asked:
            assert asked.future.wait(SOON), f"{asked.request} was left incomplete"
        for asked in load.asked:
            if asked.future.cancelled():
                outcomes["cancelled"] += 1
            elif (error := asked.future.exception(0)) is not None:
                assert isinstance(error, ERRORS), error
                outcomes["failed"] += 1
            else:
                assert asked.right(), asked.request
                outcomes["answered"] += 1
        if model.options.batching and model.options.batching.preserve_ordering:
            assert load.answered == sorted(load.answered)
    lost = outcomes["failed"] + outcomes["cancelled"]
    eventually(lambda: model.counts().fail.count == lost)  # the cancelled are found when it is their turn
    counts = model.counts()
    assert counts.success.count == counts.queue.count == outcomes["answered"]
    assert counts.failures.total() == counts.fail.count == lost
    assert counts.failures[FailureReason.CANCELED] >= outcomes["cancelled"]
    assert (counts.cache_hit.count > 0) <= cached
    for duration in (counts.compute_input, counts.compute_infer, counts.compute_output):
        assert duration.count == outcomes["answered"] - counts.cache_hit.count
    assert sum(counts.closed.values()) == counts.executions
    assert model.pending == 0


def spread(options: ModelOptions, seed: int) -> PlacedEngine:
    """Return instances on GPUs 0 and 1, and on the host if there are three."""
    engines: list[Engine] = []
    for number in range(options.instances):
        engine = engine_of(options, seed + number, on_device=number < 2)
        if isinstance(engine, FakeDeviceEngine):
            engine.gpu = number
        engines.append(engine)
    return PlacedEngine(engines, range(options.instances))


@pytest.mark.parametrize("shared", ["alone", "limited and cached", "on a device", "on three sites"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_two_models_under_stress(scheduler: str, shared: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "yais.inference")
    seed = list(SCHEDULERS).index(scheduler)
    options, limited = SCHEDULERS[scheduler], shared in {"limited and cached", "on three sites"}
    device = FakeDevice() if shared == "on a device" else None
    threads = {"execute": 2} if limited else {"pre": 1, "execute": 1, "post": 1}
    lanes = Lanes("stress", threads=threads, count=2, device=device)
    lanes.reserve(4096, SOON, device=4096 if device else 0)
    tokens, timer, limiter = Tokens(2 if limited else 1), Timer("stress-timer"), RateLimiter({"r": 2})
    gpus = [FakeDevice(), FakeDevice()] if shared == "on three sites" else []
    sites = Sites(Site(lanes, tokens), gpus=gpus.__getitem__, executions=1)
    for number in range(len(gpus)):
        sites.of(number).reserve(4096, SOON, device=4096)
    cached = limited and options.sequences is None
    if limited:
        needs = tuple(RateNeeds({"r": 1 + number % 2}, number) for number in range(options.instances))
        options = replace(options, cache=cached, rate=needs)
    cache = ResponseCache(20_000)
    models = [
        Model(
            SIGNATURES[name],
            "1",
            spread(options, seed + number)
            if gpus
            else engine_of(options, seed + number, on_device=device is not None),
            options,
            lanes=lanes,
            tokens=tokens,
            timer=timer,
            sites=sites,
            cache=cache,
            limiter=limiter,
        )
        for number, name in enumerate("AB")
    ]
    for model in models:
        model.warm_up()
    loads = [Load(models[index % 2], index) for index in range(2 * THREADS)]
    half = threading.Semaphore(0)  # as many threads have asked half of what they ask the second model

    def work(index: int) -> None:
        if index == len(loads):
            assert all(half.acquire(timeout=SOON) for _ in range(THREADS // 2))
            models[1].close(random.Random(seed).choice([0.0, 0.001, SOON]))
        else:
            loads[index].run(half.release if index % 2 else lambda: None)

    in_threads(len(loads) + 1, work)
    for number, model in enumerate(models):
        assert model.close(SOON)
        check(loads[number::2], model, cached)
    assert timer.close(SOON) and sites.close(SOON)
    assert all(each.close() for each in (*gpus, *([device] if device else [])))
    for load in loads:
        assert load.done == Counter({asked.future: 1 for asked in load.asked})
    for site in (sites.of(None), *sites.gpus.values()):
        assert site.lanes.pool.statistics().lent == 0
        assert site.tokens.pool.statistics().available == site.tokens.size
    assert "0 instances" in repr(limiter) and "0 waiting" in repr(limiter)
    assert not limiter._queue.used.total()
