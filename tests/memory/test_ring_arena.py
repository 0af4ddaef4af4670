"""Ring arenas: pieces that come back one by one, from segments that are used again."""

from __future__ import annotations

import gc
import itertools
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from yais.errors import DeadlineExceeded
from yais.memory.buffer import Buffer
from yais.memory.host import HostMemoryResource
from yais.memory.ring_arena import RingArena, RingArenaStatistics
from yais.memory.segment_ring import Place, SegmentRing

TIMEOUT = 20.0


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def new(segments: int = 2, segment_size: int = 256) -> RingArena:
    return RingArena(HostMemoryResource(), segments=segments, segment_size=segment_size)


# --- The bookkeeping ----------------------------------------------------------------------------------


class Bookkeeping(RuleBasedStateMachine):
    """Random allocations, against the set of places that are out."""

    def __init__(self) -> None:
        super().__init__()
        self.ring = SegmentRing(100)
        self.out: list[Place] = []
        self.segments: set[int] = set()
        self.numbers = itertools.count()

    @initialize(count=st.integers(1, 4))
    def begin(self, count: int) -> None:
        for _ in range(count):
            self.add()

    @precondition(lambda self: len(self.segments) < 6)
    @rule()
    def add(self) -> None:
        number = next(self.numbers)
        self.segments.add(number)
        self.ring.add(number)

    @rule()
    def drop(self) -> None:
        segment = self.ring.drop()
        used = {place.segment for place in self.out}
        assert (segment is None) == (used == self.segments)
        if segment is not None:
            assert segment not in used
            self.segments.remove(segment)

    @rule(size=st.integers(0, 100))
    def allocate(self, size: int) -> None:
        place = self.ring.allocate(size)
        if place is None:
            # All segments have something that lives; the current one, if any, is too full.
            assert {place.segment for place in self.out} == self.segments
            return
        assert place.segment in self.segments and place.size == size
        assert place.offset >= 0 and place.offset + size <= 100
        for other in self.out:
            if other.segment == place.segment:
                assert other.offset + other.size <= place.offset or place.offset + size <= other.offset
        self.out.append(place)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.ring.release(self.out.pop(data.draw(st.integers(0, len(self.out) - 1))))

    @invariant()
    def counts(self) -> None:
        assert len(self.ring) == len(self.segments)
        assert self.ring.free == len(self.segments - {place.segment for place in self.out})
        assert self.ring.live_bytes == sum(place.size for place in self.out)

    def teardown(self) -> None:
        while self.out:
            self.ring.release(self.out.pop())
        assert self.ring.free == len(self.segments)
        for _ in self.segments:
            assert self.ring.allocate(100) is not None
        assert self.ring.allocate(1) is None


TestBookkeeping = Bookkeeping.TestCase


# --- Pieces -------------------------------------------------------------------------------------------


def test_pieces_are_aligned_and_apart() -> None:
    arena = new()
    pieces = [arena.allocate(size, timeout=0) for size in (1, 64, 100, 0)]
    assert [piece.size for piece in pieces] == [1, 64, 100, 0]
    start = pieces[0].handle
    assert start % 64 == 0 and [piece.handle - start for piece in pieces[:3]] == [0, 64, 128]
    assert arena.statistics() == RingArenaStatistics(2, 1, 256, 256, 0, 4, 0.0)
    assert repr(arena) == "<RingArena: 1 of 2 segments of 256 bytes free, 0 waiting>"


def test_a_segment_is_used_again_when_its_last_piece_is_gone() -> None:
    arena = new(segments=1)
    first, second = arena.allocate(128, timeout=0), arena.allocate(128, timeout=0)
    view = second.view[10:20]
    first.close()
    second.close()
    with pytest.raises(
        DeadlineExceeded, match=r"0 of 1 segments of 256 bytes free, .* room for 1 bytes within 0 s"
    ):
        arena.allocate(1, timeout=0)
    del view
    with arena.allocate(256, timeout=0) as piece:
        assert piece.size == 256
    assert arena.statistics().live_bytes == 0


def test_what_does_not_fit() -> None:
    arena = new(segment_size=200)
    assert arena.max_allocation_size == 256
    with pytest.raises(MemoryError, match="got 300 bytes, 44 more than a segment of 256"):
        arena.allocate(300, timeout=TIMEOUT)
    with pytest.raises(ValueError, match="got size=-1"):
        arena.allocate(-1, timeout=TIMEOUT)
    with pytest.raises(TypeError):
        arena.allocate(1.5, timeout=TIMEOUT)  # type: ignore[arg-type]
    assert arena.statistics().live_bytes == 0
    for segments, size in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="expected at least 1 of 1"):
            new(segments, size)


def test_a_piece_in_a_cycle_is_collected() -> None:
    arena = new(segments=1)
    cycle: list[Any] = [arena.allocate(256, timeout=0)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    arena.allocate(256, timeout=0).close()


# --- Waiting ------------------------------------------------------------------------------------------


def test_a_release_wakes_those_who_wait_in_order() -> None:
    arena = new(segments=1)
    held = arena.allocate(256, timeout=0)
    served: list[int] = []
    pieces: list[Buffer] = []

    def take(number: int, size: int) -> None:
        pieces.append(arena.allocate(size, timeout=TIMEOUT))
        served.append(number)

    with ThreadPoolExecutor(3) as pool:
        futures = []
        for number, size in enumerate((256, 1, 256)):
            futures.append(pool.submit(take, number, size))
            wait_until(lambda waiting=number + 1: arena.statistics().waiting == waiting)
        held.close()
        for number in range(3):
            futures[number].result(TIMEOUT)
            assert served == list(range(number + 1))
            assert arena.statistics().waiting == 2 - number
            pieces.pop().close()
    assert arena.statistics().wait_seconds_total > 0


def test_nobody_overtakes_who_waits() -> None:
    arena = new(segments=1)
    held = [arena.allocate(128, timeout=0)]
    with ThreadPoolExecutor(1) as pool:
        large = pool.submit(arena.allocate, 256, timeout=TIMEOUT)
        wait_until(lambda: arena.statistics().waiting == 1)
        with pytest.raises(DeadlineExceeded):  # although there is room for it
            arena.allocate(64, timeout=0)
        held.pop().close()
        large.result(TIMEOUT).close()


def test_who_gives_up_lets_others_pass() -> None:
    arena = new(segments=1)
    held = arena.allocate(128, timeout=0)
    with ThreadPoolExecutor(2) as pool:
        large = pool.submit(arena.allocate, 256, timeout=2.0)
        wait_until(lambda: arena.statistics().waiting == 1)
        small = pool.submit(arena.allocate, 64, timeout=TIMEOUT)
        assert small.result(TIMEOUT).size == 64
        with pytest.raises(DeadlineExceeded):
            large.result(TIMEOUT)
    held.close()
    assert arena.statistics().waiting == 0


def test_closing() -> None:
    arena = new(segments=1)
    piece = arena.allocate(256, timeout=0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(arena.allocate, 1, timeout=TIMEOUT)
        wait_until(lambda: arena.statistics().waiting == 1)
        arena.close()
        with pytest.raises(RuntimeError, match="the ring arena is closed"):
            waiting.result(TIMEOUT)
    arena.close()
    piece.view[:] = b"x" * 256
    piece.close()
    for call in (lambda: arena.allocate(1, timeout=0), arena.add_segment):
        with pytest.raises(RuntimeError, match="the ring arena is closed"):
            call()


# --- More and fewer segments --------------------------------------------------------------------------


class Counting(HostMemoryResource):
    out = 0

    def allocate(self, size: int, *, stream: object = None) -> Buffer:
        self.out += 1
        return Buffer(super().allocate(size, stream=stream).view, self._released)

    def _released(self) -> None:
        self.out -= 1


def test_segments_come_and_go() -> None:
    memory = Counting()
    arena = RingArena(memory, segments=1, segment_size=64)
    first = arena.allocate(64, timeout=0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(arena.allocate, 64, timeout=TIMEOUT)
        wait_until(lambda: arena.statistics().waiting == 1)
        arena.add_segment()
        second = waiting.result(TIMEOUT)
        with pytest.raises(DeadlineExceeded, match="expected a free segment within 0 s"):
            arena.drop_segment(0)
        dropping = pool.submit(arena.drop_segment, TIMEOUT)
        wait_until(lambda: arena.statistics().waiting == 1)
        with pytest.raises(ValueError, match="got the last segment to drop"):
            arena.drop_segment(0)
        view = second.view
        second.close()
        assert not dropping.done() and memory.out == 2
        del view
        dropping.result(TIMEOUT)
    assert arena.statistics().segments == 1 and memory.out == 1
    first.close()
    arena.close()
    assert memory.out == 0


# --- Under load ---------------------------------------------------------------------------------------


def test_many_threads_share_a_ring() -> None:
    arena = new(segments=3, segment_size=1024)
    failures: list[str] = []

    def work(number: int) -> None:
        chance = random.Random(number)
        held: list[np.ndarray[Any, Any]] = []
        for _ in range(300):
            try:
                piece = arena.allocate(chance.randrange(1, 600), timeout=0.01)
            except DeadlineExceeded:
                held.clear()
                continue
            held.append(piece.array(np.uint8))
            piece.close()
            held[-1][:] = number
            if len(held) > chance.randrange(4):
                which = chance.randrange(len(held))
                if not (held[which] == number).all():
                    failures.append(f"thread {number} lost what it wrote")
                del held[which]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert failures == []
    now = arena.statistics()
    assert (now.free, now.live_bytes, now.waiting) == (3, 0, 0) and now.allocated_total > 100
