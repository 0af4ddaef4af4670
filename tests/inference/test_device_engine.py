"""Models on a device: what is given back when, what overlaps, what fails alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from managing import X, Y, check_idle, eventually, free_lanes, free_tokens, ones
from many_threads import in_threads
from modelling import SOON, check_invariants

from yais.core.tensor import DataType, TensorSpec
from yais.errors import DeadlineExceeded, FailedPrecondition, Internal, InvalidArgument
from yais.inference.infer_runner import InferRunner
from yais.inference.manager import InferenceManager
from yais.inference.responder import Responder
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.lane import Placement
from yais.memory.host import HostMemoryResource
from yais.memory.limited import LimitedResource
from yais.testing import FakeDevice, FakeDeviceEngine, ManualClock, SimulatedGpu
from yais.testing.device_engine import Seconds

SCRATCH = 4096


def doubling(**sizes: int) -> FakeDeviceEngine:
    return FakeDeviceEngine([X], [Y], lambda x: [2 * x], **{"scratch_size": SCRATCH, **sizes})


@pytest.fixture
def device() -> Iterator[FakeDevice]:
    with FakeDevice() as device:
        yield device
        assert device.close(SOON)


@pytest.fixture
def manager(device: FakeDevice) -> Iterator[InferenceManager]:
    """One token, two lanes; nothing is in use at the end."""
    manager = InferenceManager(1, 2, device=device, scratch=HostMemoryResource())
    yield manager
    check_idle(manager)
    assert manager.close(SOON)


def started(manager: InferenceManager, engine: FakeDeviceEngine, **options: Any) -> InferRunner:
    manager.register("M", engine, **options)
    manager.allocate()
    return manager.infer_runner("M")


def test_answers_are_right_and_stay_so(manager: InferenceManager) -> None:
    runner = started(manager, doubling(), concurrency=1)
    first = runner.infer(x=ones(3))
    answer = first.get(SOON)["y"]
    for value in range(20):
        assert (runner.infer(x=ones(3, value)).get(SOON)["y"] == 2 * value).all()
    assert (answer == 2).all()  # it is not the memory of a lane, which others have had since
    check_invariants(manager.find("M").counts())


def test_a_model_without_a_batch(manager: InferenceManager) -> None:
    """Its inputs keep their shapes on the way through the lane's memory."""
    inputs = [TensorSpec("x", DataType.FP32, (2, 3)), TensorSpec("by", DataType.FP32, ())]
    outputs = [TensorSpec("y", DataType.FP32, (2, 3))]
    runner = started(manager, FakeDeviceEngine(inputs, outputs, lambda x, by: [x * by]))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert (runner.infer(x=x, by=np.float32(3)).get(SOON)["y"] == 3 * x).all()


def test_a_token_is_back_before_outputs_are_copied(manager: InferenceManager) -> None:
    engine = doubling()
    runner = started(manager, engine)
    copying, kernel = engine.phases["copy_out"], engine.phases["kernel"]
    copying.gate.clear()
    first = runner.infer(x=ones())
    assert kernel.entered.acquire(timeout=SOON) and copying.entered.acquire(timeout=SOON)
    second = runner.infer(x=ones(value=3))
    assert kernel.entered.acquire(timeout=SOON)  # with the only token there is
    assert copying.entered.acquire(timeout=SOON) and not first.done() and not second.done()
    eventually(lambda: free_tokens(manager) == 1)
    assert free_lanes(manager) == 0
    copying.gate.set()
    assert (first.get(SOON)["y"] == 2).all() and (second.get(SOON)["y"] == 6).all()


def test_a_lane_is_kept_until_the_answer_is_read(manager: InferenceManager) -> None:
    engine = doubling()
    runner = started(manager, engine)
    reading = engine.phases["outputs"]
    reading.gate.clear()
    futures = [runner.infer(x=ones(value=value)) for value in range(2)]
    for _ in futures:
        assert reading.entered.acquire(timeout=SOON)
    third = runner.infer(x=ones(value=2))
    assert free_lanes(manager) == 0
    with pytest.raises(DeadlineExceeded):
        manager._lanes.pool.acquire(0.0)
    reading.gate.set()
    for value, future in enumerate([*futures, third]):
        assert (future.get(SOON)["y"] == 2 * value).all()


def test_a_lane_is_back_before_anybody_has_the_answer(manager: InferenceManager) -> None:
    engine = doubling()
    runner = started(manager, engine)
    reading = engine.phases["outputs"]
    reading.gate.clear()
    future = runner.infer(x=ones())
    lanes: list[int] = []
    future.add_done_callback(lambda _: lanes.append(free_lanes(manager)))
    assert reading.entered.acquire(timeout=SOON) and free_lanes(manager) == 1
    reading.gate.set()
    assert (future.get(SOON)["y"] == 2).all()
    eventually(lambda: lanes)
    assert lanes == [2]


def test_an_answer_that_cannot_be_made_is_an_error(
    manager: InferenceManager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The lane is back by then."""
    caplog.set_level(logging.CRITICAL, "yais.inference")
    runner = started(manager, doubling())
    with monkeypatch.context() as broken:
        broken.setattr(Responder, "responses", lambda *_: {}["broken"])
        with pytest.raises(Internal, match="model 'M' failed: 'broken'"):
            runner.infer(x=ones()).get(SOON)
    assert (runner.infer(x=ones()).get(SOON)["y"] == 2).all()


def test_inputs_are_copied_while_another_request_is_computed(manager: InferenceManager) -> None:
    engine = doubling()
    runner = started(manager, engine, concurrency=1)
    manager.register("other", other := doubling())
    kernel = engine.phases["kernel"]
    kernel.gate.clear()
    first = runner.infer(x=ones())
    assert kernel.entered.acquire(timeout=SOON)
    second = manager.infer_runner("other").infer(x=ones(value=5))
    assert other.phases["copy_in"].entered.acquire(timeout=SOON)
    assert not other.phases["launch"].entered.acquire(blocking=False)  # there is one token
    kernel.gate.set()
    assert (first.get(SOON)["y"] == 2).all() and (second.get(SOON)["y"] == 10).all()
    assert manager.find("other").counts().token_seconds.sum > 0


def test_the_wait_for_a_stream_is_counted(manager: InferenceManager) -> None:
    engine = doubling()
    runner = started(manager, engine)
    copying = engine.phases["copy_out"]
    copying.gate.clear()
    future = runner.infer(x=ones())
    assert copying.entered.acquire(timeout=SOON)
    kept = engine.phases["wait"].entered.acquire(timeout=SOON)
    with pytest.raises(TimeoutError):
        future.get(1.0)
    copying.gate.set()
    assert kept and future.get(SOON)
    counts = manager.find("M").counts()
    assert counts.stream_seconds.sum > 0.5 > counts.compute_seconds.sum


@pytest.mark.parametrize("phase", ["begin", "copy_in", "launch", "kernel", "wait", "copy_out", "outputs"])
@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3), InvalidArgument("not this")], ids=repr)
def test_an_error_fails_its_request_alone(
    manager: InferenceManager, phase: Any, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "yais.inference")
    engine = doubling()
    runner = started(manager, engine)
    engine.phases[phase].error = error
    expected = InvalidArgument if isinstance(error, InvalidArgument) else Internal
    with pytest.raises(expected, match=str(error)):
        runner.infer(x=ones()).get(SOON)
    engine.phases[phase].error = None
    assert (runner.infer(x=ones(value=2)).get(SOON)["y"] == 4).all()
    counts = manager.find("M").counts()
    assert counts.fail.count == counts.success.count == 1
    check_invariants(counts)


@pytest.mark.parametrize("phase", ["begin", "copy_in", "launch", "kernel", "wait"])
def test_the_requests_of_a_batch_that_fails_run_again(
    manager: InferenceManager, phase: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "yais.inference")
    engine = doubling()
    batching = BatchingPolicy(4, max_delay=10_000_000_000)  # a batch of four, or none
    runner = started(manager, engine, max_batch_size=4, batching=batching)
    failing = engine.phases[phase]
    entered: list[int] = []

    class Once(Exception):
        pass

    enter = failing.enter

    def fail_once() -> None:
        entered.append(1)
        if len(entered) == 1:
            raise Once
        enter()

    failing.enter = fail_once  # type: ignore[method-assign]
    futures = [runner.infer(x=ones(value=value)) for value in range(4)]
    for value, future in enumerate(futures):
        assert (future.get(SOON)["y"] == 2 * value).all()
    assert len(entered) == 5
    check_invariants(manager.find("M").counts())


def test_a_batch_split_has_room_for_all_its_requests(manager: InferenceManager) -> None:
    """Each of them takes of the staging memory, which the batch had filled."""
    wide = TensorSpec("x", DataType.FP32, (-1, 2048))
    engine = FakeDeviceEngine([wide], [TensorSpec("y", DataType.FP32, (-1, 2048))], lambda x: [x + 1])
    engine.device_size = 4 * 2048 * 4
    runner = started(manager, engine, max_batch_size=4, batching=BatchingPolicy(4, max_delay=10_000_000_000))
    failing = engine.phases["wait"]
    enter, entered = failing.enter, []

    def fail_once() -> None:
        entered.append(1)
        if len(entered) == 1:
            raise ValueError("once")
        enter()

    failing.enter = fail_once  # type: ignore[method-assign]
    futures = [runner.infer(x=np.full((1, 2048), value, np.float32)) for value in range(4)]
    assert [future.get(SOON)["y"][0, 0] for future in futures] == [1, 2, 3, 4]


def test_bindings_are_used_again_and_again(manager: InferenceManager) -> None:
    runner = started(manager, doubling(), max_batch_size=8)
    with runner.bindings(8) as bindings:
        for value in range(3 * manager._lanes.pool.statistics().size * (32768 // 128)):
            bindings["x"][...] = value
            assert (runner.infer(bindings).get(SOON)["y"][7] == 2 * value).all()
            if value > 300:  # the outputs of so many would not fit into the lane together
                break


def test_no_two_executions_share_activation_memory(device: FakeDevice) -> None:
    with InferenceManager(2, 6, device=device, scratch=HostMemoryResource()) as manager:
        engines = {name: doubling() for name in ("a", "b", "c")}
        for name, engine in engines.items():
            manager.register(name, engine, concurrency=2)
        manager.allocate()
        runners = [manager.infer_runner(name) for name in engines]

        def work(index: int) -> None:
            for number in range(60):
                value = 1000 * index + number
                answer = runners[number % 3].infer(x=ones(value=value)).get(SOON)
                assert (answer["y"] == 2 * value).all()

        in_threads(6, work)


def test_an_engine_is_closed_after_the_last_outputs_are_read(manager: InferenceManager) -> None:
    engine = doubling()
    runner = started(manager, engine)
    reading = engine.phases["outputs"]
    reading.gate.clear()
    future = runner.infer(x=ones())
    assert reading.entered.acquire(timeout=SOON)  # the instance is free
    assert not manager.unregister("M", 0.05)
    assert not engine.closed and not future.done()
    reading.gate.set()
    assert (future.get(SOON)["y"] == 2).all()


def test_it_takes_as_long_as_it_is_told_to() -> None:
    clock = ManualClock()
    seconds: Seconds = {"copy_in": 0.001, "compute": lambda batch: 0.01 * batch, "copy_out": 0.002}
    engine = FakeDeviceEngine([X], [Y], lambda x: [2 * x], seconds=seconds)
    with (
        SimulatedGpu(clock=clock) as gpu,
        FakeDevice(gpu=gpu) as device,
        InferenceManager(1, device=device) as manager,
    ):
        runner = started(manager, engine, max_batch_size=4)
        future = runner.infer(x=ones(3))
        for moment, kind in ((1_000_000, "copy_in"), (31_000_000, "compute"), (33_000_000, "copy_out")):
            eventually(lambda moment=moment: gpu.next_end() == moment)  # type: ignore[misc]
            clock.advance_to(moment)
            eventually(lambda kind=kind: gpu.timeline and gpu.timeline[-1].kind == kind)  # type: ignore[misc]
        assert (future.get(SOON)["y"] == 2).all()


def test_staging_memory_of_the_device_is_the_hosts(device: FakeDevice) -> None:
    with device.staging(Placement("here")).allocate(64) as buffer:
        buffer.array(np.uint8, 64)[...] = 7


# --- What is planned and reserved ---------------------------------------------------------------------


def test_memory_on_the_device_is_planned_and_reserved(device: FakeDevice) -> None:
    with InferenceManager(2, 3, device=device, scratch=HostMemoryResource()) as manager:
        manager.register("small", doubling(scratch_size=100, device_size=2000))
        manager.register("large", doubling(scratch_size=300, device_size=1000), max_batch_size=0)
        plan = manager.plan()
        assert (plan.scratch, plan.device) == (300, 2000)
        assert plan.device_total == 3 * 2000 + 2 * 300
        assert manager._tokens.scratch_size == 0
        assert manager.allocate() == plan and manager._tokens.scratch_size == 300
        leases = [manager._lanes.pool.acquire(SOON) for _ in range(3)]
        assert [lease.item.device is not None and lease.item.device.size for lease in leases] == [2000] * 3
        for lease in leases:
            lease.release()


def test_staging_memory_has_room_for_outputs(device: FakeDevice) -> None:
    x, y = TensorSpec("x", DataType.FP32, (-1, 16)), TensorSpec("y", DataType.FP32, (-1, 16384))
    engine = FakeDeviceEngine([x], [y], lambda x: [np.tile(x, (1, 1024))])
    with InferenceManager(1, device=device) as manager:
        manager.register("M", engine, max_batch_size=8)
        assert manager.allocate().models[0].staging == 8 * 16 * 4 + 8 * 16384 * 4
        answer = manager.infer_runner("M").infer(x=np.ones((8, 16), np.float32)).get(SOON)
        assert answer["y"].shape == (8, 16384)


@pytest.mark.parametrize("larger", ["scratch_size", "device_size"])
def test_a_model_that_does_not_fit_waits_for_update_resources(
    manager: InferenceManager, larger: str, caplog: pytest.LogCaptureFixture
) -> None:
    runner = started(manager, doubling())
    manager.register("large", doubling(**{larger: 1 << 16}))
    assert "large" not in manager.get_models() and "update_resources" in caplog.text
    with pytest.raises(FailedPrecondition, match=str(1 << 16)):
        manager.infer_runner("large")
    assert (runner.infer(x=ones()).get(SOON)["y"] == 2).all()
    manager.update_resources()
    answer = manager.infer_runner("large").infer(x=ones()).get(SOON)
    assert (answer["y"] == 2).all() and manager.get_models() == ["M", "large"]


def test_what_is_reserved_never_shrinks(manager: InferenceManager) -> None:
    started(manager, doubling(device_size=1 << 16))
    assert manager.unregister("M", SOON)
    manager.register("small", doubling())
    manager.update_resources()
    manager.register("again", doubling(device_size=1 << 16))
    assert manager.get_models() == ["again", "small"]


def test_too_little_memory_on_the_device_is_said(device: FakeDevice) -> None:
    device = FakeDevice(LimitedResource(HostMemoryResource(), 6000))
    with device, InferenceManager(1, 2, device=device, scratch=HostMemoryResource()) as manager:
        manager.register("M", doubling(device_size=4096))
        with pytest.raises(MemoryError, match="6000"):
            manager.allocate()
        assert manager.get_models() == [] and free_lanes(manager) == 2
        assert manager.unregister("M", SOON)
        manager.register("M", doubling(device_size=1000))
        manager.allocate()
        assert (manager.infer_runner("M").infer(x=ones()).get(SOON)["y"] == 2).all()


def test_activation_memory_needs_a_resource(device: FakeDevice) -> None:
    with InferenceManager(1, device=device) as manager:
        manager.register("M", doubling())
        with pytest.raises(ValueError, match="no memory resource"):
            manager.allocate()
        assert manager.get_models() == []


def test_copies_to_a_device_go_from_the_memory_of_a_lane(manager: InferenceManager) -> None:
    engine = doubling()
    begun: list[tuple[bool, ...]] = []
    begin = engine.begin

    def watched(inputs: Any, lane: Any) -> Any:
        staging = np.frombuffer(lane.staging._buffer.view, np.uint8)
        begun.append(tuple(np.may_share_memory(array, staging) for array in inputs))
        return begin(inputs, lane)

    engine.begin = watched  # type: ignore[method-assign]
    manager.register("M", engine)
    manager.allocate()
    runner = manager.infer_runner("M")
    assert (runner.infer(x=np.ones((1, 4), np.float32)).get(SOON)["y"] == 2).all()
    with runner.bindings() as bindings:
        bindings["x"][...] = 3
        assert (runner.infer(bindings).get(SOON)["y"] == 6).all()
    assert begun == [(True,), (True,)]
