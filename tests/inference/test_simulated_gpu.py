"""The simulated GPU does what its description says: streams in order, engines shared, time as it is told."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from managing import eventually
from modelling import SOON

from yais.telemetry.timeline import Timeline
from yais.testing import ManualClock, SimulatedGpu
from yais.testing.simulated_gpu import Kind


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000)


@pytest.fixture
def gpu(clock: ManualClock) -> Iterator[SimulatedGpu]:
    with SimulatedGpu(clock=clock, engines={"compute": 1, "copy_in": 2}) as gpu:
        yield gpu
        assert gpu.close(SOON)


def run(gpu: SimulatedGpu, clock: ManualClock) -> None:
    """Let time pass until nothing is left to do."""
    while gpu.pending:
        eventually(lambda: not gpu.due)
        end = gpu.next_end()
        if end is not None:
            clock.advance_to(end)


def moments(gpu: SimulatedGpu) -> list[tuple[str, int, int]]:
    return [(work.label, work.start - 1000, work.end - 1000) for work in gpu.timeline]


def test_a_stream_keeps_its_order(gpu: SimulatedGpu, clock: ManualClock) -> None:
    stream = gpu.stream("one")
    order: list[str] = []
    first = stream.submit("copy_in", lambda: order.append("a"), duration=10, label="a")
    second = stream.submit("compute", lambda: order.append("b") or "b", duration=5, label="b")
    assert gpu.pending == 2 and gpu.pending_by_kind() == {"copy_in": 1, "compute": 1}
    assert gpu.next_end() == 1010
    clock.advance_ns(9)
    assert not gpu.due and not first.done()
    clock.advance_ns(1)
    first.result(SOON)
    assert not second.done()
    run(gpu, clock)
    assert second.result(SOON) == "b" and order == ["a", "b"]
    assert moments(gpu) == [("a", 0, 10), ("b", 10, 15)]
    assert gpu.next_end() is None


def test_engines_are_shared_first_come_first_served(gpu: SimulatedGpu, clock: ManualClock) -> None:
    streams = [gpu.stream() for _ in range(3)]
    for number, stream in enumerate(streams):
        stream.submit("compute", lambda: None, duration=10, label=f"compute {number}")
        stream.submit("copy_in", lambda: None, duration=100, label=f"copy {number}")
    run(gpu, clock)
    assert sorted(moments(gpu)) == [
        ("compute 0", 0, 10),
        ("compute 1", 10, 20),
        ("compute 2", 20, 30),
        ("copy 0", 10, 110),
        ("copy 1", 20, 120),
        ("copy 2", 110, 210),  # there are two engines
    ]


def test_what_is_not_limited_runs_at_once(gpu: SimulatedGpu, clock: ManualClock) -> None:
    for _ in range(5):
        gpu.stream().submit("copy_out", lambda: None, duration=10)
    run(gpu, clock)
    assert clock() == 1010


def test_an_engine_is_busy_until_its_function_returns(gpu: SimulatedGpu, clock: ManualClock) -> None:
    gate = threading.Event()
    held = gpu.stream().submit("compute", lambda: gate.wait(SOON))
    waiting = gpu.stream().submit("compute", lambda: None)
    assert gpu.due == 1 and gpu.next_end() is None
    clock.advance_ns(50)
    gate.set()
    assert held.result(SOON)
    waiting.result(SOON)
    assert [(work.start, work.end) for work in gpu.timeline] == [(1000, 1050), (1050, 1050)]


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3)], ids=repr)
def test_what_fails_is_told_and_the_stream_goes_on(gpu: SimulatedGpu, error: BaseException) -> None:
    def fail() -> None:
        raise error

    stream = gpu.stream()
    failed, follows = stream.submit("compute", fail), stream.submit("compute", lambda: 7)
    with pytest.raises(type(error)):
        failed.result(SOON)
    assert follows.result(SOON) == 7
    assert not failed.cancel()


def test_nothing_is_due_before_the_callbacks_of_what_was_have_run(gpu: SimulatedGpu) -> None:
    gate = threading.Event()
    stream = gpu.stream()
    entered = threading.Event()

    def callback(_: object) -> None:
        entered.set()
        gate.wait(SOON)

    stream.submit("host", entered.wait).add_done_callback(callback)
    entered.set()
    eventually(lambda: gpu.timeline)
    assert gpu.pending == gpu.due == 1
    gate.set()
    eventually(lambda: not gpu.pending)


def test_a_closed_stream_takes_nothing_and_ends(gpu: SimulatedGpu, clock: ManualClock) -> None:
    stream = gpu.stream("mine")
    future = stream.submit("compute", lambda: 1, duration=10)
    assert not stream.close(0.01)  # it has something to do
    with pytest.raises(RuntimeError, match="mine"):
        stream.submit("compute", lambda: 2)
    clock.advance_ns(10)
    assert future.result(SOON) == 1
    assert stream.close(SOON) and gpu.close(SOON)
    assert repr(gpu) == "<SimulatedGpu: 0 streams, 0 pieces of work>"


def test_a_stream_is_waited_for(gpu: SimulatedGpu, clock: ManualClock) -> None:
    stream = gpu.stream()
    stream.sync(SOON)
    future = stream.submit("compute", lambda: 1, duration=10)
    with pytest.raises(TimeoutError):
        stream.sync(0.01)
    clock.advance_ns(10)
    stream.sync(SOON)
    assert future.done()


def test_on_the_clock_of_the_machine_time_passes_by_itself() -> None:
    with SimulatedGpu() as gpu:
        start = time.monotonic_ns()
        stream = gpu.stream()
        events = [stream.submit("compute", time.monotonic_ns, duration=2_000_000) for _ in range(3)]
        ends = [event.result(SOON) for event in events]
    assert [end - start >= 2_000_000 * number for number, end in enumerate(ends, 1)] == [True] * 3


def test_an_engine_less_is_refused() -> None:
    with pytest.raises(ValueError, match="got 0 engines of kind 'compute'"):
        SimulatedGpu(engines={"compute": 0})


def test_a_clock_goes_to_a_moment_and_never_back() -> None:
    clock = ManualClock(5)
    seen: list[int] = []
    clock.watch(lambda: seen.append(clock()))
    clock.advance_to(7)
    clock.advance(1e-9)
    assert seen == [7, 8]
    with pytest.raises(ValueError, match="got -1 ns"):
        clock.advance_to(7)


def test_its_work_is_a_timeline(gpu: SimulatedGpu, clock: ManualClock) -> None:
    for _ in range(2):
        stream = gpu.stream()
        stream.submit("copy_in", lambda: None, duration=10)
        stream.submit("compute", lambda: None, duration=10, label="k")
    run(gpu, clock)
    timeline = Timeline()
    gpu.record(timeline)
    spans = [(span.track.name, span.name, span.start, span.end) for span in timeline.spans]
    assert sorted(spans) == [
        ("compute 0", "compute", 1010, 1020),
        ("compute 0", "compute", 1020, 1030),
        ("copy in 0", "copy in", 1000, 1010),
        ("copy in 1", "copy in", 1000, 1010),
    ]
    computed = [span.arguments for span in timeline.spans if span.name == "compute"]
    assert all(each["label"] == "k" for each in computed)
    assert {each["stream"] for each in computed} == {"stream-0", "stream-1"}


KINDS: list[Kind] = ["copy_in", "compute", "copy_out"]
Jobs = list[list[tuple[int, int]]]  # of each stream: kind and duration


def expected(jobs: Jobs, engines: dict[Kind, int]) -> list[tuple[int, int]]:
    """Return how many are done, and when, of a simulation in events. Ties may go either way."""
    free = dict(engines)
    waiting: dict[Kind, list[int]] = {kind: [] for kind in KINDS}
    position = [0] * len(jobs)
    running: list[tuple[int, int]] = []
    ends: list[tuple[int, int]] = []

    def ready(stream: int, now: int) -> None:
        if position[stream] == len(jobs[stream]):
            return
        index, duration = jobs[stream][position[stream]]
        kind = KINDS[index]
        if free[kind]:
            free[kind] -= 1
            heapq.heappush(running, (now + duration, stream))
        else:
            waiting[kind].append(stream)

    for stream in range(len(jobs)):
        ready(stream, 0)
    while running:
        now, stream = heapq.heappop(running)
        index, _ = jobs[stream][position[stream]]
        kind = KINDS[index]
        ends.append((now, stream))
        position[stream] += 1
        free[kind] += 1
        if waiting[kind]:
            ready(waiting[kind].pop(0), now)
        ready(stream, now)
    return ends


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 1 << 20)), max_size=5), max_size=4),
    st.tuples(*[st.integers(1, 2)] * 3),
)
def test_it_is_a_simulation_of_events(jobs: Jobs, counts: tuple[int, int, int]) -> None:
    engines = dict(zip(KINDS, counts, strict=True))
    numbers = itertools.count()  # a bit for each piece, so that no two ends are at one moment
    jobs = [[(kind, (duration << 20) + (1 << next(numbers))) for kind, duration in each] for each in jobs]
    clock = ManualClock()
    with SimulatedGpu(clock=clock, engines=engines) as gpu:
        streams = [gpu.stream(str(number)) for number in range(len(jobs))]
        for number, each in enumerate(jobs):
            for kind, duration in each:
                streams[number].submit(KINDS[kind], lambda: None, duration=duration)
        run(gpu, clock)
        assert [(work.end, int(work.stream)) for work in gpu.timeline] == expected(jobs, engines)
