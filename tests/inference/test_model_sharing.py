"""Models that share what is short, and answers that are kept."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from managing import eventually
from many_threads import in_threads
from modelling import SIGNATURE, SOON, X, Y, doubling, is_double, request, stopped

from yais.errors import InvalidArgument, Unavailable
from yais.inference.model import Model
from yais.inference.model_options import ModelOptions
from yais.inference.rate_limiter import RateLimiter, RateNeeds
from yais.inference.response_cache import ResponseCache
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.inference.scheduling.queue_policy import QueuePolicy
from yais.inference.tokens import Tokens
from yais.lane import Lanes
from yais.testing import FakeEngine

MakeModel = Callable[..., Model]

ONE = RateNeeds({"R": 1})


def test_models_that_need_the_same_resource_take_turns(make_model: MakeModel) -> None:
    running = threading.Semaphore(1)
    overlapped = threading.Event()

    def alone(x: Any) -> list[Any]:
        if not running.acquire(blocking=False):
            overlapped.set()
            return [x]
        try:
            return [x * 2]
        finally:
            running.release()

    limiter = RateLimiter({"R": 1})
    options = ModelOptions(instances=2, rate=(ONE, ONE))
    models = [make_model(FakeEngine([X], [Y], alone), options=options, limiter=limiter) for _ in range(3)]

    def work(index: int) -> None:
        for number in range(60):
            asked = request(float(number))
            assert is_double(models[(index + number) % 3].submit(asked).result(SOON), asked)

    in_threads(6, work)
    assert not overlapped.is_set()
    assert sum(model.counts().executions for model in models) == 360


def test_what_is_cancelled_while_it_waits_for_a_resource_keeps_nothing(make_model: MakeModel) -> None:
    limiter = RateLimiter({"R": 1})
    options = ModelOptions(rate=(ONE,))
    engine = doubling()
    busy = make_model(engine, options=options, limiter=limiter)
    other = make_model(doubling(), options=options, limiter=limiter)
    with stopped(engine, busy):
        waiting = other.submit(request())
        assert waiting.cancel()
    # Granted to the one that was cancelled, it comes back.
    for model in (busy, other, busy):
        assert is_double(model.submit(request()).result(SOON), request())


def test_nobody_is_kept_from_what_others_cannot_use(make_model: MakeModel, tokens: Tokens) -> None:
    """Two instances are granted for one request that waits for a lane; the other grant goes back."""
    lanes = Lanes("few", threads={"execute": 1}, count=1)
    limiter = RateLimiter({"R": 2})
    engine = doubling()
    greedy = make_model(engine, options=ModelOptions(rate=(RateNeeds({"R": 2}),)), limiter=limiter)
    options = ModelOptions(instances=2, rate=(ONE, ONE))
    pair = make_model(doubling(), options=options, lanes=lanes, tokens=tokens, limiter=limiter)
    with stopped(engine, greedy):
        waiting = pair.submit(request())
        lane = lanes.pool.acquire(SOON)
    lane.release()
    assert is_double(waiting.result(SOON), request())
    assert is_double(greedy.submit(request()).result(SOON), request())
    assert pair.close(SOON) and lanes.close(SOON)


def test_of_two_that_always_have_work_the_preferred_runs_more_often(make_model: MakeModel) -> None:
    limiter = RateLimiter({"R": 1})
    often, seldom = [
        make_model(doubling(), options=ModelOptions(rate=(RateNeeds({"R": 1}, priority),)), limiter=limiter)
        for priority in (1, 10)
    ]
    engine, executions = doubling(), queue.SimpleQueue[int]()
    busy = make_model(engine, options=ModelOptions(rate=(RateNeeds({"R": 1}),)), limiter=limiter)
    with stopped(engine, busy):  # until both have work
        preferred = [often.submit(request()) for _ in range(300)]
        others = [seldom.submit(request()) for _ in range(300)]
        preferred[-1].add_done_callback(lambda _: executions.put(seldom.counts().executions))
    assert preferred[-1].result(SOON) and all(future.result(SOON) for future in others)
    assert 0 < executions.get(timeout=SOON) < 100


@pytest.mark.parametrize("delay", [0, 1_000_000])
def test_a_model_that_waits_for_a_resource_sleeps(make_model: MakeModel, delay: int) -> None:
    limiter = RateLimiter({"R": 1})
    engine = doubling()
    busy = make_model(engine, options=ModelOptions(rate=(ONE,)), limiter=limiter)
    policy = BatchingPolicy(SIGNATURE.max_batch, max_delay=delay)
    other = make_model(doubling(), options=ModelOptions(policy, rate=(ONE,)), limiter=limiter)
    with stopped(engine, busy), looks(other) as count:
        waiting = other.submit(request())
        threading.Event().wait(0.1)
    assert len(count) < 20
    assert waiting.result(SOON)


def test_a_model_that_waits_for_a_lane_sleeps(make_model: MakeModel, tokens: Tokens) -> None:
    lanes = Lanes("few", threads={"execute": 1}, count=1)
    engine = doubling()
    model = make_model(engine, instances=4, lanes=lanes, tokens=tokens)
    with stopped(engine, model), looks(model) as count:
        waiting = model.submit(request())
        threading.Event().wait(0.1)
    assert len(count) < 20
    assert waiting.result(SOON)
    assert model.close(SOON) and lanes.close(SOON)


@contextmanager
def looks(model: Model) -> Iterator[list[int]]:
    """Note each time that the model's scheduler looks for something to run."""
    scheduler: Any = model._scheduler
    take = scheduler._take
    noted: list[int] = []

    def counted(*args: Any) -> Any:
        noted.append(1)
        return take(*args)

    scheduler._take = counted
    try:
        yield noted
    finally:
        del scheduler._take


def test_a_closed_model_gives_its_resources_back(make_model: MakeModel) -> None:
    limiter = RateLimiter({"R": 1})
    options = ModelOptions(rate=(ONE,))
    first = make_model(doubling(), options=options, limiter=limiter)
    assert first.submit(request()).result(SOON)
    assert first.close(SOON)
    second = make_model(doubling(), options=options, limiter=limiter)
    assert second.submit(request()).result(SOON)


def test_a_model_that_needs_more_than_there_is_is_refused(make_model: MakeModel) -> None:
    limiter = RateLimiter({"R": 1})
    with pytest.raises(InvalidArgument, match="R"):
        make_model(doubling(), options=ModelOptions(rate=(RateNeeds({"R": 2}),)), limiter=limiter)
    model = make_model(doubling(), options=ModelOptions(rate=(ONE,)), limiter=limiter)
    assert model.submit(request()).result(SOON)


def test_without_a_limiter_needs_mean_nothing(make_model: MakeModel) -> None:
    model = make_model(doubling(), options=ModelOptions(rate=(RateNeeds({"R": 5}),)))
    assert model.submit(request()).result(SOON)


# --- The response cache ---------------------------------------------------------------------------


def cached(make_model: MakeModel, engine: FakeEngine, cache: ResponseCache) -> Model:
    return make_model(engine, options=ModelOptions(cache=True), cache=cache)


def test_an_answer_is_kept(make_model: MakeModel) -> None:
    engine = doubling()
    model = cached(make_model, engine, ResponseCache(1 << 20))
    for name in ("a", "b", "c"):
        asked = request(3.0, batch=2, name=name)
        assert is_double(model.submit(asked).result(SOON), asked)
    asked = request(4.0, batch=2)
    assert is_double(model.submit(asked).result(SOON), asked)
    counts = model.counts()
    assert engine.batches == [2, 2]
    assert (counts.success.count, counts.queue.count) == (4, 4)
    assert (counts.executions, counts.inferences, counts.compute_infer.count) == (2, 4, 2)
    assert (counts.cache_hit.count, counts.cache_miss.count) == (2, 2)
    assert counts.cache_hit.ns > 0 and counts.cache_miss.ns > 0 and counts.last_inference > 0


def test_a_failure_is_not_kept(make_model: MakeModel) -> None:
    engine = doubling()
    model = cached(make_model, engine, ResponseCache(1 << 20))
    engine.error = Unavailable("not yet")
    assert isinstance(model.submit(request()).exception(SOON), Unavailable)
    engine.error = None
    assert is_double(model.submit(request()).result(SOON), request())
    assert model.counts().cache_miss.count == 1 and engine.batches == [1, 1]


def test_a_model_that_was_loaded_anew_does_not_give_old_answers(make_model: MakeModel) -> None:
    cache = ResponseCache(1 << 20)
    old = cached(make_model, doubling(), cache)
    assert is_double(old.submit(request()).result(SOON), request())
    new = cached(make_model, FakeEngine([X], [Y], lambda x: [x * 3]), cache)
    assert old.close(SOON)
    response = new.submit(request()).result(SOON)
    assert np.frombuffer(response.data[0], np.float32).tolist() == [3.0, 3.0]
    assert cache.statistics().entries == 1


def test_a_model_without_the_option_is_not_cached(make_model: MakeModel) -> None:
    engine = doubling()
    cache = ResponseCache(1 << 20)
    model = make_model(engine, options=ModelOptions(), cache=cache)
    for _ in range(2):
        assert model.submit(request()).result(SOON)
    assert engine.batches == [1, 1] and cache.statistics().misses == 0


def test_a_kept_answer_does_not_overtake_where_the_order_is_preserved(make_model: MakeModel) -> None:
    engine = doubling()
    batching = BatchingPolicy(SIGNATURE.max_batch, preserve_ordering=True)
    options = ModelOptions(batching, instances=2, cache=True)
    model = make_model(engine, options=options, cache=ResponseCache(1 << 20))
    assert is_double(model.submit(request(7.0)).result(SOON), request(7.0))
    left: list[float] = []
    with stopped(engine, model) as (first,):
        first.add_done_callback(lambda _: left.append(1.0))
        again = model.submit(request(7.0))
        again.add_done_callback(lambda _: left.append(7.0))
    assert is_double(again.result(SOON), request(7.0))
    eventually(lambda: left == [1.0, 7.0])
    assert is_double(model.submit(request(7.0)).result(SOON), request(7.0))
    assert engine.batches == [1, 1, 1]  # the last one was answered from the cache


# --- Policies of the queue, while nobody is free -------------------------------------------------


def test_a_full_queue_refuses_and_a_timeout_ends_the_wait(make_model: MakeModel) -> None:
    policy = QueuePolicy(default_timeout=1_000_000_000, max_size=2)
    engine = doubling()
    batching = BatchingPolicy(SIGNATURE.max_batch, default_queue_policy=policy)
    model = make_model(engine, options=ModelOptions(batching))
    with stopped(engine, model):
        waiting = [model.submit(request()) for _ in range(3)]
        assert "Exceeds maximum queue size" in str(waiting[2].exception(0))
        for future in waiting[:2]:  # while the only instance is still busy
            error = future.exception(SOON)
            assert isinstance(error, Unavailable) and "Request timeout expired" in str(error)
    assert engine.batches == [1] and model.counts().fail.count == 3


def test_priorities(make_model: MakeModel) -> None:
    engine = doubling()
    batching = BatchingPolicy(SIGNATURE.max_batch, priority_levels=2, default_priority=2)
    model = make_model(engine, options=ModelOptions(batching))
    ran: list[float] = []
    with stopped(engine, model):
        futures = []
        for value, priority in ((1.0, 0), (2.0, 1)):
            asked = request(value, batch=SIGNATURE.max_batch)
            asked.priority = priority
            futures.append(model.submit(asked))
            futures[-1].add_done_callback(lambda _, value=value: ran.append(value))
    for future in futures:
        assert future.result(SOON)
    eventually(lambda: ran == [2.0, 1.0])
