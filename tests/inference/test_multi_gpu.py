"""Models on several GPUs: a batch takes lane, instance and token of one, and none waits for another."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from gpu_sites import SCRATCH, Gpus, check_sites_idle, on_gpu, placed
from managing import X, Y, doubling, eventually, ones
from many_threads import in_threads
from modelling import SOON, check_invariants

from yais.errors import DeadlineExceeded, FailedPrecondition, Internal, InvalidArgument
from yais.inference import gpu_engines
from yais.inference.infer_runner import InferRunner
from yais.inference.manager import InferenceManager
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.memory.limited import LimitedResource
from yais.testing import FakeDeviceEngine


@pytest.fixture
def gpus() -> Iterator[Gpus]:
    gpus = Gpus({1: lambda upstream: LimitedResource(upstream, 1 << 20)})
    yield gpus
    gpus.close()


@pytest.fixture
def manager(gpus: Gpus) -> Iterator[InferenceManager]:
    """One token and two lanes on each of the two GPUs, of which the second has 1 MiB; all free at the end."""
    manager = InferenceManager(1, 2, gpus=gpus)
    yield manager
    check_sites_idle(manager)
    assert manager.close(SOON)


def started(manager: InferenceManager, engine: Any, **options: Any) -> InferRunner:
    manager.register("M", engine, **options)
    manager.allocate()
    return manager.infer_runner("M")


def held(engine: FakeDeviceEngine) -> Any:
    """Stop an engine's kernels."""
    kernel = engine.phases["kernel"]
    kernel.gate.clear()
    return kernel


def two(manager: InferenceManager, **options: Any) -> tuple[FakeDeviceEngine, FakeDeviceEngine, InferRunner]:
    first, second = on_gpu(0), on_gpu(1)
    return first, second, started(manager, placed(first, second), **options)


def test_instances_on_both_gpus_overlap(manager: InferenceManager) -> None:
    first, second, runner = two(manager)
    kernels = [held(first), held(second)]
    futures = [runner.infer(x=ones(value=value)) for value in (1, 2)]
    for kernel in kernels:
        assert kernel.entered.acquire(timeout=SOON)  # both at once, each with the only token of its GPU
    assert not any(future.done() for future in futures)
    for kernel in kernels:
        kernel.gate.set()
    assert [future.get(SOON)["y"][0, 0] for future in futures] == [2, 4]


def test_a_gpu_that_is_full_does_not_hold_up_the_other(manager: InferenceManager) -> None:
    first, second, runner = two(manager)
    kernel = held(first)
    stuck = [runner.infer(x=ones(value=value)) for value in range(2)]
    assert kernel.entered.acquire(timeout=SOON)
    for value in range(20):
        assert (runner.infer(x=ones(value=value)).get(SOON)["y"] == 2 * value).all()
    eventually(lambda: len(second.batches) == 20 + sum(future.done() for future in stuck))
    assert len(first.batches) == 0
    kernel.gate.set()
    assert [future.get(SOON)["y"][0, 0] for future in stuck] == [0, 2]


@pytest.mark.parametrize("lent", [0, 1])
def test_lanes_that_are_gone_on_one_gpu_leave_the_other(manager: InferenceManager, lent: int) -> None:
    first, second, runner = two(manager)
    site = manager._sites.of(lent)
    leases = [site.lanes.pool.acquire(SOON) for _ in range(2)]
    for value in range(5):
        assert (runner.infer(x=ones(value=value)).get(SOON)["y"] == 2 * value).all()
    assert [len(engine.batches) for engine in (first, second)] == ([0, 5] if lent == 0 else [5, 0])
    # All are gone: then the first that comes back is used, whichever that is.
    others = [manager._sites.of(1 - lent).lanes.pool.acquire(SOON) for _ in range(2)]
    late = [runner.infer(x=ones(value=value)) for value in range(3)]
    leases.pop().release()
    assert [future.get(SOON)["y"][0, 0] for future in late] == [0, 2, 4]
    for lease in (*leases, *others):
        lease.release()
    counts = manager.find("M").counts()
    assert counts.buffers_seconds.sum > 0
    check_invariants(counts)


def test_tokens_are_those_of_the_gpu(manager: InferenceManager) -> None:
    first, second, runner = two(manager)
    with manager._sites.of(0).tokens.pool.acquire(SOON):
        waiting = runner.infer(x=ones())  # of two that are idle the first takes it
        assert first.phases["copy_in"].entered.acquire(timeout=SOON)
        for value in range(5):
            assert (runner.infer(x=ones(value=value)).get(SOON)["y"] == 2 * value).all()
        assert not waiting.done() and len(second.batches) == 5
    assert waiting.get(SOON)


def test_memory_is_of_the_gpu_and_as_large_as_its_models_need(manager: InferenceManager, gpus: Gpus) -> None:
    seen: dict[int, set[int]] = {0: set(), 1: set()}
    engines = []
    for gpu, size in ((0, 1000), (1, 3000)):
        engine = on_gpu(gpu, scratch_size=size, device_size=2 * size)
        begin = engine.begin

        def watched(inputs: Any, lane: Any, gpu: int = gpu, begin: Any = begin) -> Any:
            execution = begin(inputs, lane)
            launch = execution.launch

            def launched(scratch: Any) -> None:
                seen[gpu].update((scratch.size, lane.device.size))
                assert lane.placement.name == f"gpu{gpu}" and lane.stream.gpu is gpus.devices[gpu].gpu
                launch(scratch)

            execution.launch = launched
            return execution

        engine.begin = watched  # type: ignore[method-assign]
        engines.append(engine)
    runner = started(manager, placed(*engines))
    in_threads(4, lambda index: [runner.infer(x=ones(value=index)).get(SOON) for _ in range(10)])
    assert seen == {0: {1000, 2000}, 1: {3000, 6000}}
    assert gpus.held(0) == 2 * 2000 + 1000 and gpus.held(1) == 2 * 6000 + 3000


def test_cpus_and_a_gpu_serve_one_model(manager: InferenceManager) -> None:
    host, device = doubling(), on_gpu(0)
    runner = started(manager, placed(host, device))
    assert runner.infer(x=ones()).get(SOON) and len(device.batches) == 1  # of two that are idle, it is a GPU
    kernel = held(device)
    futures = [runner.infer(x=ones(value=value)) for value in range(4)]
    assert kernel.entered.acquire(timeout=SOON)
    eventually(lambda: sum(future.wait(0.02) for future in futures) == 3)
    kernel.gate.set()
    assert [future.get(SOON)["y"][0, 0] for future in futures] == [0, 2, 4, 6]
    # The short one of the two runs on the thread that waits; the other never does.
    pace = manager.find("M")._runner.pace  # type: ignore[attr-defined]
    for _ in range(100):
        pace.observe(1, 1000, here=True)  # it may have been interrupted on a busy machine
    assert pace.short(1)
    in_threads(4, lambda index: [runner.infer(x=ones(value=index)).get(SOON) for _ in range(20)])


# --- Lanes that requests bring along ------------------------------------------------------------------


def test_bindings_run_where_their_lane_is(manager: InferenceManager) -> None:
    first, second, runner = two(manager)
    with runner.bindings(2) as one, runner.bindings(2) as other:
        assert {one.lane.placement.name, other.lane.placement.name} == {"gpu0", "gpu1"}
        for bindings in (one, other):
            engine = first if bindings.lane.placement.name == "gpu0" else second
            before = len(engine.batches)
            for value in range(4):
                bindings["x"][...] = value
                assert (runner.infer(bindings).get(SOON)["y"] == 2 * value).all()
            assert len(engine.batches) == before + 4


def test_there_are_as_many_bindings_as_lanes_on_all_gpus(manager: InferenceManager) -> None:
    _, _, runner = two(manager)
    taken = [runner.bindings() for _ in range(4)]
    with pytest.raises(DeadlineExceeded):
        runner.bindings(timeout=0.01)
    for bindings in taken:
        bindings.release()


def test_a_lane_of_a_gpu_that_is_busy_waits_for_it_and_keeps_nobody(manager: InferenceManager) -> None:
    first, second, runner = two(manager)
    with runner.bindings() as bindings:
        engine, other = (first, second) if bindings.lane.placement.name == "gpu0" else (second, first)
        kernel = held(engine)
        blocking = runner.infer(bindings)
        assert kernel.entered.acquire(timeout=SOON)
        again = runner.infer(bindings)  # has to wait for the instance on its GPU
        for value in range(5):
            assert (runner.infer(x=ones(value=value)).get(SOON)["y"] == 2 * value).all()
        assert len(other.batches) == 5 and not again.done() and not blocking.done()
        kernel.gate.set()
        assert again.get(SOON) and blocking.get(SOON)


def test_a_lane_of_elsewhere_is_not_used(manager: InferenceManager) -> None:
    """Its memory is near another GPU, and its stream is there."""
    engine = on_gpu(1)
    runner = started(manager, engine)
    manager.register("host", doubling())
    manager.allocate()
    with manager.infer_runner("host").bindings() as bindings:
        bindings["x"][...] = 21
        assert (runner.infer(bindings).get(SOON)["y"] == 42).all()
        assert (manager.infer_runner("host").infer(bindings).get(SOON)["y"] == 42).all()
    with runner.bindings() as bindings:
        bindings["x"][...] = 4
        assert (manager.infer_runner("host").infer(bindings).get(SOON)["y"] == 8).all()


# --- Failures -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["begin", "copy_in", "launch", "kernel", "wait", "copy_out", "outputs"])
def test_a_gpu_that_fails_leaves_the_other_serving(
    manager: InferenceManager, phase: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "yais.inference")
    first, second, runner = two(manager)
    first.phases[phase].error = ValueError("bad memory")
    outcomes: list[str] = []

    def ask(index: int) -> None:
        for _ in range(10):
            try:
                assert (runner.infer(x=ones(value=index)).get(SOON)["y"] == 2 * index).all()
                outcomes.append("right")
            except Internal:
                outcomes.append("failed")

    in_threads(4, ask)
    assert set(outcomes) == {"right", "failed"} and len(second.batches) == outcomes.count("right")
    first.phases[phase].error = None
    kernel = held(second)
    futures = [runner.infer(x=ones(value=value)) for value in range(6)]
    eventually(lambda: sum(future.done() for future in futures) >= 5)  # the first GPU is as good as new
    kernel.gate.set()
    assert [future.get(SOON)["y"][0, 0] for future in futures] == [0, 2, 4, 6, 8, 10]


def test_what_was_begun_and_is_not_wanted_leaves_no_copies_behind(manager: InferenceManager) -> None:
    """Its lane goes to others, who would find it being read, or read what is freed."""
    engine = on_gpu(0)
    runner = started(manager, engine)
    site = manager._sites.of(0)
    settled: list[bool] = []
    leases = [site.lanes.pool.acquire(SOON) for _ in range(2)]
    for lease in leases:
        stream = lease.item.stream
        stream.sync = lambda stream=stream: settled.append(stream.submit("host", lambda: True).result(SOON))
        lease.release()
    copying = engine.phases["copy_in"]
    copying.gate.clear()
    with site.tokens.pool.acquire(SOON):
        future = runner.infer(x=ones())
        assert copying.entered.acquire(timeout=SOON)
        assert future.cancel()
    assert site.lanes.pool.statistics().available < 2 and not settled
    copying.gate.set()
    eventually(lambda: site.lanes.pool.statistics().available == 2)
    assert settled == [True] and not engine.phases["launch"].entered.acquire(blocking=False)
    assert (runner.infer(x=ones(value=3)).get(SOON)["y"] == 6).all()


def test_a_stream_that_fails_fails_the_next_request_only(
    manager: InferenceManager, caplog: pytest.LogCaptureFixture
) -> None:
    engine = on_gpu(0)
    runner = started(manager, engine)
    with manager._sites.of(0).lanes.pool.acquire(SOON) as lane:

        def sync() -> None:
            raise Internal("the GPU fell off the bus")

        lane.stream.sync = sync
    engine.phases["launch"].error = ValueError("no")
    with pytest.raises(Internal, match="no"):
        runner.infer(x=ones()).get(SOON)
    assert "fell off the bus" in caplog.text
    caplog.clear()  # what is logged with its traceback keeps the lane's memory alive
    engine.phases["launch"].error = None
    assert runner.infer(x=ones()).get(SOON)


# --- What is planned, reserved and refused ---------------------------------------------------------------


def test_the_plan_says_what_each_gpu_gets(manager: InferenceManager, gpus: Gpus) -> None:
    manager.register("both", placed(on_gpu(0), on_gpu(1, scratch_size=100), instances=2), max_batch_size=8)
    manager.register("second", on_gpu(1, device_size=1 << 16), max_batch_size=4)
    manager.register("host", doubling(), max_batch_size=4)
    plan = manager.plan()
    assert not gpus.devices  # nothing is made for a plan
    assert str(plan).splitlines() == [
        "Creating 1 execution token",
        "Creating 2 lanes, each with 32.0 KiB of host staging memory",
        "  host: 1 at once, batches of up to 4, 64 B of tensors",
        "GPU 0: Creating 1 execution token, each with 4.0 KiB of activation memory",
        "GPU 0: Creating 2 lanes, each with 32.0 KiB of host staging memory and 4.0 KiB of device memory",
        "  both: 2 at once, batches of up to 8, 256 B of tensors, 4.0 KiB of activations",
        "GPU 1: Creating 1 execution token, each with 4.0 KiB of activation memory",
        "GPU 1: Creating 2 lanes, each with 32.0 KiB of host staging memory and 64.0 KiB of device memory",
        "  both: 2 at once, batches of up to 8, 256 B of tensors, 100 B of activations",
        "  second: 2 at once, batches of up to 4, 128 B of tensors, 4.0 KiB of activations",
        "Total host memory: 192.0 KiB",
        "Total device memory: 144.0 KiB",
    ]
    assert plan.device_total == 2 * 4096 + SCRATCH + 2 * 65536 + SCRATCH
    assert manager.allocate() == plan
    assert gpus.held(0) + gpus.held(1) == plan.device_total
    statistics = manager.statistics()
    assert statistics.gpus[1].lanes.size == 2 and statistics.gpus[0].tokens.available == 1


def test_a_model_on_a_gpu_waits_for_room_there(
    manager: InferenceManager, caplog: pytest.LogCaptureFixture
) -> None:
    runner = started(manager, on_gpu(0))
    manager.register("larger", on_gpu(0, device_size=1 << 16))
    manager.register("elsewhere", on_gpu(1))
    assert manager.get_models() == ["M"]
    with pytest.raises(
        FailedPrecondition, match=r"on GPU 0, and there are 32768, 4096 and 4096: call update_"
    ):
        manager.infer_runner("larger")
    with pytest.raises(FailedPrecondition, match=r"on GPU 1, and there is none: call update_resources"):
        manager.infer_runner("elsewhere")
    manager.update_resources()
    assert manager.get_models() == ["M", "elsewhere", "larger"]
    manager.register("small", on_gpu(1))  # fits
    for name in manager.get_models():
        assert (manager.infer_runner(name).infer(x=ones()).get(SOON)["y"] == 2).all()
    assert runner.infer(x=ones()).get(SOON)


def test_too_little_memory_on_one_gpu_is_said(manager: InferenceManager, gpus: Gpus) -> None:
    started(manager, on_gpu(1))
    manager.register("large", on_gpu(1, device_size=1 << 20))
    with pytest.raises(MemoryError, match=r"GPU 1 has too little memory for 1 execution tokens .* 1048576"):
        manager.allocate()
    assert manager.get_models() == ["M"] and gpus.held(1) == 2 * 4096 + SCRATCH
    assert manager.infer_runner("M").infer(x=ones()).get(SOON)
    assert manager.unregister("large", SOON)
    manager.register("M2", on_gpu(0))
    manager.allocate()
    assert manager.get_models() == ["M", "M2"]


def test_a_gpu_that_cannot_be_used_is_said() -> None:
    def missing(gpu: int) -> Any:
        raise FailedPrecondition(f"there is no GPU {gpu}")

    with InferenceManager(1, gpus=missing) as manager:
        manager.register("M", on_gpu(3))
        with pytest.raises(FailedPrecondition, match="there is no GPU 3"):
            manager.allocate()
        assert manager.unregister("M", SOON)
        manager.register("host", doubling())
        manager.allocate()
        assert manager.infer_runner("host").infer(x=ones()).get(SOON)


def test_a_file_is_loaded_for_each_gpu(
    manager: InferenceManager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loaded: list[tuple[Any, ...]] = []

    def load(model: Any, *_: Any, gpu: int, instances: int, max_batch: int | None) -> Any:
        loaded.append((model, gpu, instances, max_batch))
        return on_gpu(gpu)

    monkeypatch.setattr(gpu_engines, "load_engine", load)
    manager.register("M", "model.plan", gpus=(1, 0), max_batch_size=4)
    assert loaded == [("model.plan", 1, 2, 4), ("model.plan", 0, 2, 4)]  # as many instances as lanes
    plan = manager.allocate()
    assert {gpu: each.models[0].concurrency for gpu, each in plan.gpus.items()} == {0: 2, 1: 2}
    model = manager.find("M")
    assert {str(site) for site in model.sites} == {"GPU 0", "GPU 1"}  # type: ignore[attr-defined]
    batching = BatchingPolicy(16)
    manager.register("one", "model.plan", gpus=[1], batching=batching)
    assert loaded[2:] == [("model.plan", 1, 2, 16)] and manager.get_models() == ["M", "one"]
    for gpus in ((0,), (0, 1)):
        manager.register(f"two on {gpus}", "model.plan", gpus=gpus, concurrency=2, max_batch_size=4)
        assert "is cut" not in caplog.text
        manager.register(f"three on {gpus}", "model.plan", gpus=gpus, concurrency=3, max_batch_size=4)
        assert f"'three on {gpus}': concurrency 3 is cut to max_copy_concurrency 2" in caplog.text
        caplog.clear()


def test_engines_of_gpus_that_came_before_one_that_fails_are_closed(
    manager: InferenceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [on_gpu(0), on_gpu(1)]

    def load(*_: Any, gpu: int, **__: Any) -> Any:
        if gpu == 2:
            raise FailedPrecondition("no GPU 2")
        return made[gpu]

    monkeypatch.setattr(gpu_engines, "load_engine", load)
    with pytest.raises(FailedPrecondition, match="no GPU 2"):
        manager.register("M", "model.plan", gpus=(0, 1, 2))
    assert [engine.closed for engine in made] == [1, 1]


@pytest.mark.parametrize("gpus", [(0, 0), (-1,), ("0",), (0.5,), (True,)], ids=repr)
def test_gpus_are_different_numbers(manager: InferenceManager, gpus: Any) -> None:
    with pytest.raises(InvalidArgument, match="expected different numbers of GPUs"):
        manager.register("M", "model.plan", gpus=gpus)


def test_a_number_alone_is_not_taken_for_no_gpus(manager: InferenceManager) -> None:
    with pytest.raises(InvalidArgument, match=r"got gpus=0, expected numbers of GPUs, such as \(0,\)"):
        manager.register("M", "model.onnx", gpus=0)  # type: ignore[arg-type]


def test_what_says_itself_where_it_is_is_not_told(manager: InferenceManager) -> None:
    for model in (on_gpu(0), lambda arrays: arrays):
        with pytest.raises(InvalidArgument, match="expected them for a file only"):
            manager.register("M", model, gpus=(0,), inputs=[X], outputs=[Y])
    with pytest.raises(InvalidArgument, match="concurrency=2"):
        manager.register("M", placed(on_gpu(0), on_gpu(1)), concurrency=2)


def test_a_model_that_is_gone_leaves_its_memory_to_the_next(manager: InferenceManager, gpus: Gpus) -> None:
    started(manager, on_gpu(0, device_size=1 << 16))
    had = gpus.held(0)
    assert manager.unregister("M", SOON) and gpus.held(0) == had
    manager.register("N", on_gpu(0, device_size=1 << 16))  # ready at once
    assert manager.infer_runner("N").infer(x=ones()).get(SOON) and gpus.held(0) == had


# --- All of it ------------------------------------------------------------------------------------------


def test_three_models_on_two_gpus_and_the_cpus_under_stress(
    gpus: Gpus, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "yais.inference")
    rng = random.Random(7)

    def unlucky(x: Any) -> list[Any]:
        if rng.random() < 0.03:
            raise ValueError("bad luck")
        return [2 * x]

    def engine(gpu: int) -> FakeDeviceEngine:
        made = FakeDeviceEngine([X], [Y], unlucky, scratch_size=SCRATCH, device_size=4096)
        made.gpu = gpu
        return made

    with InferenceManager(2, 3, gpus=gpus) as manager:
        batching = BatchingPolicy(4, max_delay=200_000)
        manager.register("both", placed(engine(0), engine(1), instances=2), batching=batching)
        manager.register("mixed", placed(engine(1), doubling(), instances=2))
        manager.register("host", doubling(), batching=batching)
        manager.allocate()
        names = ["both", "mixed", "host"]
        failed: list[str] = []

        def work(index: int) -> None:
            chance = random.Random(index)
            for number in range(60):
                name = names[(index + number) % 3]
                runner = manager.infer_runner(name)
                value = 1000 * index + number
                try:
                    if chance.random() < 0.2:
                        with runner.bindings(timeout=SOON) as bindings:
                            bindings["x"][...] = value
                            answer = runner.infer(bindings).get(SOON)
                    else:
                        future = runner.infer(x=ones(1 + number % 3, value))
                        if chance.random() < 0.1:
                            future.cancel()
                            continue
                        answer = future.get(SOON)
                except Internal:  # bad luck
                    failed.append(name)
                    continue
                assert (answer["y"] == 2 * value).all()
                if number == 30 and not index:
                    manager.register("late", on_gpu(0, device_size=1 << 15))
                    manager.allocate(SOON)  # while the others go on

        in_threads(6, work)
        assert "host" not in failed
        for name in names:
            check_invariants(manager.find(name).counts())
        assert np.all(manager.infer_runner("late").infer(x=ones()).get(SOON)["y"] == 2)
        check_sites_idle(manager)
