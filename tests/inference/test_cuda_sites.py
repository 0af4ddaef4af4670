"""Models on two GPUs whose CUDA is a fake that finds out what real ones do not: use after free."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cuda_models
import numpy as np
import pytest
from gpu_sites import check_sites_idle, placed
from managing import X, Y, doubling, eventually, ones
from many_threads import in_threads
from modelling import SOON, check_invariants

from yais.engines.device_function import DeviceFunctionEngine
from yais.errors import DeadlineExceeded, Internal, YaisError
from yais.inference.infer_runner import InferRunner
from yais.inference.manager import InferenceManager
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.testing.cuda import FakeCuda

SCRATCH = 4096

NOTHING: Callable[[], None] = lambda: None  # noqa: E731


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    with FakeCuda(2, memory=1 << 22) as fake:
        yield fake


@contextmanager
def managing(cuda: FakeCuda, tokens: int = 2, lanes: int = 3) -> Iterator[InferenceManager]:
    """A manager that has given everything back in the end."""
    with cuda_models.managing(cuda, tokens, lanes) as manager:
        yield manager
    for gpu in range(2):
        held = cuda.device(gpu).statistics().held_bytes
        assert not any(held.values()), held
    assert not cuda.objects.get("FakeStream")


def on_gpu(cuda: FakeCuda, gpu: int, before: Callable[[], None] = NOTHING) -> DeviceFunctionEngine:
    """Return y = 2 x on a GPU; the activation memory is written to as well, and `before` called first."""

    def double(inputs: Any, outputs: Any, stream: Any, scratch: Any) -> None:
        def kernel() -> None:
            before()
            mark = np.frombuffer(cuda.view(scratch.handle, 8), np.int64)
            mark[0] += 1
            (x,), (y,) = [
                [np.frombuffer(cuda.view(each.address, each.nbytes), np.float32) for each in arrays]
                for arrays in (inputs, outputs)
            ]
            y[:] = 2 * x

        assert scratch.size >= SCRATCH
        cuda.submit(stream.handle, "compute", kernel)

    device = cuda.device(gpu)
    return DeviceFunctionEngine(double, [X], [Y], gpu=gpu, max_batch=8, scratch_size=SCRATCH, device=device)


def both(cuda: FakeCuda, instances: int = 2) -> Any:
    return placed(on_gpu(cuda, 0), on_gpu(cuda, 1), instances=instances)


def with_bindings(runner: InferRunner) -> None:
    """Ask with lanes of both GPUs. A function of its own, since views of memory keep it."""
    with runner.bindings(3) as one, runner.bindings(2) as other:
        for bindings in (one, other):
            bindings["x"][...] = 21
            assert (runner.infer(bindings).get(SOON)["y"] == 42).all()


def test_answers_from_both_gpus(cuda: FakeCuda) -> None:
    with managing(cuda) as manager:
        manager.register("M", both(cuda), max_batch_size=8)
        plan = manager.allocate()
        assert str(manager._sites.of(1)) == "GPU 1" and set(plan.gpus) == {0, 1}
        runner = manager.infer_runner("M")

        def work(index: int) -> None:
            for number in range(20):
                value = 100 * index + number
                assert (runner.infer(x=ones(1 + number % 8, value)).get(SOON)["y"] == 2 * value).all()

        in_threads(6, work)
        with_bindings(runner)
        for gpu in range(2):
            assert any(work.kind == "compute" for work in cuda.gpus[gpu].timeline)
        check_invariants(manager.find("M").counts())


def test_staging_is_pinned(cuda: FakeCuda) -> None:
    with managing(cuda) as manager:
        manager.register("M", both(cuda), max_batch_size=8)
        manager.allocate()
        held = [cuda.device(gpu).statistics().held_bytes for gpu in range(2)]
        assert all(each["device"] >= 3 * 512 + 2 * SCRATCH for each in held)
        assert all(each["pinned"] >= 3 * 32768 for each in held)


@pytest.mark.parametrize(
    "call",
    [
        "cuMemcpyAsync",
        "cuEventRecord",
        "cuEventSynchronize",
        "cuEventCreate",
        "cuCtxGetCurrent",
        "cuStreamWaitEvent",
    ],
)
def test_a_call_that_fails_fails_one_request(
    cuda: FakeCuda, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    with managing(cuda) as manager:
        manager.register("M", both(cuda, 1), max_batch_size=8)
        manager.allocate()
        runner = manager.infer_runner("M")
        assert (runner.infer(x=ones()).get(SOON)["y"] == 2).all()
        failed = 0
        for number in range(24):
            if not number % 4:
                cuda.fail(call, "CUDA_ERROR_INVALID_VALUE", after=number // 4)
            try:
                answer = runner.infer(x=ones(value=number)).get(SOON)
                assert (answer["y"] == 2 * number).all()
            except Internal:
                failed += 1
                check_sites_idle(manager)
        assert failed <= 6  # one each at most
        if call == "cuMemcpyAsync":
            assert failed == 6


def test_a_gpu_that_is_lost_leaves_the_other_serving(
    cuda: FakeCuda, caplog: pytest.LogCaptureFixture
) -> None:
    """An illegal address stays the error of every later call on it."""
    caplog.set_level(logging.CRITICAL)
    lost: list[bool] = []

    def once() -> None:
        if not lost:
            lost.append(True)
            raise ValueError("an illegal address")

    manager = InferenceManager(1, 2, gpus=cuda.device)
    manager.register("M", placed(on_gpu(cuda, 0, once), on_gpu(cuda, 1)), max_batch_size=8)
    manager.allocate()
    runner = manager.infer_runner("M")
    outcomes = []
    for value in range(10):
        futures = [runner.infer(x=ones(value=value)) for _ in range(2)]
        for future in futures:
            try:
                outcomes.append((future.get(SOON)["y"] == 2 * value).all())
            except YaisError:
                outcomes.append(None)
    assert {True, None} == set(outcomes)
    check_sites_idle(manager)
    assert manager.close(SOON)


def test_a_request_that_is_cancelled_leaves_no_copy_behind(cuda: FakeCuda) -> None:
    """The fake reads memory when a copy runs, and finds what is freed by then."""
    with managing(cuda, 1, 1) as manager:
        manager.register("M", on_gpu(cuda, 0), max_batch_size=8)
        manager.allocate()
        runner = manager.infer_runner("M")
        site = manager._sites.of(0)
        with site.lanes.pool.acquire(SOON) as lane:
            stream = lane.stream
        for _ in range(5):
            gate = cuda_gate(cuda, stream)
            with site.tokens.pool.acquire(SOON):
                future = runner.infer(x=ones())
                eventually(lambda: cuda.gpus[0].pending_by_kind().get("copy_in"))
                assert future.cancel()
            with pytest.raises(DeadlineExceeded):
                site.lanes.pool.acquire(0.02)
            gate.set()
            eventually(lambda: site.lanes.pool.statistics().available == 1)
            assert not cuda.gpus[0].pending  # nothing of it is left when the lane comes back
        assert (runner.infer(x=ones(value=4)).get(SOON)["y"] == 8).all()


def cuda_gate(cuda: FakeCuda, stream: Any) -> Any:
    """Keep a stream busy until the event that is returned is set."""
    gate = threading.Event()
    cuda.submit(stream.handle, "host", lambda: gate.wait(SOON))
    return gate


def test_a_gpu_that_is_too_small_is_said_in_one_line(cuda: FakeCuda) -> None:
    with managing(cuda) as manager:
        manager.register("M", both(cuda), max_batch_size=8)
        manager.allocate()
        runner = manager.infer_runner("M")
        engine = on_gpu(cuda, 1)
        engine.scratch_size = 1 << 22
        manager.register("large", engine, max_batch_size=8)
        with pytest.raises(
            MemoryError, match=r"GPU 1 has too little memory for 2 execution tokens with 4\.0 MiB"
        ):
            manager.allocate()
        assert (runner.infer(x=ones()).get(SOON)["y"] == 2).all()
        assert manager.unregister("large", SOON)


def test_gpus_and_cpus_under_stress(cuda: FakeCuda, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    with managing(cuda) as manager:
        batching = BatchingPolicy(4, max_delay=200_000)
        manager.register("both", both(cuda), batching=batching)
        manager.register("mixed", placed(on_gpu(cuda, 1), doubling(), instances=2), max_batch_size=8)
        manager.allocate()
        runners = [manager.infer_runner(name) for name in ("both", "mixed")]
        failed = []

        def work(index: int) -> None:
            for number in range(50):
                if index == 0 and number % 10 == 5:
                    cuda.fail("cuMemcpyAsync", "CUDA_ERROR_INVALID_VALUE")
                value = 1000 * index + number
                future = runners[number % 2].infer(x=ones(1 + number % 3, value))
                if number % 7 == 3:
                    future.cancel()
                    continue
                try:
                    assert (future.get(SOON)["y"] == 2 * value).all()
                except Internal:
                    failed.append(number)

        in_threads(5, work)
        assert len(failed) <= 5  # each fails at most one request: those of its batch run again
        for name in ("both", "mixed"):
            check_invariants(manager.find(name).counts())
