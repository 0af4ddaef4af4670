"""TensorRT's log: levels, and whose errors are whose."""

from __future__ import annotations

import logging
import threading

import pytest
from plans import SOON

from yais.engines.tensorrt_log import complaints, tensorrt_logger
from yais.engines.tensorrt_runtime import TensorRTRuntime
from yais.errors import Internal
from yais.testing.cuda import FakeCuda
from yais.testing.tensorrt import FakeTensorRT


def test_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "yais.tensorrt")
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        sink = tensorrt_logger(fake.module)
        for severity in range(5):
            sink.log(severity, f"100 % of {severity}")
    assert [(each.levelno, each.getMessage()) for each in caplog.records] == [
        (logging.ERROR, "100 % of 0"),
        (logging.ERROR, "100 % of 1"),
        (logging.WARNING, "100 % of 2"),
        (logging.INFO, "100 % of 3"),
        (logging.DEBUG, "100 % of 4"),
    ]


def test_each_thread_has_the_errors_of_its_own_call() -> None:
    met = threading.Barrier(4)
    messages: dict[int, str] = {}

    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        runtime = TensorRTRuntime(fake.module)

        def work(number: int) -> None:
            def fails() -> bool:
                runtime._logger.log(2, "a warning")
                for line in range(5):
                    runtime._logger.log(1, "-".join(map(str, (number, line))))
                    met.wait(SOON)
                return False

            with pytest.raises(Internal) as failed:
                runtime.call(fails)
            messages[number] = str(failed.value)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
    # The last three.
    assert messages == {n: f"TensorRT's fails failed: {n}-2; {n}-3; {n}-4" for n in range(4)}


def test_calls_within_calls_and_outside_of_any() -> None:
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        logger = tensorrt_logger(fake.module)
        logger.log(1, "nobody's")
        with complaints() as outer:
            logger.log(1, "outer")
            with complaints() as inner:
                logger.log(1, "inner")
            logger.log(1, "outer again")
        logger.log(1, "nobody's")
    assert (outer, inner) == (["outer", "outer again"], ["inner"])


def test_what_raises_is_told() -> None:
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        runtime = TensorRTRuntime(fake.module)

        def infer_shapes() -> None:
            runtime._logger.log(1, "a dimension is wrong")
            raise RuntimeError("see the log")

        for call in (runtime.call, runtime.do):
            with pytest.raises(
                Internal, match="TensorRT's infer_shapes failed: a dimension is wrong; see the log"
            ):
                call(infer_shapes)
        with pytest.raises(Internal, match="TensorRT's <lambda> failed: it says no reason"):
            runtime.call(lambda: None)
        runtime.do(lambda: None)
