"""Any call of CUDA fails, at any moment, while requests are in flight: all end, right or with an error."""

from __future__ import annotations

import concurrent.futures
import contextlib
import gc
import logging
from typing import Any

import numpy as np
import pytest
from cuda_models import on_gpu
from gpu_sites import check_sites_idle
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from managing import eventually, ones
from modelling import SOON, check_invariants

from yais.engines.tensorrt import TensorRTEngine, TensorRTOptions
from yais.engines.tensorrt_runtime import TensorRTRuntime
from yais.errors import DeadlineExceeded, YaisError
from yais.inference.manager import InferenceManager
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.testing.cuda import FakeCuda
from yais.testing.tensorrt import FakeNetwork, FakeProfile, FakeTensor, FakeTensorRT

CALLS = (
    "cuMemcpyAsync",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuEventQuery",
    "cuEventCreate",
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuStreamBeginCapture",
    "cuGraphInstantiate",
    "cuGraphLaunch",
    "cuGraphDestroy",
    "cuMemAlloc",
    "cuMemHostRegister",
)
"""Those that fail without a loss that the driver is to blame for, such as a free that fails."""

ERRORS = ("CUDA_ERROR_INVALID_VALUE", "CUDA_ERROR_OUT_OF_MEMORY", "CUDA_ERROR_ILLEGAL_ADDRESS")

faults = st.lists(
    st.tuples(st.sampled_from(CALLS), st.sampled_from(ERRORS), st.integers(0, 20)),
    min_size=1,
    max_size=3,
    unique_by=lambda fault: fault[0],
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(1, 8)),
        st.tuples(st.just("late"), st.integers(1, 3)),
        st.tuples(st.just("cancel"), st.integers(0, 3)),
        st.tuples(st.just("bind"), st.integers(1, 4)),
        st.tuples(st.just("wait"), st.integers(0, 3)),
        st.tuples(st.just("grow"), st.integers(1, 3)),
        st.tuples(st.just("leave"), st.integers(0, 0)),
    ),
    min_size=4,
    max_size=14,
)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


class Play:
    """Requests to a model "M" of y = 2 x, at most 4 in flight, beside what else happens to a manager."""

    def __init__(self, cuda: FakeCuda, manager: InferenceManager) -> None:
        self.cuda = cuda
        self.manager = manager
        self.runner = manager.infer_runner("M")
        self.asked: list[tuple[float, int, Any]] = []
        self.value = 0

    def ask(self, batch: int) -> None:
        if len(self.asked) < 4:
            self.value += 1
            self.asked.append((self.value, batch, self.runner.infer(x=ones(batch, self.value))))

    def late(self, batch: int) -> None:
        if len(self.asked) < 4:
            self.value += 1
            future = self.runner.infer_with_deadline(0.0005, x=ones(batch, self.value))
            self.asked.append((self.value, batch, future))

    def cancel(self, index: int) -> None:
        if index < len(self.asked):
            self.asked[index][2].cancel()

    def bind(self, batch: int) -> None:
        with contextlib.suppress(DeadlineExceeded), self.runner.bindings(batch, timeout=0.01) as bindings:
            self.value += 1
            bindings["x"][...] = self.value
            self.asked.append((self.value, batch, self.runner.infer(bindings)))
            if batch == 2:
                self.asked[-1][2].cancel()

    def wait(self, index: int) -> None:
        if index < len(self.asked):
            self.check(*self.asked.pop(index))

    def grow(self, factor: int) -> None:
        site = self.manager._sites.of(0)
        with contextlib.suppress(YaisError, MemoryError, OSError):
            site.reserve(
                factor * site.lanes.staging_size,
                0.02,
                device=factor * site.lanes.device_size,
                scratch=factor * site.tokens.scratch_size,
            )

    def leave(self, _: int) -> None:
        """Let another model come and go."""
        with contextlib.suppress(YaisError, MemoryError):
            self.manager.register("other", on_gpu(self.cuda, 0), max_batch_size=8)
        with contextlib.suppress(YaisError):
            self.manager.infer_runner("other").infer(x=ones()).wait(0.001)
        with contextlib.suppress(YaisError):
            self.manager.unregister("other", SOON)

    def check(self, value: float, batch: int, future: Any) -> None:
        assert future.wait(SOON), "a request was lost"
        with contextlib.suppress(YaisError, concurrent.futures.CancelledError):
            answer = future.get(0)["y"]
            assert answer.shape == (batch, 4) and (answer == 2 * value).all(), (answer, value)

    def end(self) -> None:
        while self.asked:
            self.check(*self.asked.pop())
        check_sites_idle(self.manager)
        check_invariants(self.manager.find("M").counts())


def play(cuda: FakeCuda, engine: Any, plan: Any, broken: Any) -> None:
    manager = InferenceManager(2, 2, gpus=cuda.device)
    try:
        manager.register("M", engine, max_batch_size=8, batching=BatchingPolicy(8, max_delay=0.0001))
        manager.allocate()
        play = Play(cuda, manager)
        play.ask(1)
        play.end()
        for call, error, after in broken:
            cuda.fail(call, error, after=after)
        for name, argument in plan:
            getattr(play, name)(argument)
        play.end()
        cuda._state._faults.clear()
        site = manager._sites.of(0)
        if site.lost:
            return
        try:
            play.runner.infer(x=ones()).get(SOON)
        except YaisError:
            eventually(lambda: site.lost)  # the error came without a request that could tell of it
            return
        for _ in range(8):
            play.ask(3)
        for value, batch, future in play.asked:
            assert (future.get(SOON)["y"] == np.full((batch, 4), 2 * value)).all()
        play.asked.clear()
    finally:
        assert manager.close(SOON)
        if cuda._state.contexts[0].error is not None:
            cuda._state.objects.clear()  # streams cannot be destroyed there, and know what they ran last


MANY = settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@MANY
@given(plan=steps, broken=faults)
def test_functions(plan: Any, broken: Any) -> None:
    with FakeCuda(memory=1 << 24) as cuda:
        play(cuda, on_gpu(cuda, 0), plan, broken)
        gc.collect()


@MANY
@given(plan=steps, broken=faults, graphs=st.booleans())
def test_plans(plan: Any, broken: Any, graphs: bool) -> None:
    network = FakeNetwork(
        inputs=[FakeTensor("x")],
        outputs=[FakeTensor("y")],
        function=lambda x: [2 * x],
        profiles=[FakeProfile({"x": ((1, 4), (4, 4), (8, 4))})],
        scratch=5000,
    )
    with FakeCuda(memory=1 << 24) as cuda, FakeTensorRT(cuda) as fake:
        runtime = TensorRTRuntime(fake.module)
        engine = TensorRTEngine(
            fake.plan(network), cuda.device(), TensorRTOptions(graphs=graphs), runtime=runtime
        )
        play(cuda, engine, plan, broken)
        del engine
        gc.collect()
