"""More requests than buffers from more threads than tokens, with user code that fails wherever it can."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest
from managing import X, Y, check_idle, ones
from many_threads import in_threads
from modelling import SOON, check_invariants, onnx_model

from yais.core.tensor import DataType, TensorSpec
from yais.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from yais.infer_runner import InferFuture
from yais.inference.infer_runner import InferRunner
from yais.inference.manager import InferenceManager
from yais.inference.response_stream import ResponseStream
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.memory.host import HostMemoryResource
from yais.testing import FakeDevice, FakeDeviceEngine

SECONDS = 2.0

Arrays = Mapping[str, Any]


class BadLuckError(Exception):
    pass


class Luck:
    """Fails now and then, also in ways that user code should not. Thread-safe."""

    def __init__(self) -> None:
        self._random = random.Random(1)
        self._lock = threading.Lock()
        self.failures = 0

    def try_it(self, chance: float = 0.02) -> None:
        with self._lock:
            value = self._random.random()
            self.failures += value < chance
        if value < chance / 2:
            raise BadLuckError("bad luck")
        if value < chance:
            raise random.choice([SystemExit, StopIteration, KeyboardInterrupt, GeneratorExit, AssertionError])


class Tally:
    """Counts how often each future is done, and how."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.futures: list[InferFuture] = []
        self.done: Counter[int] = Counter()
        self.outcomes: Counter[str] = Counter()

    def add(self, future: InferFuture) -> None:
        with self._lock:
            self.futures.append(future)
        future.add_done_callback(self._count)

    def note(self, outcome: str) -> None:
        with self._lock:
            self.outcomes[outcome] += 1

    def _count(self, future: Any) -> None:
        with self._lock:
            self.done[id(future)] += 1


class Models:
    """The models of the soak: each answers 2 x, unless it has bad luck."""

    def __init__(self, luck: Luck) -> None:
        self._luck = luck

    def plain(self, arrays: Arrays) -> Arrays:
        self._luck.try_it()
        return {"y": 2 * arrays["x"]}

    def wrong(self, arrays: Arrays) -> Arrays:
        self._luck.try_it()
        return {"y": 2 * arrays["x"]} if random.random() < 0.9 else {"z": arrays["x"]}

    async def coroutine(self, arrays: Arrays) -> Arrays:
        await asyncio.sleep(0.0005)
        if random.random() < 0.02:
            raise BadLuckError("bad luck")
        return {"y": 2 * arrays["x"]}

    def stream(self, arrays: Arrays) -> Iterator[Arrays]:
        for _ in range(int(arrays["x"].flat[0]) % 5):
            if random.random() < 0.02:
                raise BadLuckError("bad luck")
            yield {"y": 2 * arrays["x"]}

    def on_device(self, x: Any) -> list[Any]:
        self._luck.try_it()
        return [2 * x]


def register_all(manager: InferenceManager, luck: Luck) -> None:
    models = Models(luck)
    tensors = {"inputs": [X], "outputs": [Y]}
    manager.register("plain", models.plain, concurrency=1, **tensors)
    batching = BatchingPolicy(8, max_delay=200_000)
    manager.register("batched", models.plain, batching=batching, **tensors)
    manager.register("wrong", models.wrong, max_batch_size=8, **tensors)
    manager.register("async", models.coroutine, concurrency=2, **tensors)
    manager.register("stream", models.stream, **tensors)
    manager.register("onnx", onnx_model("Add", ["x", "x"]), batching=BatchingPolicy(16))
    engine = FakeDeviceEngine([X], [Y], models.on_device, scratch_size=64, device_size=16 * 64)
    manager.register("device", engine, max_batch_size=16)


class Worker:
    """One thread of callers."""

    def __init__(self, manager: InferenceManager, luck: Luck, tally: Tally, seed: int) -> None:
        self._manager = manager
        self._luck = luck
        self._tally = tally
        self._random = random.Random(seed)
        self._value = seed

    def work(self, until: float) -> None:
        actions: list[Callable[[], None]] = [self.ask] * 12 + [
            self.bind,
            self.take,
            self.change,
            self.allocate,
        ]
        while time.monotonic() < until:
            self._random.choice(actions)()

    def ask(self) -> None:
        name = self._random.choice(["plain", "batched", "wrong", "async", "device", "onnx"])
        runner = self._runner(name)
        array = self._array(name)
        seconds = self._random.choice([None, None, None, 0.0, 0.001, SOON])
        future = runner.infer(**array) if seconds is None else runner.infer_with_deadline(seconds, array)
        self._tally.add(future)
        future.add_done_callback(lambda _: self._luck.try_it(0.1))
        chance = self._random.random()
        if chance < 0.1:
            future.cancel()
        if chance < 0.6:
            self._check(future, next(iter(array.values())))

    def bind(self) -> None:
        try:
            with self._manager.infer_runner("plain").bindings(
                self._random.randint(1, 4), timeout=0.05
            ) as bindings:
                self._value += 1
                bindings["x"][...] = value = self._value
                if self._random.random() < 0.2:
                    return
                future = self._manager.infer_runner("plain").infer(bindings)
                self._tally.add(future)
                if self._random.random() < 0.1:
                    raise BadLuckError("while bindings are held")
        except DeadlineExceeded:
            self._tally.note("no bindings")
            return
        except BadLuckError:
            return
        self._check(future, value)

    def take(self) -> None:
        self._value += 1
        with self._manager.infer_runner("stream").stream(x=ones(value=self._value)) as stream:
            self._take(stream, self._value)

    def _take(self, stream: ResponseStream, value: int) -> None:
        taken = 0
        try:
            for answer in stream:
                assert (answer["y"] == 2 * value).all()
                taken += 1
                if self._random.random() < 0.1:
                    return
        except Internal:
            self._tally.note("stream failed")
        else:
            assert taken == value % 5
            self._tally.note("stream taken")

    def change(self) -> None:
        name = f"extra-{self._random.randint(0, 2)}"
        try:
            if self._random.random() < 0.5:
                self._manager.register(name, Models(self._luck).plain, inputs=[X], outputs=[Y])
            else:
                self._manager.unregister(name, SOON)
            self._tally.note("changed")
        except (AlreadyExists, NotFound):
            pass
        try:
            future = self._manager.infer_runner(name).infer(x=ones(value=self._value))
        except (NotFound, FailedPrecondition):
            return
        self._tally.add(future)
        self._check(future, self._value)

    def allocate(self) -> None:
        if self._random.random() < 0.2:
            self._manager.allocate(SOON)
            self._tally.note("allocated")

    def _runner(self, name: str) -> InferRunner:
        pre = post = None
        if self._random.random() < 0.3:

            def pre(given: Arrays) -> Arrays:
                self._luck.try_it(0.06)
                return given

            def post(answer: Any) -> Any:
                self._luck.try_it(0.06)
                return answer

        return self._manager.infer_runner(name, pre=pre, post=post)

    def _array(self, name: str) -> dict[str, Any]:
        self._value += 1
        batch = self._random.randint(1, 8)
        if name == "onnx":
            return {"x": np.full((batch, 2), self._value, np.float32)}
        if self._random.random() < 0.02:
            return {"x": ones(33)} if self._random.random() < 0.5 else {"x": np.zeros((1, 5), np.float32)}
        return {"x": ones(batch, self._value)}

    def _check(self, future: InferFuture, asked: Any) -> None:
        assert future.wait(SOON), "a future was left incomplete"
        try:
            answer = next(iter(future.get(0).values()))
        except CancelledError:
            self._tally.note("cancelled")
        except DeadlineExceeded:
            self._tally.note("late")
        except InvalidArgument:
            self._tally.note("invalid")
        except (Internal, Unavailable, BadLuckError) as error:
            self._tally.note(type(error).__name__)
        except (SystemExit, StopIteration, KeyboardInterrupt, GeneratorExit, AssertionError):
            self._tally.note("raised")  # by pre or post: these come as they are
        else:
            assert (answer == 2 * np.asarray(asked)).all()
            self._tally.note("answered")


def test_soak(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("yais.inference", "yais.future", "yais.thread_pool"):
        caplog.set_level("CRITICAL", name)
    before = set(threading.enumerate())
    luck, tally = Luck(), Tally()
    with FakeDevice() as device:
        manager = InferenceManager(2, 3, device=device, scratch=HostMemoryResource())
        register_all(manager, luck)
        manager.allocate()
        until = time.monotonic() + SECONDS
        in_threads(8, lambda index: Worker(manager, luck, tally, index * 10**5).work(until))
        for future in tally.futures:
            assert future.wait(SOON), "a future was left incomplete"
        check_idle(manager)
        check_all_work(manager)
        models = [manager.find(name) for name in manager.get_models()]
        assert manager.close(SOON) and manager.close(SOON)
    assert tally.done == Counter(id(future) for future in tally.futures), "a future was done twice, or never"
    for model in models:
        counts = model.counts()
        check_invariants(counts)
    for expected in ("answered", "cancelled", "late", "invalid", "Internal", "BadLuckError", "raised"):
        assert tally.outcomes[expected], tally.outcomes
    for expected in ("stream taken", "stream failed", "changed", "allocated"):
        assert tally.outcomes[expected], tally.outcomes
    assert luck.failures and not set(threading.enumerate()) - before


def check_all_work(manager: InferenceManager) -> None:
    """Check that every model still answers: no instance was lost, no timer and no thread died."""
    for name in ("plain", "batched", "wrong", "async", "device"):
        runner = manager.infer_runner(name)
        answers = 0
        while answers < 5:
            futures = [runner.infer(x=ones(value=value)) for value in range(8)]
            for value, future in enumerate(futures):
                try:
                    assert (future.get(SOON)["y"] == 2 * value).all()
                    answers += 1
                except Internal:  # bad luck
                    continue
    gate = threading.Event()
    manager.register(
        "stuck", lambda _: {"y": ones() * gate.wait(SOON)}, inputs=[X], outputs=[Y], concurrency=1
    )
    first = manager.infer_runner("stuck").infer(x=ones())
    late = manager.infer_runner("stuck").infer_with_deadline(0.01, x=ones())
    assert isinstance(late.exception(SOON), DeadlineExceeded), "the timer is gone"
    gate.set()
    assert first.get(SOON)


def test_callers_that_hold_all_bindings_are_served(caplog: pytest.LogCaptureFixture) -> None:
    with InferenceManager(1, 2) as manager:
        manager.register(
            "M",
            lambda arrays: {"y": arrays["x"] + 1},
            inputs=[X],
            outputs=[TensorSpec("y", DataType.FP32, (-1, 4))],
        )
        manager.allocate()
        runner = manager.infer_runner("M")
        held = [runner.bindings(2) for _ in range(2)]
        waiting = [runner.infer(x=ones(value=value)) for value in range(5)]  # for a lane
        for value, bindings in enumerate(held):
            bindings["x"][...] = value
            assert (runner.infer(bindings).get(SOON)["y"] == value + 1).all()
        assert not any(future.done() for future in waiting)
        for bindings in held:
            bindings.release()
        assert [future.get(SOON)["y"][0, 0] for future in waiting] == [1, 2, 3, 4, 5]
        check_idle(manager)
