"""CUDA graphs of plans: when they are made, what they give, and what becomes of a capture that fails."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from gpu_lanes import run
from plans import doubling, lanes_of, loaded, rows

from yais.engines import tensorrt, tensorrt_graphs
from yais.engines.tensorrt import TensorRTEngine
from yais.testing.cuda import FakeCuda
from yais.testing.tensorrt import FakeTensorRT


def numbers(engine: TensorRTEngine) -> tuple[int, int, int]:
    counts = engine.graph_counts
    assert counts is not None
    return counts.captured, counts.launched, counts.failed


def test_what_is_executed_again_becomes_a_graph() -> None:
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, doubling(), graphs=True)
        with lanes_of(cuda, engine) as ((lane,), (scratch,)):
            seen = []
            for value in range(5):
                assert (run(engine, [rows(3, value)], lane, scratch)[0] == 2 * value).all()
                seen.append(numbers(engine))
            assert seen == [(0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 2, 0), (1, 3, 0)]
            fake.calls.clear()
            run(engine, [rows()], lane, scratch)
            assert not fake.calls  # the graph alone
        engine.close()
        assert not cuda.objects.get("FakeGraph")
        del engine


def test_each_batch_lane_and_token_has_its_own() -> None:
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, doubling(), graphs=True)
        with lanes_of(cuda, engine, 2, tokens=2) as (lanes, tokens):
            value = 0
            for _ in range(4):
                for lane in lanes:
                    for token in tokens:
                        for batch in (1, 8):
                            value += 1
                            (result,) = run(engine, [rows(batch, value)], lane, token)
                            assert result.shape == (batch, 4) and (result == 2 * value).all()
        assert numbers(engine) == (8, 16, 0)
        engine.close()
        del engine


def test_with_and_without_they_are_equal() -> None:
    generator = np.random.default_rng(7)
    inputs = [generator.random((batch, 4), np.float32) for batch in (1, 8, 3, 8, 8, 3, 1, 8, 3, 3)]
    answers: list[list[Any]] = []
    for graphs in (False, True):
        with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
            engine = loaded(fake, doubling(function=lambda x: [np.sin(x)]), graphs=graphs)
            with lanes_of(cuda, engine) as ((lane,), (scratch,)):
                answers.append([run(engine, [x], lane, scratch)[0] for x in inputs])
            engine.close()
            del engine
    for without, with_graph in zip(*answers, strict=True):
        assert np.array_equal(without, with_graph)


def test_as_many_as_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_graphs, "_REMEMBERED", 3)
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, doubling(), graphs=True)
        with lanes_of(cuda, engine, 4) as (lanes, (scratch,)):
            for _ in range(3):
                for lane in lanes:
                    run(engine, [rows()], lane, scratch)
            assert numbers(engine) == (0, 0, 0)  # each was forgotten before it came again
            for lane in lanes[:3]:
                for _ in range(3):
                    run(engine, [rows()], lane, scratch)
            assert numbers(engine) == (3, 3, 0)
            for _ in range(2):
                run(engine, [rows()], lanes[3], scratch)
            cuda.device().free_retired()
            assert cuda.objects["FakeGraph"] == 3
        engine.close()
        del engine


def test_each_form_has_a_context_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "_GRAPH_FORMS", 3)
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, doubling(), graphs=True)
        with lanes_of(cuda, engine) as ((lane,), (scratch,)):
            for _ in range(3):
                for batch in (1, 2, 3):
                    assert (run(engine, [rows(batch, batch)], lane, scratch)[0] == 2 * batch).all()
            assert fake.alive["context"] == 3 and numbers(engine) == (3, 3, 0)
            run(engine, [rows(4)], lane, scratch)  # takes the context of 1, and so its graph
            cuda.device().free_retired()
            assert fake.alive["context"] == 3 and cuda.objects["FakeGraph"] == 2
            run(engine, [rows(3)], lane, scratch)
            assert numbers(engine) == (3, 4, 0)
        engine.close()
        del engine


def test_no_graph_of_another_form_is_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "_GRAPH_FORMS", 1)
    seen: list[int] = []

    def function(x: Any) -> list[Any]:
        seen.append(len(x))
        return [2 * x]

    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, doubling(function=function), graphs=True)
        with lanes_of(cuda, engine) as ((lane,), (scratch,)):
            for batch in (1, 2, 2, 2, 1, 2, 1, 1, 1):  # at the same addresses
                run(engine, [rows(batch)], lane, scratch)
        assert seen == [1, 2, 2, 2, 1, 2, 1, 1, 1]
        assert numbers(engine) == (2, 2, 0)
        engine.close()
        del engine


@pytest.mark.parametrize("call", ["cuStreamBeginCapture", "cuGraphInstantiate"])
def test_a_capture_that_fails_ends_them(call: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, doubling(), graphs=True)
        cuda.fail(call, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")
        with lanes_of(cuda, engine) as ((lane,), (scratch,)):
            for value in range(5):
                assert (run(engine, [rows(3, value)], lane, scratch)[0] == 2 * value).all()
        assert numbers(engine) == (0, 0, 1)
        assert sum("CUDA graphs are not used any more" in message for message in caplog.messages) == 1
        engine.close()
        del engine


def test_a_launch_that_fails_is_an_error_of_that_execution() -> None:
    with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
        engine = loaded(fake, doubling(), graphs=True)
        with lanes_of(cuda, engine) as ((lane,), (scratch,)):
            for _ in range(3):
                run(engine, [rows()], lane, scratch)
            cuda.fail("cuGraphLaunch", "CUDA_ERROR_INVALID_VALUE")
            with pytest.raises(Exception, match="cuGraphLaunch: CUDA_ERROR_INVALID_VALUE"):
                run(engine, [rows()], lane, scratch)
            assert (run(engine, [rows(3, 4)], lane, scratch)[0] == 8).all()
        engine.close()
        del engine
