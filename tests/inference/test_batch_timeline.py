"""What batches did, as a timeline."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from managing import X, Y, doubling, ones
from modelling import SOON

from yais.inference.batch_timeline import BatchTimeline, stages
from yais.inference.infer_runner import InferRunner
from yais.inference.manager import InferenceManager
from yais.inference.request_trace import BatchMoments
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.memory.host import HostMemoryResource
from yais.telemetry.timeline import Timeline
from yais.testing import FakeDevice, FakeDeviceEngine, SimulatedGpu

WAITED = BatchMoments(3, taken=100, start=107, input_end=120, output_start=150, end=170, copied=160)


def test_the_stages_of_a_batch_follow_each_other() -> None:
    assert list(stages(WAITED)) == [
        ("gather", 100, 113),
        ("wait for token", 113, 120),
        ("execute", 120, 150),
        ("wait for device", 150, 160),
        ("hand out", 160, 170),
    ]


def test_what_takes_no_time_is_left_out() -> None:
    batch = BatchMoments(1, taken=100, start=100, input_end=110, output_start=150, end=155)
    assert list(stages(batch)) == [("gather", 100, 110), ("execute", 110, 150), ("hand out", 150, 155)]


def shifted(batch: BatchMoments, by: int) -> BatchMoments:
    return BatchMoments(batch.size, *[moment + by for moment in batch[1:]])


def test_lanes_and_tokens_are_as_few_as_were_needed() -> None:
    batches = BatchTimeline()
    for by in (0, 30, 60, 90):  # a batch has its lane for 70, and its token for 30
        batches.batch(shifted(WAITED, by))
    timeline = Timeline()
    batches.record(timeline)
    assert len(batches) == 4
    tokens = [span for span in timeline.spans if span.track.group == "tokens"]
    assert [(span.track.name, span.start, span.end) for span in tokens] == [
        ("token 0", 120 + by, 150 + by) for by in (0, 30, 60, 90)
    ]
    assert [span.arguments for span in tokens] == [{"batch": number, "size": 3} for number in range(4)]
    gathers = [span.track.name for span in timeline.spans if span.name == "gather"]
    assert gathers == ["lane 0", "lane 1", "lane 2", "lane 0"]


def test_only_so_many_are_kept() -> None:
    batches = BatchTimeline(2)
    for by in range(5):
        batches.batch(shifted(WAITED, by))
    assert (len(batches), batches.left_out) == (2, 3)


def test_the_window_is_of_the_middle() -> None:
    batches = BatchTimeline()
    for by in range(0, 1000, 100):
        batches.batch(shifted(WAITED, by))
    assert batches.window(2) == (WAITED.taken + 400, WAITED.end + 500)
    assert batches.window(50) == (WAITED.taken, WAITED.end + 900)
    with pytest.raises(ValueError, match="no batches"):
        BatchTimeline().window(1)


@pytest.fixture
def manager() -> Iterator[InferenceManager]:
    with InferenceManager(1, 4) as manager:
        yield manager


def traced(manager: InferenceManager) -> tuple[InferRunner, BatchTimeline]:
    manager.allocate()
    runner = manager.infer_runner("M")
    runner.trace = BatchTimeline()
    return runner, runner.trace


def test_a_batch_of_many_requests_is_told_once(manager: InferenceManager) -> None:
    manager.register("M", doubling(), max_batch_size=4, batching=BatchingPolicy(4, max_delay=10_000_000_000))
    runner, batches = traced(manager)
    for future in [runner.infer(x=ones()) for _ in range(8)]:
        future.get(SOON)
    timeline = Timeline()
    batches.record(timeline)
    sizes = [span.arguments["size"] for span in timeline.spans if span.track.group == "tokens"]
    assert sizes == [4, 4]


def test_one_that_fails_is_left_out(manager: InferenceManager) -> None:
    engine = doubling()
    manager.register("M", engine)
    runner, batches = traced(manager)
    engine.error = ValueError("bad")
    assert runner.infer(x=ones()).exception(SOON) is not None
    engine.error = None
    runner.infer(x=ones()).get(SOON)
    runner.trace = None
    runner.infer(x=ones()).get(SOON)
    assert len(batches) == 1


def test_it_fits_what_the_device_says() -> None:
    with (
        SimulatedGpu(engines={"compute": 1}) as gpu,
        FakeDevice(gpu=gpu) as device,
        InferenceManager(2, 4, device=device, scratch=HostMemoryResource(), post_threads=4) as manager,
    ):
        seconds = {"copy_in": 0.001, "compute": 0.003, "copy_out": 0.001}
        manager.register("M", FakeDeviceEngine([X], [Y], lambda x: [2 * x], seconds=seconds))
        runner, batches = traced(manager)
        for future in [runner.infer(x=ones()) for _ in range(6)]:
            future.get(SOON)
        timeline = Timeline()
        batches.record(timeline)
        gpu.record(timeline)
    spans = timeline.spans
    executed = [span for span in spans if span.track.group == "tokens"]
    computed = [span for span in spans if span.name == "compute"]
    copied = [span for span in spans if span.name == "wait for device"]
    assert len(executed) == len(computed) == len(copied) == 6
    assert {span.track.name for span in executed} <= {"token 0", "token 1"}
    # Each by itself: threads that are late note the ends in another order.
    begun, over, copying = (
        sorted(moments)
        for moments in (
            [span.start for span in executed],
            [span.end for span in executed],
            [span.start for span in copied],
        )
    )
    for number, end in enumerate(sorted(span.end for span in computed)):
        assert begun[number] < end <= over[number]
        assert copying[number] >= end
