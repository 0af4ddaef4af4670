"""Models with a latency objective, measured and run for real."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from modelling import SIGNATURE, SOON, doubling, is_double, request, stopped

from yais.errors import Internal, ResourceExhausted
from yais.inference.model import Model
from yais.inference.model_options import ModelOptions
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.inference.scheduling.slo import SloPolicy, SloQueue

MakeModel = Callable[..., Model]

BATCHING = BatchingPolicy(SIGNATURE.max_batch)


def queue(model: Model) -> SloQueue[object]:
    assert isinstance(model._queue, SloQueue)
    return model._queue


def test_every_size_is_measured_at_load_and_nothing_is_counted(make_model: MakeModel) -> None:
    engine = doubling()
    slo = SloPolicy(BATCHING, objective=SOON * 10**9, percentile=99.0)
    model = make_model(engine, options=ModelOptions(slo=slo))
    model.warm_up(on_zeros=False)  # measured all the same
    assert set(range(1, SIGNATURE.max_batch + 1)) <= set(engine.batches)
    assert model.counts().executions == 0
    assert "p99" in repr(queue(model))
    assert is_double(model.submit(request()).result(SOON), request())


def test_a_request_that_cannot_meet_the_objective_is_refused_at_once(make_model: MakeModel) -> None:
    engine = doubling()
    model = make_model(engine, options=ModelOptions(slo=SloPolicy(BATCHING, objective=1)))
    model.warm_up()
    error = model.submit(request()).exception(SOON)
    assert isinstance(error, ResourceExhausted) and "objective" in str(error)


def test_without_a_measurement_it_is_a_dynamic_batcher(make_model: MakeModel) -> None:
    engine = doubling()
    model = make_model(engine, options=ModelOptions(slo=SloPolicy(BATCHING, objective=1)))
    engine.error = Internal("no zeros")
    model.warm_up()
    engine.error = None
    engine.batches.clear()
    with stopped(engine, model):
        futures = [model.submit(request(float(index))) for index in range(4)]
    for index, future in enumerate(futures):
        assert is_double(future.result(SOON), request(float(index)))
    assert engine.batches == [1, 4]


@pytest.mark.parametrize("objective", [0, -1])
def test_an_objective_is_positive(objective: int) -> None:
    with pytest.raises(ValueError, match="objective"):
        SloPolicy(BATCHING, objective=objective)
