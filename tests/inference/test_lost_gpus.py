"""GPUs that are lost: after an error that stays nothing is sent there, and models only there say so."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cuda_models import managing, on_gpu
from gpu_sites import check_sites_idle, placed
from managing import doubling, eventually, ones
from many_threads import in_threads
from modelling import SOON, check_invariants

from yais.errors import Internal, Unavailable, YaisError
from yais.inference.infer_runner import InferRunner
from yais.inference.manager import InferenceManager
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.serving.managed import ManagedModels
from yais.testing.cuda import FakeCuda


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    with FakeCuda(2, memory=1 << 22) as fake:
        yield fake


class Breaking:
    """Makes the next kernel of an engine one that touches what it may not."""

    def __init__(self) -> None:
        self.now = False

    def __call__(self) -> None:
        if self.now:
            raise ValueError("an illegal address")


def doubled(runner: InferRunner, value: float) -> None:
    assert is_double(runner, value)


def is_double(runner: InferRunner, value: float) -> bool:
    return bool((runner.infer(x=ones(value=value)).get(SOON)["y"] == 2 * value).all())


def lose(manager: InferenceManager, runner: InferRunner, breaking: Breaking, gpu: int = 0) -> list[Any]:
    """Break a GPU, and ask until that is noticed; return what the requests were told."""
    breaking.now = True
    told: list[Any] = []
    deadline = time.monotonic() + SOON
    while not manager._sites.of(gpu).lost:
        assert time.monotonic() < deadline
        try:
            is_double(runner, 1)
        except YaisError as error:
            told.append(error)
    return told


def two(cuda: FakeCuda, manager: InferenceManager, **options: Any) -> tuple[InferRunner, Breaking]:
    breaking = Breaking()
    engines = placed(on_gpu(cuda, 0, breaking), on_gpu(cuda, 1))
    manager.register("M", engines, **{"max_batch_size": 8, **options})
    manager.allocate()
    return manager.infer_runner("M"), breaking


def test_the_other_gpu_gets_all_requests(cuda: FakeCuda) -> None:
    with managing(cuda) as manager:
        runner, breaking = two(cuda, manager)
        told = lose(manager, runner, breaking)
        assert len(told) == 1 and isinstance(told[0], Internal)
        before = len(cuda.gpus[0].timeline)
        in_threads(4, lambda index: [doubled(runner, 10 * index + number) for number in range(25)])
        assert len(cuda.gpus[0].timeline) == before
        model: Any = manager.find("M")
        assert not model.lost and ManagedModels(manager).ready
        check_invariants(model.counts())


def test_a_batch_that_waits_for_its_size_goes_to_the_other(cuda: FakeCuda) -> None:
    """An instance that is lost is not one that something could run on now: nobody wakes up for it."""
    with managing(cuda) as manager:
        runner, breaking = two(cuda, manager, batching=BatchingPolicy(8, max_delay=2_000_000))
        lose(manager, runner, breaking)
        scheduler: Any = manager.find("M")._scheduler  # type: ignore[attr-defined]
        looks = 0
        take = scheduler._take

        def counted(lent: Any = None) -> Any:
            nonlocal looks
            looks += 1
            return take(lent)

        scheduler._take = counted
        with manager._sites.of(1).tokens.pool.acquire(SOON), manager._sites.of(1).tokens.pool.acquire(SOON):
            futures = [runner.infer(x=ones(value=value)) for value in range(20)]
            assert not any(future.wait(0.02) for future in futures)
            assert looks < 200
        assert [future.get(SOON)["y"][0, 0] for future in futures] == [2 * value for value in range(20)]


def test_a_model_only_there_fails_at_once_and_others_serve(cuda: FakeCuda) -> None:
    breaking = Breaking()
    with managing(cuda) as manager:
        manager.register("there", on_gpu(cuda, 0, breaking), max_batch_size=8)
        manager.register("too", on_gpu(cuda, 0), batching=BatchingPolicy(8, max_delay=1_000_000))
        manager.register("other", on_gpu(cuda, 1), max_batch_size=8)
        manager.register("host", doubling(), max_batch_size=8)
        manager.allocate()
        runners = {name: manager.infer_runner(name) for name in ("there", "too", "other", "host")}
        assert all(is_double(runner, 3) for runner in runners.values())
        lose(manager, runners["there"], breaking)
        for name in ("there", "too"):
            for _ in range(5):
                with pytest.raises(Unavailable, match=r"GPU 0 is lost: .*CUDA_ERROR_LAUNCH_FAILED"):
                    is_double(runners[name], 1)
        for name in ("other", "host"):
            assert all(is_double(runners[name], value) for value in range(5))
        models = ManagedModels(manager)
        assert {entry.name: entry.ready for entry in models.entries} == {
            "there": False,
            "too": False,
            "other": True,
            "host": True,
        }
        assert not models.ready
        assert manager.unregister("too", SOON)


def test_a_lane_of_it_is_good_for_requests_elsewhere(cuda: FakeCuda) -> None:
    with managing(cuda) as manager:
        runner, breaking = two(cuda, manager)
        with runner.bindings() as one, runner.bindings() as other:
            lose(manager, runner, breaking)
            for bindings in (one, other):
                bindings["x"][...] = 21
                assert (runner.infer(bindings).get(SOON)["y"] == 42).all()
            del bindings


def test_a_lane_that_is_waited_for_there_is_given_back(cuda: FakeCuda) -> None:
    with managing(cuda, 1, 1) as manager:
        runner, _ = two(cuda, manager)
        sites = [manager._sites.of(gpu) for gpu in range(2)]
        leases = [site.lanes.pool.acquire(SOON) for site in sites]
        futures = [runner.infer(x=ones(value=value)) for value in range(4)]
        eventually(lambda: all(site.lanes.pool.statistics().waiting for site in sites))
        sites[0].lost = "as if"
        leases[0].release()
        assert not any(future.wait(0.01) for future in futures)
        leases[1].release()
        assert [future.get(SOON)["y"][0, 0] for future in futures] == [0, 2, 4, 6]


def test_all_gpus_are_lost(cuda: FakeCuda) -> None:
    with managing(cuda) as manager:
        breaking = [Breaking(), Breaking()]
        manager.register("M", placed(*map(on_gpu, (cuda, cuda), (0, 1), breaking)), max_batch_size=8)
        manager.allocate()
        runner = manager.infer_runner("M")
        for gpu in range(2):
            lose(manager, runner, breaking[gpu], gpu)
        outcomes: list[type[BaseException]] = []

        def ask(_: int) -> None:
            for _ in range(10):
                with pytest.raises(Unavailable):
                    is_double(runner, 1)
                outcomes.append(Unavailable)

        in_threads(3, ask)
        assert len(outcomes) == 30 and manager.find("M").lost


def test_what_waits_for_a_token_as_it_is_lost_is_told(cuda: FakeCuda) -> None:
    breaking = Breaking()
    hold = threading.Event()

    def before() -> None:
        hold.wait(SOON)
        breaking()

    with managing(cuda, 1, 3) as manager:
        manager.register("M", on_gpu(cuda, 0, before), max_batch_size=8)
        manager.allocate()
        runner = manager.infer_runner("M")
        futures = [runner.infer(x=ones(value=value)) for value in range(8)]
        eventually(lambda: manager._sites.of(0).tokens.pool.statistics().waiting)
        breaking.now = True
        hold.set()
        errors = [future.exception(SOON) for future in futures]
        assert all(isinstance(error, Internal | Unavailable) for error in errors)
        assert any(isinstance(error, Internal) for error in errors) and isinstance(errors[-1], Unavailable)
        check_sites_idle(manager)


def test_memory_that_cannot_be_had_there_is_an_error_that_is_noticed(cuda: FakeCuda) -> None:
    with managing(cuda) as manager:
        manager.register("M", on_gpu(cuda, 0), max_batch_size=8)
        manager._sites.of(0)
        cuda.fail("cuMemAlloc", "CUDA_ERROR_ECC_UNCORRECTABLE")
        with pytest.raises(Internal, match="start the process again"):
            manager.allocate()
        assert manager._sites.of(0).lost
