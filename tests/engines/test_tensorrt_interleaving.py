"""Four instances over a few lanes and tokens, their calls in any order."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import SOON, doubling, lanes_of, loaded, rows

from yais.testing.cuda import FakeCuda
from yais.testing.tensorrt import FakeTensorRT

LANES, TOKENS, INSTANCES = 2, 2, 4


class Pipeline:
    """The calls of executions, one at a time, as the scheduler may order them."""

    def __init__(self, engine: Any, lanes: list[Any], tokens: list[Any]) -> None:
        self.engine = engine
        self.lanes = list(lanes)
        self.tokens = list(tokens)
        self.begun: list[Any] = []
        self.launched: list[Any] = []
        self.waited: list[Any] = []
        self.value = 0

    def step(self, choice: int, batch: int) -> None:
        """Make one of the calls that can be made."""
        steps = []
        if self.lanes:
            steps.append(self.begin)
        if self.begun and self.tokens:
            steps.append(self.launch)
        if self.begun:
            steps.append(self.drop)
        if self.launched:
            steps.append(self.wait)
        if self.waited:
            steps.append(self.take)
        steps[choice % len(steps)](choice, batch)

    def begin(self, choice: int, batch: int) -> None:
        lane = self.lanes.pop(choice % len(self.lanes))
        lane.staging.reset()
        self.value += 1
        data = np.frombuffer(lane.staging.take(batch * 16), np.float32).reshape(batch, 4)
        data[...] = self.value
        self.begun.append((self.engine.begin([data], lane), lane, self.value, batch))

    def drop(self, choice: int, batch: int) -> None:
        _, lane, _, _ = self.begun.pop(choice % len(self.begun))
        lane.settle()
        self.lanes.append(lane)

    def launch(self, choice: int, batch: int) -> None:
        begun = self.begun.pop(choice % len(self.begun))
        token = self.tokens.pop(choice % len(self.tokens))
        begun[0].launch(token)
        self.launched.append((*begun, token))

    def wait(self, choice: int, batch: int) -> None:
        *launched, token = self.launched.pop(choice % len(self.launched))
        launched[0].wait()
        self.tokens.append(token)
        self.waited.append(launched)

    def take(self, choice: int, batch: int) -> None:
        execution, lane, value, size = self.waited.pop(choice % len(self.waited))
        (result,) = execution.outputs()
        assert result.shape == (size, 4) and (result == 2 * value).all()
        del result
        self.lanes.append(lane)

    def finish(self) -> None:
        while self.launched:
            self.wait(0, 1)
        while self.waited:
            self.take(0, 1)
        while self.begun:
            self.drop(0, 1)
        assert len(self.lanes) == LANES and len(self.tokens) == TOKENS


STEPS = st.lists(st.tuples(st.integers(0, 11), st.integers(1, 8)), max_size=60)


@given(steps=STEPS, graphs=st.booleans())
@settings(max_examples=30, deadline=None)
def test_calls_in_any_order(steps: list[tuple[int, int]], graphs: bool) -> None:
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, doubling(), contexts=INSTANCES, graphs=graphs)
        with lanes_of(cuda, engine, LANES, tokens=TOKENS) as (lanes, tokens):
            pipeline = Pipeline(engine, lanes, tokens)
            for choice, batch in steps:
                pipeline.step(choice, batch)
            pipeline.finish()
            # With graphs there is one for each form as well.
            assert fake.alive["context"] <= INSTANCES * (8 if graphs else 1)
            del pipeline, lanes, tokens
        engine.close()
        del engine
        assert not fake.problems


def test_threads_at_once() -> None:
    failures: list[BaseException] = []

    def work(engine: Any, lane: Any, token: Any, seed: int) -> None:
        try:
            for step in range(40):
                value, batch = seed + step, 1 + (seed + step) % 8
                lane.staging.reset()
                execution = engine.begin([rows(batch, value)], lane)
                execution.launch(token)
                execution.wait()
                (result,) = execution.outputs()
                assert result.shape == (batch, 4) and (result == 2 * value).all()
        except BaseException as error:
            failures.append(error)

    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, doubling(duration=20_000), contexts=2, graphs=True)
        with lanes_of(cuda, engine, 4, tokens=4) as (lanes, tokens):
            threads = [
                threading.Thread(target=work, args=(engine, lane, token, 100 * index))
                for index, (lane, token) in enumerate(zip(lanes, tokens, strict=True))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(SOON)
            assert not failures and not any(thread.is_alive() for thread in threads)
            del threads
        engine.close()
        del engine
