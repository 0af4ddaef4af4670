"""Arenas whose pieces come back one by one, for memory that lives about as long as a request."""

from __future__ import annotations

import collections
import functools
import itertools
import operator
import threading
from dataclasses import dataclass

from yais.core.clock import NANOSECONDS, monotonic
from yais.core.future import Future
from yais.errors import DeadlineExceeded
from yais.memory.arena import Arena
from yais.memory.buffer import Buffer
from yais.memory.resource import MemoryResource
from yais.memory.segment_ring import Place, SegmentRing

__all__ = ["RingArena", "RingArenaStatistics"]

_CLOSED = "the ring arena is closed"


@dataclass(frozen=True, slots=True)
class RingArenaStatistics:
    """The numbers of a ring arena.

    `free` counts segments in which nothing lives, `live_bytes` what is allocated now, each piece rounded
    up to 64 bytes; `wait_seconds_total` sums how long callers who found no room waited, whether they got
    it or gave up.
    """

    segments: int
    free: int
    segment_size: int
    live_bytes: int
    waiting: int
    allocated_total: int
    wait_seconds_total: float


class _Waiter(Future[Buffer]):
    """Somebody who waits for a piece of `size` bytes, or for a free segment if that is None."""

    def __init__(self, size: int | None) -> None:
        super().__init__()
        self.size = size
        self.since = monotonic()


class RingArena:
    """Cuts segments into pieces, each a `Buffer`; a segment is used again when its last piece is gone.

    A piece is gone when it is closed and no view of it is left. Allocating and releasing take a few
    microseconds, whatever the size. One piece that lives long holds its whole segment: make segments at
    least twice as large as the largest piece. Thread-safe; those who find no room wait in the order in
    which they came.

    Parameters
    ----------
    resource
        Where the segments come from.
    segments
        How many to begin with, at least one.
    segment_size
        Bytes of each, rounded up to 64: the most that one piece may have.
    """

    def __init__(self, resource: MemoryResource, *, segments: int = 5, segment_size: int) -> None:
        if segments < 1 or segment_size < 1:
            raise ValueError(f"got {segments} segments of {segment_size} bytes, expected at least 1 of 1")
        self._resource = resource
        self._ring = SegmentRing(Arena.padded(segment_size))
        self._segments: dict[int, Buffer] = {}
        self._numbers = itertools.count()
        # Guards the ring and those who wait for it. A piece that is released only appends to
        # `_returned`, which waits for nothing: a garbage collector may do it wherever it happens to run.
        self._lock = threading.Lock()
        self._returned: collections.deque[Place] = collections.deque()
        self._waiting: collections.deque[_Waiter] = collections.deque()
        self._allocated = 0
        self._waited = 0
        self._closed = False
        for _ in range(segments):
            self.add_segment()

    def __repr__(self) -> str:
        now = self.statistics()
        return (
            f"<RingArena: {now.free} of {now.segments} segments of {now.segment_size} bytes free, "
            f"{now.waiting} waiting>"
        )

    @property
    def max_allocation_size(self) -> int:
        """Bytes that one piece may have."""
        return self._ring.segment_size

    def allocate(self, size: int, *, timeout: float) -> Buffer:
        """Return a piece of `size` bytes, aligned to 64; what it holds is what was there before.

        Raises
        ------
        TypeError, ValueError
            `size` is no whole number, or negative.
        MemoryError
            A segment is too small for it; the message says by how much.
        DeadlineExceeded
            There was no room within `timeout` seconds.
        RuntimeError
            The arena is closed.
        """
        if operator.index(size) < 0:  # or TypeError: what is no whole number would be lost in the ring
            raise ValueError(f"got size={size}, expected 0 or more bytes")
        if size > self.max_allocation_size:
            over = size - self.max_allocation_size
            raise MemoryError(f"got {size} bytes, {over} more than a segment of {self.max_allocation_size}")
        return self._take(size, timeout)

    def add_segment(self) -> None:
        """Take one more segment from the resource."""
        buffer = Buffer.of(self._resource.allocate(self.max_allocation_size))
        with self._lock:
            self._expect_open()
            number = next(self._numbers)
            self._segments[number] = buffer
            self._ring.add(number)
            self._serve()
        self._settle()

    def drop_segment(self, timeout: float) -> None:
        """Give a segment back to the resource, waiting up to `timeout` seconds until one is free.

        Raises
        ------
        DeadlineExceeded
            None became free.
        ValueError
            It would be the last.
        """
        with self._lock:
            if len(self._ring) - sum(waiter.size is None for waiter in self._waiting) < 2:
                raise ValueError(f"{self!r}: got the last segment to drop, expected another to be left")
        self._take(None, timeout).close()

    def statistics(self) -> RingArenaStatistics:
        """Return the numbers of now. Not a snapshot: pieces may come and go between two of them."""
        ring = self._ring
        return RingArenaStatistics(
            len(ring), ring.free, ring.segment_size, ring.live_bytes, len(self._waiting), self._allocated,
            self._waited / NANOSECONDS,
        )  # fmt: skip

    def close(self) -> None:
        """Give the segments back as their last pieces go; who waits gets a RuntimeError. Idempotent."""
        with self._lock:
            self._closed = True
            self._segments.clear()
            while self._waiting:
                self._waiting.popleft().set_exception(RuntimeError(_CLOSED))

    def _expect_open(self) -> None:
        if self._closed:
            raise RuntimeError(_CLOSED)

    def _take(self, size: int | None, timeout: float) -> Buffer:
        """Return a piece of that size, or a whole segment to drop for None."""
        with self._lock:
            self._expect_open()
            self._serve()
            buffer = None if self._waiting else self._cut(size)
            if buffer is None:
                waiter = _Waiter(size)
                self._waiting.append(waiter)
        self._settle()
        return self._wait(waiter, timeout) if buffer is None else buffer

    def _wait(self, waiter: _Waiter, timeout: float) -> Buffer:
        try:
            return waiter.result(timeout)
        except BaseException as error:
            with self._lock:
                gave_up = waiter in self._waiting
                if gave_up:
                    self._waiting.remove(waiter)
                    self._waited += monotonic() - waiter.since
                    self._serve()  # those behind may want less
            self._settle()
            if not isinstance(error, TimeoutError):
                raise
        if not gave_up:
            return waiter.result()  # it came at the last moment
        wanted = "a free segment" if waiter.size is None else f"room for {waiter.size} bytes"
        raise DeadlineExceeded(f"{self!r}: expected {wanted} within {timeout} s, got none")

    def _give_back(self, place: Place) -> None:
        self._returned.append(place)
        self._settle()

    def _settle(self) -> None:
        """Put to use what has come back.

        Never blocks: who holds the lock calls this after releasing it, and finds the work then.
        """
        while self._returned and self._lock.acquire(blocking=False):
            try:
                self._serve()
            finally:
                self._lock.release()

    def _serve(self) -> None:
        """Take back what has come back, and serve who waits, in order. With the lock."""
        while self._returned:
            self._ring.release(self._returned.popleft())
        while self._waiting:
            buffer = self._cut(self._waiting[0].size)
            if buffer is None:
                return
            waiter = self._waiting.popleft()
            self._waited += monotonic() - waiter.since
            waiter.set_result(buffer)

    def _cut(self, size: int | None) -> Buffer | None:
        if size is None:
            number = self._ring.drop()
            return None if number is None else self._segments.pop(number)
        place = self._ring.allocate(Arena.padded(size))
        if place is None:
            return None
        self._allocated += 1
        view = self._segments[place.segment].view[place.offset : place.offset + size]
        return Buffer(view, functools.partial(self._give_back, place), resource=self._resource)
