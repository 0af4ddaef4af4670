"""Adaptors: who has how much, no more than so much, and the same memory again."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from yais.memory.account import MemoryUsage
from yais.memory.buffer import Buffer
from yais.memory.free_blocks import FreeBlocks
from yais.memory.host import HostMemoryResource
from yais.memory.limited import LimitedResource
from yais.memory.pooled import PooledResource
from yais.memory.resource import MemoryResource
from yais.memory.tracked import MemoryTracker, TrackedResource

HOST = HostMemoryResource()

ADAPTORS = [
    lambda upstream: TrackedResource(upstream, owner="test"),
    lambda upstream: LimitedResource(upstream, 1 << 20),
    PooledResource,
]


class ForeignBuffer:
    def __init__(self, size: int) -> None:
        self._array = np.zeros(size, np.uint8)

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


class Foreign:
    """A resource like those of cuda.core: its buffers are not ours, and tell of their memory by DLPack."""

    is_host_accessible = True
    is_device_accessible = True

    def __init__(self) -> None:
        self.streams: list[Any] = []

    def allocate(self, size: int, *, stream: Any) -> Any:
        self.streams.append(stream)
        return ForeignBuffer(size)


@pytest.mark.parametrize("adapt", ADAPTORS)
def test_adaptors_are_resources(adapt: Any) -> None:
    resource = adapt(HOST)
    assert isinstance(resource, MemoryResource)
    assert resource.is_host_accessible and not resource.is_device_accessible
    buffer = resource.allocate(1000)
    assert buffer.size == 1000 and buffer.memory_resource is resource
    buffer.view[:] = b"x" * 1000
    assert resource.allocate(0).size == 0
    for size in (-1, -5000):
        with pytest.raises(ValueError, match=f"got size={size}, expected 0 or more bytes"):
            resource.allocate(size)
    with pytest.raises(ValueError, match="expected None: host memory is not ordered by streams"):
        resource.allocate(5000, stream=object())


@pytest.mark.parametrize("adapt", ADAPTORS)
def test_adaptors_stack(adapt: Any) -> None:
    tracker = MemoryTracker()
    resource = TrackedResource(adapt(TrackedResource(HOST, owner="below", tracker=tracker)), owner="above")
    buffer = resource.allocate(10_000)
    assert resource.statistics().bytes == 10_000
    assert tracker.statistics()["below", "host"].bytes >= 10_000
    buffer.close()
    assert resource.statistics().bytes == 0


@pytest.mark.parametrize("adapt", ADAPTORS)
def test_foreign_resources_fit(adapt: Any) -> None:
    foreign = Foreign()
    assert isinstance(foreign, MemoryResource)
    resource = adapt(foreign)
    assert resource.is_device_accessible
    stream = object()
    buffer = resource.allocate(100, stream=stream)
    assert isinstance(buffer, Buffer) and buffer.size == 100 and foreign.streams == [stream]
    buffer.view[:] = b"y" * 100


@pytest.mark.parametrize("adapt", ADAPTORS)
def test_memory_that_the_cpu_cannot_reach(adapt: Any) -> None:
    class Device(Foreign):
        is_host_accessible = False

        def __repr__(self) -> str:
            return "<Device>"

    with pytest.raises(
        ValueError, match=r"^got <Device>, expected a resource of memory that the CPU can reach$"
    ):
        adapt(Device())


# --- Tracked ------------------------------------------------------------------------------------------


def test_owners_and_what_they_have() -> None:
    tracker = MemoryTracker()
    images = TrackedResource(HOST, owner="images", tracker=tracker)
    also = TrackedResource(HOST, owner="images", tracker=tracker)
    sounds = TrackedResource(PooledResource(Foreign()), owner="sounds", tracker=tracker)
    assert (images.kind, sounds.kind) == ("host", "pinned")
    first, second = images.allocate(1000), also.allocate(500)
    first.close()
    third = images.allocate(100)
    assert tracker.statistics() == {
        ("images", "host"): MemoryUsage(600, 1500, 2, 3),
        ("sounds", "pinned"): MemoryUsage(0, 0, 0, 0),
    }
    assert repr(images) == "<TrackedResource images: 600 bytes in 2 buffers, at most 1500>"
    assert repr(tracker) == "<MemoryTracker: 600 bytes in use, 2 accounts>"
    second.close()
    third.close()
    assert images.statistics() == MemoryUsage(0, 1500, 0, 3)


def test_what_is_refused_is_not_counted() -> None:
    resource = TrackedResource(LimitedResource(HOST, 10), owner="a")
    with pytest.raises(MemoryError):
        resource.allocate(11)
    assert resource.statistics() == MemoryUsage(0, 0, 0, 0)


def test_a_buffer_counts_until_its_last_view_is_gone() -> None:
    resource = TrackedResource(HOST, owner="a")
    buffer = resource.allocate(64)
    array = np.frombuffer(buffer.view, np.float32)[3:]
    buffer.close()
    assert resource.statistics().bytes == 64
    array[:] = 1.0
    del array
    assert resource.statistics().bytes == 0


def test_releases_wait_for_no_lock() -> None:
    """A garbage collector may run while a lock is held, on the thread that holds it."""
    pool = PooledResource(HOST)
    tracked = TrackedResource(pool, owner="a")
    buffers = [tracked.allocate(5000) for _ in range(2)]
    with tracked._account._lock, pool._lock:
        closing = threading.Thread(target=buffers.clear, daemon=True)
        closing.start()
        closing.join(5.0)
        assert not closing.is_alive()
    assert tracked.statistics().bytes == 0
    assert pool.statistics().lent_bytes == 0 and pool.statistics().kept_blocks == 2


def test_buffers_that_are_collected() -> None:
    pool = PooledResource(HOST)
    tracked = TrackedResource(pool, owner="a")
    cycle: list[Any] = [tracked.allocate(5000)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert tracked.statistics().bytes == 0 and pool.statistics().kept_blocks == 1


# --- Limited ------------------------------------------------------------------------------------------


def test_a_limit() -> None:
    resource = LimitedResource(HOST, 100)
    buffer = resource.allocate(60)
    with pytest.raises(
        MemoryError, match=r"^got 41 bytes to allocate with 60 in use, expected at most 100 in all$"
    ):
        resource.allocate(41)
    second = resource.allocate(40)
    assert (
        resource.statistics() == MemoryUsage(100, 100, buffers=2, allocated_total=2) and resource.limit == 100
    )
    assert repr(resource) == "<LimitedResource: 100 of 100 bytes in use>"
    buffer.close()
    assert resource.allocate(60).size == 60
    second.close()
    assert resource.statistics() == MemoryUsage(0, 100, buffers=0, allocated_total=3)
    with pytest.raises(ValueError, match=r"^got limit=-1, expected 0 or more bytes$"):
        LimitedResource(HOST, -1)


def test_what_the_upstream_refuses_does_not_count() -> None:
    resource = LimitedResource(LimitedResource(HOST, 10), 100)
    for _ in range(20):
        with pytest.raises(MemoryError, match="expected at most 10 in all"):
            resource.allocate(50)
    assert resource.statistics().bytes == 0 and resource.allocate(10).size == 10


def test_a_limit_holds_under_contention() -> None:
    limit, size = 10_000, 1000
    resource = LimitedResource(PooledResource(HOST), limit)
    tracked = TrackedResource(resource, owner="a")
    start = threading.Barrier(4, timeout=10)

    def work() -> int:
        refused = 0
        mine: list[Buffer] = []
        start.wait()
        for step in range(1500):
            try:
                mine.append(tracked.allocate(size))
            except MemoryError:
                refused += 1
            if step % 3 == 2 or len(mine) > 5:
                mine.clear()
        return refused

    with ThreadPoolExecutor(4) as threads:
        refused = sum(future.result(timeout=30) for future in [threads.submit(work) for _ in range(4)])
    statistics = resource.statistics()
    assert statistics.bytes == 0 and statistics.high_water_bytes <= limit
    assert tracked.statistics().high_water_bytes <= limit
    assert tracked.statistics().allocated_total == 4 * 1500 - refused


# --- Pooled -------------------------------------------------------------------------------------------


@given(st.integers(0, 1 << 44), st.sampled_from([1, 4096, 1 << 21]))
def test_blocks_are_little_larger_than_buffers(size: int, granularity: int) -> None:
    padded = PooledResource(HOST, granularity=granularity).padded(size)
    assert padded % granularity == 0
    assert size <= padded and (padded < size + granularity or padded < 1.25 * size)
    assert PooledResource(HOST, granularity=granularity).padded(padded) == padded


def test_block_sizes() -> None:
    pool = PooledResource(HOST)
    sizes = sorted({pool.padded(size) // 1024 for size in range(0, 70_000, 16)})
    assert sizes == [0, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80]


def test_blocks_are_used_again_as_they_are() -> None:
    below = TrackedResource(HOST, owner="pool")
    pool = PooledResource(below)
    buffer = pool.allocate(5000)
    address, view = buffer.handle, buffer.view
    view[:4] = b"abcd"
    buffer.close()
    other = pool.allocate(5000)
    assert other.handle != address  # somebody still looks at it
    del view
    again = pool.allocate(8000)
    assert again.handle == address and bytes(again.view[:4]) == b"abcd"
    assert repr(pool) == "<PooledResource: 16384 bytes lent in 2 blocks, 0 kept in 0>"
    assert (pool.statistics().allocated_total, pool.statistics().reused_total) == (3, 1)
    assert below.statistics() == MemoryUsage(16384, 16384, 2, 2)


def test_threads_do_not_share_blocks() -> None:
    pool = PooledResource(HOST, max_kept=30_000)
    start = threading.Barrier(4, timeout=10)

    def work(mark: int) -> int:
        wrong = 0
        start.wait()
        for step in range(400):
            first, second = pool.allocate(5000 + step * 10), pool.allocate(3000)
            for buffer in (first, second):
                buffer.view[:] = bytes([mark]) * buffer.size
            second.close()
            wrong += first.view != bytes([mark]) * first.size
            first.close()
        return wrong

    with ThreadPoolExecutor(4) as threads:
        assert [
            future.result(timeout=30) for future in [threads.submit(work, mark) for mark in range(4)]
        ] == [0] * 4
    now = pool.statistics()
    assert now.lent_bytes == now.lent_blocks == 0 and now.kept_bytes <= 30_000
    assert now.allocated_total == 4 * 400 * 2 and now.reused_total > 0


def test_trimming() -> None:
    below = TrackedResource(HOST, owner="pool")
    pool = PooledResource(below)
    for buffer in [pool.allocate(size) for size in (4096, 8192, 12288)]:
        buffer.close()
    buffer = pool.allocate(4096)
    del buffer
    # 8192 has waited longest.
    assert pool.trim(17_000) == 8192
    assert below.statistics().bytes == pool.statistics().kept_bytes == 16384
    assert pool.trim() == 16384 and pool.trim() == 0
    assert below.statistics().bytes == pool.statistics().kept_bytes == pool.statistics().kept_blocks == 0
    with pytest.raises(ValueError, match=r"^got keep=-1, expected 0 or more bytes$"):
        pool.trim(-1)


def test_no_more_is_kept_than_told() -> None:
    below = TrackedResource(HOST, owner="pool")
    pool = PooledResource(below, max_kept=10_000)
    for buffer in [pool.allocate(4096) for _ in range(5)]:
        buffer.close()
    del buffer
    assert below.statistics().bytes == pool.statistics().kept_bytes == 8192
    with pytest.raises(ValueError, match=r"^got max_kept=-1, expected 0 or more bytes$"):
        PooledResource(HOST, max_kept=-1)
    with pytest.raises(ValueError, match=r"^got granularity=6, expected a power of two$"):
        PooledResource(HOST, granularity=6)


def test_what_is_kept_is_given_back_when_the_upstream_has_no_more() -> None:
    pool = PooledResource(LimitedResource(HOST, 20_000))
    pool.allocate(16_000).close()
    assert pool.statistics().kept_bytes == 16384
    buffer = pool.allocate(8192)
    assert pool.statistics().kept_bytes == 0 and pool.statistics().lent_bytes == 8192
    with pytest.raises(MemoryError, match="got 12288 bytes to allocate with 8192 in use"):
        pool.allocate(12_288)
    assert pool.statistics().lent_bytes == buffer.size


STEPS = st.lists(st.tuples(st.sampled_from(["put", "take"]), st.integers(1, 4)), max_size=30)


@given(STEPS, st.integers(0, 20))
def test_free_blocks(steps: list[tuple[str, int]], limit: int) -> None:
    free = FreeBlocks()
    model: list[memoryview] = []  # oldest first
    for what, size in steps:
        if what == "put":
            model.append(memoryview(bytearray(size)))
            free.put(model[-1])
        else:
            newest = next((block for block in reversed(model) if block.nbytes == size), None)
            assert free.take(size) is newest
            model = [block for block in model if block is not newest]
        assert len(free) == len(model) and free.bytes == sum(block.nbytes for block in model)
    evicted = free.evict(limit)
    assert free.bytes <= limit and (not evicted or free.bytes + evicted[-1].nbytes > limit)
    assert list(map(id, evicted + free.evict(0))) == list(map(id, model))
    assert len(free) == free.bytes == 0


class Held:
    """A buffer, the views of it, and what it is filled with."""

    def __init__(self, buffer: Buffer, mark: int) -> None:
        self.size = buffer.size
        self.content = bytes([mark]) * buffer.size
        self.buffer: Buffer | None = buffer
        self.views: list[memoryview] = []
        buffer.view[:] = self.content


class Memory(RuleBasedStateMachine):
    """Adaptors over each other, whatever is allocated, closed and looked at."""

    @initialize(limit=st.integers(0, 200_000), max_kept=st.none() | st.integers(0, 100_000))
    def set_up(self, limit: int, max_kept: int | None) -> None:
        self.limited = LimitedResource(TrackedResource(HOST, owner="below"), limit)
        self.pool = PooledResource(self.limited, max_kept=max_kept)
        self.tracked = TrackedResource(self.pool, owner="top")
        self.held: list[Held] = []
        self.allocated = self.high = 0

    @rule(size=st.integers(0, 60_000))
    def allocate(self, size: int) -> None:
        try:
            buffer = self.tracked.allocate(size)
        except MemoryError:
            # Nothing is kept then, and still there was too little.
            assert self.pool.statistics().kept_bytes == 0
            assert self.limited.statistics().bytes + self.pool.padded(size) > self.limited.limit
            return
        self.allocated += 1
        self.held.append(Held(buffer, self.allocated % 256))
        self.high = max(self.high, sum(held.size for held in self.held))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def look(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.held))
        if held.buffer is not None:
            held.views.append(held.buffer.view[:])

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.held))
        if held.buffer is not None:
            held.buffer.close()
        held.buffer = None
        self.forget_what_is_gone()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def look_away(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.held)).views.clear()
        self.forget_what_is_gone()

    @rule(keep=st.integers(0, 50_000))
    def trim(self, keep: int) -> None:
        before = self.limited.statistics().bytes
        assert self.pool.trim(keep) == before - self.limited.statistics().bytes
        assert self.pool.statistics().kept_bytes <= keep

    def forget_what_is_gone(self) -> None:
        self.held = [held for held in self.held if held.buffer is not None or held.views]

    @invariant()
    def nobody_writes_to_the_memory_of_others(self) -> None:
        for held in self.held:
            views = held.views if held.buffer is None else [held.buffer.view, *held.views]
            assert all(view == held.content for view in views)

    @invariant()
    def it_adds_up(self) -> None:
        sizes = [held.size for held in self.held]
        assert self.tracked.statistics() == MemoryUsage(sum(sizes), self.high, len(sizes), self.allocated)
        pool, limited = self.pool.statistics(), self.limited.statistics()
        assert pool.lent_bytes == sum(map(self.pool.padded, sizes)) and pool.lent_blocks == len(sizes)
        assert (
            pool.lent_bytes + pool.kept_bytes
            == limited.bytes
            <= limited.high_water_bytes
            <= self.limited.limit
        )
        assert pool.kept_bytes <= (self.limited.limit if self.pool.max_kept is None else self.pool.max_kept)


TestMemory = Memory.TestCase
TestMemory.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
