"""What requests and models on GPUs leave behind: no lane that is still used, and nothing that grows."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from cuda_models import managing, on_gpu
from managing import X, Y, eventually, ones
from modelling import SOON

from yais.engines.tensorrt import TensorRTEngine, TensorRTOptions
from yais.inference.manager import InferenceManager
from yais.testing import FakeDevice, FakeDeviceEngine
from yais.testing.cuda import FakeCuda
from yais.testing.tensorrt import FakeNetwork, FakeProfile, FakeTensor, FakeTensorRT


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    with FakeCuda(memory=1 << 24) as fake:
        yield fake


@pytest.mark.parametrize("phase", ["begin", "token"])
def test_a_lane_that_came_with_a_request_stays_until_the_device_is_done_with_it(phase: str) -> None:
    """It is not cancelled any more then: its holder gives the lane to others, whose inputs are there."""
    with FakeDevice() as device:
        engine = FakeDeviceEngine([X], [Y], lambda x: [2 * x])
        manager = InferenceManager(1, 1, device=device)
        try:
            manager.register("M", engine, max_batch_size=8)
            manager.allocate()
            runner = manager.infer_runner("M")
            begin = engine.phases["begin"]
            token = manager._tokens.pool.acquire(SOON) if phase == "token" else None
            if phase == "begin":
                begin.gate.clear()
            with runner.bindings() as bindings:
                bindings["x"][...] = 3
                first = runner.infer(bindings)
                assert begin.entered.acquire(timeout=SOON)
                if phase == "token":
                    eventually(lambda: manager._tokens.pool.statistics().waiting)
                assert not first.cancel()
                del bindings
            assert not manager._lanes.pool.statistics().available
            second = runner.infer(x=ones(value=4))
            begin.gate.set()
            if token is not None:
                token.release()
            assert (first.get(SOON)["y"] == 6).all()
            assert (second.get(SOON)["y"] == 8).all()
            eventually(lambda: manager._lanes.pool.statistics().available)
        finally:
            assert manager.close(SOON)


def test_models_that_come_and_go_leave_nothing(cuda: FakeCuda) -> None:
    network = FakeNetwork(
        inputs=[FakeTensor("x")],
        outputs=[FakeTensor("y")],
        function=lambda x: [2 * x],
        profiles=[FakeProfile({"x": ((1, 4), (4, 4), (8, 4))})],
        scratch=5000,
    )
    with FakeTensorRT(cuda) as fake, managing(cuda) as manager:
        plan = fake.plan(network)
        before = set(threading.enumerate())

        def once() -> Any:
            options = TensorRTOptions(graphs=True)
            engine = TensorRTEngine(plan, cuda.device(), options, runtime=fake.runtime)
            manager.register("plan", engine, max_batch_size=8)
            manager.register("function", on_gpu(cuda, 0), max_batch_size=8)
            manager.allocate()
            for name in ("plan", "function"):
                runner = manager.infer_runner(name)
                futures = [runner.infer(x=ones(value=value)) for value in range(6)]
                assert [future.get(SOON)["y"][0, 0] for future in futures] == [0, 2, 4, 6, 8, 10]
                assert manager.unregister(name, SOON)
            gc.collect()
            cuda.device().free_retired()
            return (
                cuda.held,
                len(set(threading.enumerate()) - before),
                {k: v for k, v in cuda.objects.items() if k != "FakeEvent"},
            )

        first = once()
        assert [once() for _ in range(15)] == [first] * 15
        assert cuda.objects["FakeEvent"] < 40


def test_graphs_that_are_given_up_are_freed_while_nothing_else_is(cuda: FakeCuda) -> None:
    """A model whose batches keep changing allocates nothing, so nothing would give them back."""
    network = FakeNetwork(
        inputs=[FakeTensor("x")],
        outputs=[FakeTensor("y")],
        function=lambda x: [2 * x],
        profiles=[FakeProfile({"x": ((1, 4), (4, 4), (64, 4))})],
    )
    with FakeTensorRT(cuda) as fake, managing(cuda, 1, 1) as manager:
        engine = TensorRTEngine(
            fake.plan(network), cuda.device(), TensorRTOptions(graphs=True), runtime=fake.runtime
        )
        manager.register("M", engine, max_batch_size=64)
        manager.allocate()
        runner = manager.infer_runner("M")
        for batch in range(1, 41):
            for _ in range(3):
                assert (runner.infer(x=ones(batch, batch)).get(SOON)["y"] == 2 * batch).all()
        assert engine.graph_counts is not None and engine.graph_counts.captured >= 40
        assert cuda.objects["FakeGraph"] <= 16
        del engine, runner
        manager.unregister("M", SOON)


HANGING = """
import sys, threading
sys.path.insert(0, sys.argv[1])
from cuda_models import on_gpu
from managing import ones
from yais.inference.manager import InferenceManager
from yais.memory.cuda import device
from yais.testing.cuda import FakeCuda

device._PATIENCE = 0.1
cuda = FakeCuda()
entered = threading.Event()

def never():
    entered.set()
    threading.Event().wait()

manager = InferenceManager(2, 4, gpus=cuda.device)
manager.register("hangs", on_gpu(cuda, 0, never), max_batch_size=8)
other = on_gpu(cuda, 0)
weights = cuda.device().memory().allocate(64)
other.close = weights.close
manager.register("other", other, max_batch_size=8)
manager.allocate()
first = manager.infer_runner("hangs").infer(x=ones())
assert entered.wait(20)
assert (manager.infer_runner("other").infer(x=ones()).get(20)["y"] == 2).all()
assert manager.unregister("other", 5)
assert not manager.unregister("hangs", 0.1)
assert not manager.close(0.5)
print("closed", flush=True)
"""


def test_a_gpu_that_hangs_keeps_no_process_from_ending() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HANGING, __file__.rpartition("/")[0]],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "closed\n"), ended.stderr
