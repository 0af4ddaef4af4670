"""The cases of benchmarks/resources.py that run models: InferRunner beside a bare loop over ONNX Runtime."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from benchmarks.resources_cases import Case, Goal, Work
from yais.engines.onnx import OnnxOptions, session_options
from yais.infer_runner import InferFuture
from yais.inference.infer_runner import InferRunner
from yais.inference.manager import InferenceManager

__all__ = ["INFER_CASES"]

_LONG = 60.0
"""Seconds after which a wait is an error; never reached."""

_SIMPLE = Path(__file__).parents[1] / "examples/models/simple/1/model.onnx"
_OPTIONS = OnnxOptions(intra_op_threads=1)
_WIDTH = 256  # of the matrices of the slow model
_BATCH = 8
_SLOW = 3e-3  # seconds it is to take

Feed = dict[str, np.ndarray]


def _session(model: bytes) -> ort.InferenceSession:
    """Return a session as the engine makes it."""
    return ort.InferenceSession(model, session_options(_OPTIONS), providers=["CPUExecutionProvider"])


def _chain(length: int) -> bytes:
    """Return a model that multiplies FP32[-1, 256] by a matrix so many times."""
    rotation = np.linalg.qr(np.random.default_rng(1).random((_WIDTH, _WIDTH)))[0]  # keeps numbers as large
    names = ["x", *(f"x{number}" for number in range(1, length)), "y"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", [one, "w"], [other]) for one, other in itertools.pairwise(names)],
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", _WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", _WIDTH])],
        [numpy_helper.from_array(rotation.astype(np.float32), "w")],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@functools.cache
def slow_model() -> bytes:
    """Return a model of which a batch takes about 3 ms on one thread of this machine."""
    length = 64
    session, feed = _session(_chain(length)), _slow_feed()
    times = []
    for _ in range(200):
        start = time.thread_time()  # what others on the machine do must not make the model quicker
        session.run(None, feed)
        times.append(time.thread_time() - start)
    return _chain(math.ceil(length * _SLOW / float(np.median(times))))


def _slow_feed() -> Feed:
    return {"x": np.random.default_rng(2).random((_BATCH, _WIDTH), np.float32)}


def _simple_feed() -> Feed:
    numbers = np.arange(16, dtype=np.int32).reshape(1, 16)
    return {"INPUT0": numbers, "INPUT1": numbers}


@contextlib.contextmanager
def _runner(model: bytes, concurrency: int, batch: int) -> Iterator[InferRunner]:
    with InferenceManager(concurrency) as manager:
        manager.register("model", model, max_batch_size=batch, options=_OPTIONS)
        manager.allocate()
        yield manager.infer_runner("model")


@contextlib.contextmanager
def _simple_runner() -> Iterator[Work]:
    feed = _simple_feed()
    with _runner(_SIMPLE.read_bytes(), 1, 1) as runner:

        def work(count: int) -> None:
            for _ in range(count):
                runner.infer(feed).get(_LONG)

        yield work


@contextlib.contextmanager
def _simple_session() -> Iterator[Work]:
    run = _bare(_SIMPLE.read_bytes(), _simple_feed())

    def work(count: int) -> None:
        for _ in range(count):
            run()

    yield work


def _bare(model: bytes, feed: Feed) -> Callable[[], object]:
    """Return the bare call, with all that can be made before it."""
    session = _session(model)
    names = [output.name for output in session.get_outputs()]
    return functools.partial(session.run, names, feed, ort.RunOptions())


@contextlib.contextmanager
def _slow_runner(concurrency: int) -> Iterator[Work]:
    """Keep twice as many requests in flight as run at once, from one thread that waits for the oldest."""
    feed = _slow_feed()
    with _runner(slow_model(), concurrency, _BATCH) as runner:

        def work(count: int) -> None:
            flying = deque(runner.infer(feed) for _ in range(min(count, 2 * concurrency)))
            for _ in range(count - len(flying)):
                flying.popleft().get(_LONG)
                flying.append(runner.infer(feed))
            for future in flying:
                future.get(_LONG)

        yield work


@contextlib.contextmanager
def _slow_callbacks(concurrency: int) -> Iterator[Work]:
    """Keep as many in flight, each asked by the callback of one before: no thread but those that execute."""
    feed = _slow_feed()
    with _runner(slow_model(), concurrency, _BATCH) as runner:

        def work(count: int) -> None:
            turns, over = iter(range(count)), threading.Semaphore(0)  # next() of a range is atomic

            def again(done: InferFuture | None) -> None:
                if done is not None:
                    done.result(0)
                if next(turns, None) is None:
                    over.release()
                else:
                    runner.infer(feed).add_done_callback(again)

            for _ in range(2 * concurrency):
                again(None)
            for _ in range(2 * concurrency):
                over.acquire(timeout=_LONG)

        yield work


@contextlib.contextmanager
def _slow_threads(concurrency: int) -> Iterator[Work]:
    """Let each of so many threads call one session in a loop."""
    run = _bare(slow_model(), _slow_feed())

    def work(count: int) -> None:
        left = iter(range(count))

        def loop() -> None:
            for _ in left:
                run()

        threads = [threading.Thread(target=loop) for _ in range(concurrency)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    yield work


def _of(
    work: Callable[[int], AbstractContextManager[Work]], concurrency: int
) -> Callable[[], AbstractContextManager[Work]]:
    return functools.partial(work, concurrency)


_SAME_RATE = Goal(round(1 / 0.97, 3))  # at least 97% of its batches per second

INFER_CASES: list[Case] = [
    Case(
        "InferRunner, `simple`, one in flight",
        _simple_runner,
        _simple_session,
        "session.run",
        Goal(60, "difference"),
    ),
    *(
        Case(
            f"InferRunner, 3 ms a batch, concurrency {concurrency}",
            _of(_slow_runner, concurrency),
            _of(_slow_threads, concurrency),
            f"session.run in {concurrency} thread{'s' * (concurrency > 1)}",
            _SAME_RATE,
        )
        for concurrency in (1, 2)
    ),
    Case(
        "InferRunner, 3 ms a batch, concurrency 2, asked by callbacks",
        _of(_slow_callbacks, 2),
        _of(_slow_threads, 2),
        "session.run in 2 threads",
        _SAME_RATE,
    ),
    Case(
        "InferRunner, 3 ms a batch, concurrency 2",
        _of(_slow_runner, 2),
        _of(_slow_runner, 1),
        "concurrency 1",
        Goal(1),
    ),
]
"""With one thread of ONNX Runtime for each execution. For the last, there must be two cores."""
