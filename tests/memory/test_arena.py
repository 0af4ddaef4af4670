"""Arenas: pieces of one buffer, all taken back at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yais.memory.arena import Arena, ArenaStatistics
from yais.memory.buffer import Buffer
from yais.memory.host import HostMemoryResource


class Counting(HostMemoryResource):
    """Host memory that knows what is still out, and can run dry."""

    def __init__(self) -> None:
        super().__init__()
        self.out = 0
        self.dry = False

    def allocate(self, size: int, *, stream: object = None) -> Buffer:
        if self.dry:
            raise OSError("no memory")
        self.out += 1
        return Buffer(super().allocate(size, stream=stream).view, self._released)

    def _released(self) -> None:
        self.out -= 1


def address(view: memoryview) -> int:
    return Buffer(view).handle


@given(st.lists(st.integers(0, 300), max_size=20))
def test_pieces_are_aligned_and_apart(sizes: list[int]) -> None:
    arena = Arena(HostMemoryResource())
    arena.reset(sum(map(Arena.padded, sizes)))
    pieces = [arena.take(size) for size in sizes]
    assert [len(piece) for piece in pieces] == sizes
    for number, piece in enumerate(pieces):
        piece[:] = bytes([number]) * len(piece)
        assert not piece or address(piece) % 64 == 0
    assert all(set(piece) <= {number} for number, piece in enumerate(pieces))


@pytest.mark.parametrize(("size", "padded"), [(0, 0), (1, 64), (64, 64), (65, 128)])
def test_padded(size: int, padded: int) -> None:
    assert Arena.padded(size) == padded


def test_an_arena_grows_and_keeps_what_it_has() -> None:
    resource = Counting()
    arena = Arena(resource)
    assert arena.size == 0
    for wanted, size in ((1, 1), (64, 64), (65, 128), (100, 128), (5000, 8192), (10, 8192)):
        arena.reset(wanted)
        assert arena.size == size and resource.out == 1
    first = arena.take(100)
    arena.reset()
    again = arena.take(100)
    assert address(first) == address(again)
    assert repr(arena) == "<Arena: 128 of 8192 bytes used>"
    assert arena.statistics() == ArenaStatistics(size=8192, used=128)
    arena.close()
    assert resource.out == 1
    del first, again
    assert resource.out == 0


def test_what_was_taken_survives_growing() -> None:
    resource = Counting()
    arena = Arena(resource, 64)
    old = np.frombuffer(arena.take(3), np.uint8)
    old[:] = 7
    arena.reset(1000)
    arena.take(1000)[:] = b"x" * 1000
    assert old.tolist() == [7, 7, 7] and resource.out == 2
    del old
    assert resource.out == 1


def test_an_arena_takes_memory_of_other_libraries() -> None:
    class Arrays:
        """A resource whose buffers have DLPack and no view, as those of cuda.core."""

        is_host_accessible = True
        is_device_accessible = True

        def allocate(self, size: int, *, stream: object = None) -> np.ndarray:
            return np.zeros(size, np.int8)

    arena = Arena(Arrays(), 64)  # type: ignore[arg-type]
    assert arena.size == 64
    arena.take(10)[:] = b"x" * 10
    arena.reset(100)
    assert arena.size == 128


@pytest.mark.parametrize(("taken", "wanted", "left"), [(0, 101, 100), (60, 40, 36), (90, 1, 0)])
def test_an_arena_that_is_too_small(taken: int, wanted: int, left: int) -> None:
    arena = Arena(HostMemoryResource(), 100)
    arena.take(taken)
    with pytest.raises(MemoryError, match=f"^got {wanted} bytes to take, expected at most {left} left$"):
        arena.take(wanted)


def test_less_than_nothing() -> None:
    arena = Arena(HostMemoryResource(), 200)
    arena.take(100)
    with pytest.raises(ValueError, match=r"^got size=-64, expected 0 or more bytes$"):
        arena.take(-64)
    assert arena.statistics() == ArenaStatistics(200, 128)


def test_an_arena_recovers_when_there_was_no_memory() -> None:
    resource = Counting()
    arena = Arena(resource, 64)
    resource.dry = True
    with pytest.raises(OSError, match="no memory"):
        arena.reset(1000)
    resource.dry = False
    arena.reset(1000)
    assert len(arena.take(1000)) == 1000 and resource.out == 1
