"""Threads, memory and models for the tests of models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from modelling import SIGNATURE

from yais.core.timer import Timer
from yais.engines.engine import Engine
from yais.inference.layout import Signature
from yais.inference.model import Model
from yais.inference.model_options import ModelOptions
from yais.inference.rate_limiter import RateLimiter
from yais.inference.response_cache import ResponseCache
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.inference.tokens import Tokens
from yais.lane import Lanes

MakeModel = Callable[..., Model]


@pytest.fixture
def timer() -> Iterator[Timer]:
    timer = Timer("test-timer")
    yield timer
    assert timer.close(10.0)


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    lanes = Lanes("test", threads={"execute": 3})
    yield lanes
    assert lanes.close(10.0)
    statistics = lanes.pool.statistics()
    assert statistics.available == statistics.size, "a batch kept its lane"


@pytest.fixture
def tokens() -> Iterator[Tokens]:
    tokens = Tokens(8)
    yield tokens
    assert tokens.pool.statistics().available == 8, "a batch kept its token"


@pytest.fixture
def make_model(lanes: Lanes, tokens: Tokens, timer: Timer) -> Iterator[MakeModel]:
    """Make models that are closed at the end, and must then have nothing in flight."""
    models: list[Model] = []

    def make(
        engine: Engine,
        *,
        signature: Signature = SIGNATURE,
        instances: int = 1,
        batching: bool = True,
        lanes: Lanes = lanes,
        tokens: Tokens = tokens,
        options: ModelOptions | None = None,
        cache: ResponseCache | None = None,
        limiter: RateLimiter | None = None,
        **policy: Any,
    ) -> Model:
        batching_policy = BatchingPolicy(signature.max_batch, **policy) if batching else None
        options = options or ModelOptions(batching_policy, instances)
        model = Model(
            signature,
            "1",
            engine,
            options,
            lanes=lanes,
            tokens=tokens,
            timer=timer,
            cache=cache,
            limiter=limiter,
        )
        models.append(model)
        return model

    yield make
    for model in models:
        assert model.close(10.0), f"{model!r} did not drain"
