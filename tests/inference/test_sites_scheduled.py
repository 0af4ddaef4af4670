"""Which site a batch goes to, on which threads, from which memory; and what waits for what."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from gpu_sites import Gpus, check_sites_idle, on_gpu, placed
from managing import doubling, eventually, ones
from modelling import SOON

from yais.core.timer import Timer
from yais.inference.manager import InferenceManager
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.testing import FakeDeviceEngine


@pytest.fixture
def gpus() -> Iterator[Gpus]:
    gpus = Gpus()
    yield gpus
    gpus.close()


@pytest.fixture
def manager(gpus: Gpus) -> Iterator[InferenceManager]:
    """Two tokens and two lanes on each of two GPUs; all free at the end."""
    manager = InferenceManager(2, 2, gpus=gpus)
    yield manager
    check_sites_idle(manager)
    assert manager.close(SOON)


def watched(engine: FakeDeviceEngine) -> list[tuple[str, str, bool]]:
    """Return a list that fills with where batches begin: lane, thread, and whether inputs are in the lane."""
    begun: list[tuple[str, str, bool]] = []
    begin = engine.begin

    def noted(inputs: Any, lane: Any) -> Any:
        staging = np.frombuffer(lane.staging._buffer.view, np.uint8)
        staged = all(np.may_share_memory(array, staging) for array in inputs)
        begun.append((lane.placement.name, threading.current_thread().name, staged))
        return begin(inputs, lane)

    engine.begin = noted  # type: ignore[method-assign]
    return begun


def started(manager: InferenceManager, *engines: Any, instances: int = 1, **options: Any) -> Any:
    manager.register("M", placed(*engines, instances=instances), **options)
    manager.allocate()
    return manager.infer_runner("M")


def test_the_idlest_gpu_is_first(manager: InferenceManager) -> None:
    first, second = on_gpu(0), on_gpu(1)
    runner = started(manager, first, second, instances=2)
    kernels = [engine.phases["kernel"] for engine in (first, second)]
    for kernel in kernels:
        kernel.gate.clear()
    futures = []
    for _ in range(2):  # each time one on either
        futures += [runner.infer(x=ones()) for _ in range(2)]
        for kernel in kernels:
            assert kernel.entered.acquire(timeout=SOON)
    for kernel in kernels:
        kernel.gate.set()
    assert all(future.get(SOON) for future in futures)


def test_of_two_that_are_idle_it_is_the_gpu(manager: InferenceManager) -> None:
    host, device = doubling(), on_gpu(0)
    runner = started(manager, host, device)
    assert all(runner.infer(x=ones()).get(SOON) for _ in range(3))
    assert len(device.batches) == 3 and not host.batches


def test_a_thread_that_waits_runs_no_batch_of_a_device(manager: InferenceManager) -> None:
    """It would sleep until the device is done; a short model on the host runs there."""
    host, device = doubling(), on_gpu(0)
    begun = watched(device)
    runner = started(manager, host, device)
    pace = manager.find("M")._runner.pace  # type: ignore[attr-defined]
    for size in range(4):
        pace.observe(1 << size, 1000, here=True)
    with manager._sites.of(0).lanes.pool.acquire(SOON), manager._sites.of(0).lanes.pool.acquire(SOON):
        assert runner.infer(x=ones()).get(SOON) and len(host.batches) == 1
    for value in range(5):
        assert (runner.infer(x=ones(value=value)).get(SOON)["y"] == 2 * value).all()
    assert len(begun) >= 5
    for place, thread, staged in begun:
        assert place == "gpu0" and thread.startswith("infer-gpu0-execute") and staged


@pytest.mark.parametrize("order", ["the host first", "the GPU first"])
def test_a_device_copies_from_the_memory_of_its_lane(manager: InferenceManager, order: str) -> None:
    device = on_gpu(1)
    begun = watched(device)
    engines = [doubling(), device] if order == "the host first" else [device, doubling()]
    runner = started(manager, *engines)
    manager.register("host", doubling())
    manager.allocate()
    assert runner.infer(x=ones()).get(SOON)
    with manager.infer_runner("host").bindings() as elsewhere:  # in memory of the host's
        elsewhere["x"][...] = 3
        manager.register("only", one := on_gpu(1))
        alone = watched(one)
        assert (manager.infer_runner("only").infer(elsewhere).get(SOON)["y"] == 6).all()
    assert begun and alone and all(staged for *_, staged in (*begun, *alone))


def test_every_instance_is_warmed_up_where_it_is(manager: InferenceManager) -> None:
    engines = [on_gpu(0), on_gpu(1)]
    begun = [watched(engine) for engine in engines]
    started(manager, *engines)
    manager.find("M").warm_up()  # type: ignore[attr-defined]
    assert [{place for place, *_ in each} for each in begun] == [{"gpu0"}, {"gpu1"}]


def test_a_lane_that_comes_too_late_is_not_used_elsewhere(manager: InferenceManager) -> None:
    """It was waited for by an instance that something else keeps busy by now."""
    first, second = on_gpu(0), on_gpu(1)
    runner = started(manager, first, second)
    pools = [manager._sites.of(gpu).lanes.pool for gpu in range(2)]
    bindings = [runner.bindings() for _ in range(4)]  # all lanes there are
    mine, other = (each for each in bindings if each.lane.placement.name == "gpu0")
    waiting = runner.infer(x=ones(value=5))
    kernel = first.phases["kernel"]
    kernel.gate.clear()
    busy = runner.infer(mine)
    assert kernel.entered.acquire(timeout=SOON)
    other.release()
    eventually(lambda: pools[0].statistics().available == 1)
    assert not waiting.done() and not second.batches
    kernel.gate.set()
    assert busy.get(SOON) and (waiting.get(SOON)["y"] == 10).all() and not second.batches
    for each in bindings:
        each.release()


class CountingTimer(Timer):
    """Counts the callbacks that it is given."""

    calls = 0

    def call_at(self, when_ns: int, callback: Any) -> Any:
        self.calls += 1
        return super().call_at(when_ns, callback)


def test_who_waits_for_lanes_needs_no_timer(manager: InferenceManager) -> None:
    runner = started(manager, on_gpu(0), on_gpu(1), batching=BatchingPolicy(8, max_delay=1_000_000))
    scheduler = manager.find("M")._scheduler  # type: ignore[attr-defined]
    timer = scheduler._timer = CountingTimer("counting")
    pools = [manager._sites.of(gpu).lanes.pool for gpu in range(2)]
    leases = [pool.acquire(SOON) for pool in pools for _ in range(2)]
    future = runner.infer(x=ones())
    eventually(lambda: all(pool.statistics().waiting == 1 for pool in pools))
    assert not threading.Event().wait(0.01)  # its delay is over
    calls = timer.calls
    assert not threading.Event().wait(0.02) and timer.calls <= calls + 1, "the timer spins"
    for lease in leases:
        lease.release()
    assert future.get(SOON)
    assert manager.unregister("M", SOON) and timer.close(SOON)
