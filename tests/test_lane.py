"""Lanes: threads and memory of one place, lent as one."""

from __future__ import annotations

import os
import threading

import pytest

from yais.core.cpu_set import CpuSet
from yais.core.topology import NumaNode, Topology
from yais.errors import DeadlineExceeded
from yais.lane import Lanes, Placement, placements
from yais.memory.buffer import Buffer
from yais.memory.host import HostMemoryResource

SOON = 20.0


def thread_name() -> str:
    return threading.current_thread().name


def test_each_stage_has_its_threads() -> None:
    lanes = Lanes("numa0", threads={"pre": 1, "execute": 2, "post": 0}, count=3)
    with lanes.pool.acquire(SOON) as lane:
        assert set(lane.threads) == {"pre", "execute"}  # the others run where the stage before did
        for stage, pool in lane.threads.items():
            assert pool.submit(thread_name).get(SOON).startswith(f"numa0-{stage}-")
        assert lane.threads["execute"].statistics().threads == 2
        assert repr(lanes).startswith("<Lanes numa0: <Pool numa0 lanes: 2 of 3 free, 0 waiting>, ")
    assert lanes.close(SOON)


def test_there_are_two_for_each_thread_that_executes() -> None:
    lanes = Lanes(threads={"pre": 1, "execute": 3})
    assert lanes.size == lanes.pool.statistics().size == 6
    leases = [lanes.pool.acquire(SOON) for _ in range(6)]
    assert len({id(lease.item.staging) for lease in leases}) == 6 and lanes.pool.try_acquire() is None
    for lease in leases:
        lease.release()
    assert lanes.close(SOON)


def test_lanes_of_a_place_share_threads_and_have_memory_of_their_own() -> None:
    cpus = CpuSet(os.sched_getaffinity(0))
    places = [Placement("a", cpus=CpuSet([min(cpus)])), Placement("b", cpus=CpuSet([max(cpus)]))]
    lanes = Lanes("two", threads={"execute": 1}, count=5, places=places)
    leases = [lanes.pool.acquire(SOON) for _ in range(5)]
    by_place: dict[str, list[object]] = {}
    for lease in leases:
        lane = lease.item
        by_place.setdefault(lane.placement.name, []).append(lane.threads["execute"])
        where = lane.threads["execute"].submit(os.sched_getaffinity, 0).get(SOON)
        assert where == set(lane.placement.cpus or ())
        assert lane.threads["execute"].submit(thread_name).get(SOON).startswith(f"two-{lane.placement.name}-")
    # Spread over the places, one more on the first; one pool of threads on each.
    assert {place: len(pools) for place, pools in by_place.items()} == {"a": 3, "b": 2}
    assert all(len(set(map(id, pools))) == 1 for pools in by_place.values())
    for lease in leases:
        lease.release()
    assert os.sched_getaffinity(0) == set(cpus)
    assert lanes.close(SOON)


def test_every_place_has_a_lane() -> None:
    lanes = Lanes(threads={"execute": 1}, count=1, places=[Placement("a"), Placement("b"), Placement("c")])
    assert lanes.size == 3
    assert lanes.close(SOON)


def test_memory_is_where_it_is_said_to_come_from() -> None:
    class Counting(HostMemoryResource):
        allocated = 0

        def allocate(self, size: int, *, stream: object = None) -> Buffer:
            Counting.allocated += size
            return super().allocate(size, stream=stream)

    lanes = Lanes(threads={"execute": 1}, count=2, memory=Counting())
    lanes.reserve(5000, SOON)
    assert Counting.allocated == 2 * 8192
    with lanes.pool.acquire(SOON) as lane:
        assert lane.staging.size == 8192 and len(lane.staging.take(5000)) == 5000
    with lanes.pool.acquire(SOON) as lane:
        assert len(lane.staging.take(8192)) == 8192  # what was returned is whole again
    assert lanes.close(SOON)
    assert lane.staging.size == 0


def test_reserving_waits_for_lanes_and_gives_up() -> None:
    lanes = Lanes(threads={"execute": 1}, count=2)
    lease = lanes.pool.acquire(SOON)
    with pytest.raises(DeadlineExceeded, match=r"1 of 2 free|0 of 2 free"):
        lanes.reserve(1 << 16, 0.01)
    assert lanes.pool.statistics().available == 1  # what it had taken is back
    lease.release()
    lanes.reserve(1 << 16, SOON)
    assert lanes.pool.statistics().available == 2
    assert lanes.close(SOON)


class FakeDevice:
    """A device whose memory is host memory; its streams are numbers."""

    def __init__(self) -> None:
        self.streams = 0

    def staging(self, placement: Placement) -> HostMemoryResource:
        return HostMemoryResource()

    def memory(self, placement: Placement) -> HostMemoryResource:
        return HostMemoryResource()

    def stream(self, placement: Placement) -> int:
        self.streams += 1
        return self.streams


class Unordered(HostMemoryResource):
    """Host memory that does not mind a stream."""

    def allocate(self, size: int, *, stream: object = None) -> Buffer:
        return super().allocate(size)


def test_the_device_half() -> None:
    device = FakeDevice()
    device.memory = lambda placement: Unordered()  # type: ignore[method-assign]
    lanes = Lanes(threads={"execute": 1}, count=2, device=device)
    first, second = lanes.pool.acquire(SOON), lanes.pool.acquire(SOON)
    assert {first.item.stream, second.item.stream} == {1, 2} and first.item.device is None
    first.release(), second.release()
    lanes.reserve(100, SOON, device=1000)
    with lanes.pool.acquire(SOON) as lane:
        assert lane.device is not None and lane.device.size == 1000
        kept = lane.device
    lanes.reserve(100, SOON, device=500)  # there is enough
    with lanes.pool.acquire(SOON) as lane:
        assert lane.device is not None and lane.device.size == 1000
    assert lanes.close(SOON)
    assert kept.size == 0


def test_streams_are_waited_for_and_closed_with_their_lanes() -> None:
    class Stream:
        def __init__(self) -> None:
            self.calls: list[str] = []

        def sync(self) -> None:
            self.calls.append("sync")

        def close(self) -> None:
            self.calls.append("close")

    device = FakeDevice()
    streams: list[Stream] = []

    def stream(placement: Placement) -> Stream:
        streams.append(Stream())
        return streams[-1]

    device.stream = stream  # type: ignore[assignment, method-assign]
    lanes = Lanes(threads={"execute": 1}, count=2, device=device)
    with lanes.pool.acquire(SOON) as lane:
        lane.settle()
        assert lane.stream.calls == ["sync"]
    assert lanes.close(SOON)
    assert sorted(stream.calls for stream in streams) == [["close"], ["sync", "close"]]


def test_a_lane_without_a_stream_is_settled() -> None:
    lanes = Lanes(threads={"execute": 1}, count=1)
    with lanes.pool.acquire(SOON) as lane:
        lane.settle()
        assert lane in lanes and object() not in lanes
    assert lanes.close(SOON)


def test_staging_is_the_devices_unless_something_else_is_said() -> None:
    class Counting(HostMemoryResource):
        def __init__(self) -> None:
            super().__init__()
            self.asked = 0

        def allocate(self, size: int, *, stream: object = None) -> Buffer:
            self.asked += size
            return super().allocate(size)

    pinned, other = Counting(), Counting()
    device = FakeDevice()
    device.staging = lambda placement: pinned  # type: ignore[method-assign]
    for memory, asked in ((None, (8192, 0)), (other, (8192, 8192))):
        lanes = Lanes(threads={"execute": 1}, count=1, device=device, memory=memory)
        lanes.reserve(8192, SOON)
        assert (pinned.asked, other.asked) == asked
        assert lanes.close(SOON)


def test_closing_finishes_what_is_queued() -> None:
    lanes = Lanes(threads={"execute": 1, "post": 1}, count=1)
    (threads,) = lanes.threads
    go_on = threading.Event()
    futures = [threads["execute"].submit(go_on.wait, SOON) for _ in range(3)]
    assert not lanes.close(0.0)
    with pytest.raises(RuntimeError):  # the others are closed all the same
        threads["post"].submit(print)
    go_on.set()
    assert all(future.get(SOON) for future in futures)
    assert lanes.close(SOON)


def test_where_lanes_sit() -> None:
    topology = Topology.read()
    places = placements(topology)
    assert len(places) == len(topology.gpus) or len(places) == len([n for n in topology.nodes if n.cpus])
    assert all(place.cpus for place in places)
    assert all(place.node is None or isinstance(place.node, NumaNode) for place in places)
