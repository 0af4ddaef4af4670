"""Why requests fail: every way, with its reason."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import Any

import pytest
from modelling import SOON, doubling, request, stopped

from yais import errors
from yais.core.clock import Deadline
from yais.inference.failure import FailureReason, reason_of
from yais.inference.model import Model
from yais.inference.scheduling.queue_policy import QueuePolicy
from yais.inference.servable import ModelClosed

MakeModel = Callable[..., Model]

REJECTED, CANCELED = FailureReason.REJECTED, FailureReason.CANCELED
BACKEND, OTHER = FailureReason.BACKEND, FailureReason.OTHER


@pytest.mark.parametrize(
    ("error", "refused", "ran"),
    [
        (errors.Unavailable("full"), REJECTED, BACKEND),
        (errors.ResourceExhausted("late"), REJECTED, BACKEND),
        (ModelClosed("gone"), OTHER, OTHER),
        (errors.Cancelled(""), CANCELED, CANCELED),
        (errors.DeadlineExceeded(""), CANCELED, CANCELED),
        (asyncio.CancelledError(), CANCELED, CANCELED),
        (concurrent.futures.CancelledError(), CANCELED, CANCELED),
        (errors.InvalidArgument("bad"), OTHER, BACKEND),
        (errors.Unimplemented("no"), OTHER, BACKEND),
        (errors.Internal("oops"), BACKEND, BACKEND),
        (ValueError("oops"), BACKEND, BACKEND),
    ],
)
def test_reasons_of_errors(error: BaseException, refused: FailureReason, ran: FailureReason) -> None:
    assert reason_of(error) is refused and reason_of(error, ran=True) is ran


def failures(model: Model) -> dict[FailureReason, int]:
    counts = model.counts()
    assert counts.fail.count == counts.failures.total()
    return dict(counts.failures)


def test_a_full_queue(make_model: MakeModel) -> None:
    engine = doubling()
    model = make_model(engine, default_queue_policy=QueuePolicy(max_size=2))
    with stopped(engine, model):
        futures = [model.submit(request()) for _ in range(5)]
    assert [type(future.exception(SOON)) for future in futures].count(errors.Unavailable) == 3
    assert failures(model) == {REJECTED: 3}


def test_a_timeout_of_the_queue(make_model: MakeModel) -> None:
    engine = doubling()
    model = make_model(engine, default_queue_policy=QueuePolicy(allow_timeout_override=True))
    with stopped(engine, model):
        impatient = request()
        impatient.timeout = 1
        error = model.submit(impatient).exception(SOON)
    assert isinstance(error, errors.Unavailable)
    assert failures(model) == {REJECTED: 1}


def test_the_callers_deadline(make_model: MakeModel) -> None:
    engine = doubling()
    model = make_model(engine)
    with stopped(engine, model):
        late = model.submit(request(deadline=Deadline(1)))
    assert isinstance(late.exception(SOON), errors.DeadlineExceeded)
    assert failures(model) == {CANCELED: 1}


@pytest.mark.parametrize("error", [ValueError("no"), errors.InvalidArgument("not so")])
def test_the_model(make_model: MakeModel, error: Exception) -> None:
    engine = doubling()
    engine.error = error
    model = make_model(engine)
    assert model.submit(request()).exception(SOON)
    assert failures(model) == {BACKEND: 1}


def test_the_request(make_model: MakeModel) -> None:
    model = make_model(doubling())
    assert isinstance(model.submit(request(batch=9)).exception(SOON), errors.InvalidArgument)
    assert failures(model) == {OTHER: 1}


def test_a_closed_model(make_model: MakeModel) -> None:
    model = make_model(doubling())
    assert model.close(SOON)
    assert isinstance(model.submit(request()).exception(SOON), ModelClosed)
    assert failures(model) == {OTHER: 1}


def test_cancelled_requests_of_every_scheduler_are_counted_once(make_model: MakeModel) -> None:
    for options in ({"batching": False}, {}, {"max_delay": 1_000_000}, {"preserve_ordering": True}):
        engine = doubling()
        model = make_model(engine, **options)
        futures: list[Any] = []
        with stopped(engine, model):
            futures = [model.submit(request()) for _ in range(10)]
            for future in futures[::2]:
                assert future.cancel() and future.cancel()
        assert all(future.get(SOON) for future in futures[1::2])
        assert model.close(SOON)
        assert failures(model) == {CANCELED: 5} and model.counts().success.count == 6
