"""What waits in a scheduler is woken when something has changed, and not in vain."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from composing import eventually
from modelling import SOON, X, Y, doubling, is_double, request, stopped
from queue_items import FREE, Waiting
from sequence_items import Asked, queue_of

from yais.core.clock import monotonic
from yais.core.tensor import DataType, TensorSpec
from yais.core.timer import Timer
from yais.errors import InvalidArgument, ResourceExhausted, Unavailable
from yais.inference.batch_times import BatchTimes
from yais.inference.layout import Signature
from yais.inference.model import Model
from yais.inference.model_options import ModelOptions
from yais.inference.rate_limiter import RateLimiter, RateNeeds
from yais.inference.request import SequenceStep
from yais.inference.resource_queue import Phase
from yais.inference.scheduling.dynamic import BatchingPolicy, DynamicQueue
from yais.inference.scheduling.queue import Batch
from yais.inference.scheduling.queue_policy import QueuePolicy
from yais.inference.scheduling.sequence import SequencePolicy, Strategy
from yais.inference.scheduling.slo import SloPolicy, SloQueue
from yais.inference.sequence_tensors import SequenceTensors
from yais.lane import Lanes
from yais.testing import FakeEngine

MakeModel = Callable[..., Model]

MS = 1_000_000
NEEDS_ONE = RateNeeds({"r": 1})


class Held:
    """All of a resource, taken from a limiter until the block has ended."""

    def __init__(self, limiter: RateLimiter, count: int = 1) -> None:
        self._permits = limiter.register("other", RateNeeds({"r": count}), lambda: None)

    def __enter__(self) -> None:
        assert self._permits.try_acquire()

    def __exit__(self, *_: object) -> None:
        self._permits.release()


class CountingTimer(Timer):
    """Counts the callbacks that it is given."""

    calls = 0

    def call_at(self, when_ns: int, callback: Callable[[], object]) -> Any:
        self.calls += 1
        return super().call_at(when_ns, callback)


def test_an_instance_waits_for_no_permits_that_it_has_no_work_for(make_model: MakeModel) -> None:
    """Two such instances would pass what they need back and forth, and nobody else would get it."""
    strategy = SequencePolicy(8, 3, Strategy.DIRECT)
    limiter = RateLimiter({"r": 2})
    # The first two, which are the first to be granted anything, have nothing to do.
    rate = (NEEDS_ONE, RateNeeds({"r": 2}), RateNeeds({"r": 1}, priority=100))
    options = ModelOptions(instances=3, sequences=strategy, sequence_tensors=SequenceTensors(), rate=rate)
    model = make_model(doubling(), options=options, limiter=limiter)
    for number in range(1, 4):  # one on each instance
        first = request(name="first")
        first.sequence = SequenceStep(number, start=True)
        assert is_double(model.submit(first).result(SOON), first)
    with Held(limiter, 2):
        last = request(3.0)
        last.sequence = SequenceStep(3)
        future = model.submit(last)
        assert [permits._member.phase.value for permits in model._permits].count("idle") == 2
        assert not future.done()
    assert is_double(future.result(SOON), last)


def test_who_waits_for_others_leaves_the_permits_alone(make_model: MakeModel) -> None:
    limiter = RateLimiter({"r": 1})
    policy = BatchingPolicy(8, max_delay=10**12)
    options = ModelOptions(policy, 2, rate=(NEEDS_ONE, NEEDS_ONE))
    model = make_model(doubling(), options=options, limiter=limiter)
    early = model.submit(request())
    with Held(limiter):
        assert {permits._member.phase.value for permits in model._permits} == {"idle"}
    late = model.submit(request(batch=7))
    assert early.result(SOON) and late.result(SOON)


def test_an_instance_without_permits_keeps_no_other_from_its_delay(make_model: MakeModel) -> None:
    strategy = SequencePolicy(8, 2, Strategy.DIRECT, max_delay=20 * MS, min_utilization=1.0)
    limiter = RateLimiter({"r": 1})
    rate = (NEEDS_ONE, RateNeeds({}))
    options = ModelOptions(instances=2, sequences=strategy, sequence_tensors=SequenceTensors(), rate=rate)
    model = make_model(doubling(), options=options, limiter=limiter)
    timer = model._scheduler._timer = CountingTimer("counting")
    with Held(limiter):
        futures = []
        for number in (1, 2):  # one on each instance, the second after the delay of the first is over
            first = request()
            first.sequence = SequenceStep(number, start=True)
            futures.append(model.submit(first))
            eventually(lambda: model._permits[0]._member.phase is Phase.WAITING)
        assert futures[1].result(SOON) and not futures[0].done()
        calls = timer.calls
        assert not threading.Event().wait(0.02) and timer.calls <= calls + 1, "the timer spins"
    assert futures[0].result(SOON)
    assert model.close(SOON) and timer.close(SOON)


def test_a_job_that_brings_its_lane_waits_for_permits_without_a_timer(
    lanes: Lanes, make_model: MakeModel
) -> None:
    timer, limiter = CountingTimer("counting"), RateLimiter({"r": 1})
    options = ModelOptions(BatchingPolicy(8), rate=(NEEDS_ONE,))
    model = make_model(doubling(), options=options, limiter=limiter)
    model._scheduler._timer = timer
    with lanes.pool.acquire(SOON) as lane, Held(limiter):
        placed = request(1.0)
        placed.lane = lane
        futures = [model.submit(placed), model.submit(request(2.0))]
        calls = timer.calls
        assert not threading.Event().wait(0.02) and timer.calls <= calls + 1, "the timer spins"
    assert all(future.result(SOON) for future in futures)
    assert model.close(SOON) and timer.close(SOON)


def test_a_batch_that_is_being_taken_is_not_nothing(make_model: MakeModel) -> None:
    """Or what is answered at once could overtake it, where the order is preserved."""
    engine = doubling()
    options = ModelOptions(BatchingPolicy(8, preserve_ordering=True))
    model = make_model(engine, options=options)
    seen: list[bool] = []
    look = threading.Thread(target=lambda: seen.append(model._scheduler.at_rest()))

    class Looking(DynamicQueue[Any]):
        def take(self, now: int, free: Sequence[int]) -> Batch[Any] | None:
            batch = super().take(now, free)
            if batch is not None:
                look.start()
                look.join(0.05)
            return batch

    assert options.batching is not None
    model._scheduler._queue = Looking(options.batching)
    engine.gate.clear()
    try:
        future = model.submit(request())
        look.join(SOON)
        assert seen == [False]
    finally:
        engine.gate.set()
    assert future.result(SOON)


def test_timers_do_not_multiply(make_model: MakeModel) -> None:
    """Each earlier moment needs a timer; when the later one comes, there must not be two for the next."""
    timer = CountingTimer("counting")
    policy = BatchingPolicy(
        8,
        default_queue_policy=QueuePolicy(default_timeout=10**12, allow_timeout_override=True),
    )
    engine = doubling()
    model = make_model(engine, options=ModelOptions(policy))
    model._scheduler._timer = timer
    with stopped(engine, model):
        futures = []
        for number in range(20, 0, -1):  # each is refused before the one before it
            made = request(batch=8)
            made.timeout = number * 2 * MS
            futures.append(model.submit(made))
        for future in futures:
            assert isinstance(future.exception(SOON), Unavailable)
        # One for each when it came, and one for each when the one before it was refused.
        assert timer.calls <= 2 * len(futures)
    assert model.close(SOON) and timer.close(SOON)


def test_a_trial_of_an_idle_model_waits_for_a_lane_without_a_timer() -> None:
    queue: SloQueue[Waiting] = SloQueue(
        SloPolicy(BatchingPolicy(8), objective=100), BatchTimes([(1, 1000), (8, 2000)])
    )
    for _ in range(7):
        with pytest.raises(ResourceExhausted):
            queue.push(Waiting(), 0)
    trial = Waiting()
    queue.push(trial, 0)
    assert not queue.reap(0) and queue.wake_at(free=False) is None
    batch = queue.take(50, FREE)
    assert batch is not None and list(batch.items) == [trial]


def test_what_a_refused_push_finds_to_be_late_is_still_there_to_be_reaped() -> None:
    queue = queue_of(1)
    queue.push(Asked(SequenceStep(1, start=True)), 0)
    assert queue.take(0, FREE) is not None
    late = Asked(SequenceStep(2, start=True), timeout=10)  # in the backlog
    queue.push(late, 0)
    with pytest.raises(InvalidArgument):
        queue.push(Asked(SequenceStep(3), queued=20), 20)
    assert len(queue) == 1  # or nobody would look
    assert [item for item, _ in queue.reap(20)] == [late] and not len(queue)


def test_a_request_found_late_by_a_bad_one_is_answered(make_model: MakeModel) -> None:
    spec = TensorSpec("X", DataType.FP32, (2,))
    engine = FakeEngine([spec], [Y], lambda x: [np.array(x * 2)])
    signature = Signature("M", (X,), (Y,), max_batch=1)
    options = ModelOptions(
        sequences=SequencePolicy(1, 1, max_idle=10**12), sequence_tensors=SequenceTensors()
    )
    model = make_model(engine, signature=signature, options=options)
    first, late, bad = (request() for _ in range(3))
    first.sequence = SequenceStep(1, start=True)
    late.sequence, late.timeout = SequenceStep(2, start=True), MS
    bad.sequence = SequenceStep(3)
    assert model.submit(first).result(SOON)
    future = model.submit(late)
    end = monotonic() + 2 * MS
    while monotonic() < end:  # the timer's thread, too, is to be late
        pass
    assert isinstance(model.submit(bad).exception(SOON), InvalidArgument)
    assert isinstance(future.exception(SOON), Unavailable)


def test_the_end_is_noticed_when_the_last_that_waits_is_refused(lanes: Lanes, make_model: MakeModel) -> None:
    policy = BatchingPolicy(8, default_queue_policy=QueuePolicy(default_timeout=100 * MS))
    model = make_model(doubling(), options=ModelOptions(policy))
    leases = [lanes.pool.acquire(SOON) for _ in range(lanes.size)]
    late = model.submit(request())
    closing = threading.Thread(target=model.close, args=(6 * SOON,))
    closing.start()
    try:
        assert isinstance(late.exception(SOON), Unavailable)
        closing.join(SOON)
        assert not closing.is_alive()
    finally:
        for lease in leases:
            lease.release()
        closing.join(SOON)
