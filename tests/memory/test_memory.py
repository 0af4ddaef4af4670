"""Host memory, and arenas that cut it into pieces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yais.memory.arena import Arena
from yais.memory.buffer import Buffer
from yais.memory.host import HostMemoryResource
from yais.memory.resource import MemoryResource


class Counting(HostMemoryResource):
    """Host memory that knows what is still out, and can run dry."""

    def __init__(self) -> None:
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
    return int(np.frombuffer(view, np.uint8).ctypes.data)


# --- Host memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 4096, 10_000_000])
def test_host_memory_is_zeroed_and_writable(size: int) -> None:
    buffer = HostMemoryResource().allocate(size)
    assert buffer.size == len(buffer.view) == size and not buffer.view.readonly
    assert not any(buffer.view[:100])
    if size:
        assert address(buffer.view) % 4096 == 0
        buffer.view[-1] = 7
        assert buffer.view[-1] == 7
    assert repr(buffer) == f"<Buffer of {size} bytes>"


def test_host_memory_is_not_shared_with_children() -> None:
    buffer = HostMemoryResource().allocate(4096)
    for line in Path("/proc/self/maps").read_text().splitlines():
        extent, permissions, *_ = line.split()
        low, high = (int(part, 16) for part in extent.split("-"))
        if low <= address(buffer.view) < high:
            assert permissions == "rw-p"
            return
    pytest.fail("the buffer is nowhere")


def test_host_memory_is_a_resource() -> None:
    resource = HostMemoryResource()
    assert isinstance(resource, MemoryResource)
    assert resource.is_host_accessible and not resource.is_device_accessible
    with pytest.raises(ValueError, match="got size=-1, expected 0 or more bytes"):
        resource.allocate(-1)
    with pytest.raises(ValueError, match="expected None: host memory is not ordered by streams"):
        resource.allocate(1, stream=object())


def test_views_outlive_their_buffer() -> None:
    buffer = HostMemoryResource().allocate(64)
    view = buffer.view
    view[:3] = b"abc"
    buffer.close()
    buffer.close()
    assert bytes(view[:3]) == b"abc" and buffer.size == 0


def test_buffers_are_released_once() -> None:
    resource = Counting()
    buffer = resource.allocate(8)
    assert resource.out == 1
    buffer.close()
    buffer.close()
    assert resource.out == 0


# --- Arenas -------------------------------------------------------------------------------------------


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
    arena.close()
    assert resource.out == 0


def test_what_was_taken_survives_growing() -> None:
    arena = Arena(HostMemoryResource(), 64)
    old = arena.take(3)
    old[:] = b"old"
    arena.reset(1000)
    arena.take(1000)[:] = b"x" * 1000
    assert bytes(old) == b"old"


@pytest.mark.parametrize(("taken", "wanted", "left"), [(0, 101, 100), (60, 40, 36), (90, 1, 0)])
def test_an_arena_that_is_too_small(taken: int, wanted: int, left: int) -> None:
    arena = Arena(HostMemoryResource(), 100)
    arena.take(taken)
    with pytest.raises(MemoryError, match=f"^got {wanted} bytes to take, expected at most {left} left$"):
        arena.take(wanted)


def test_an_arena_recovers_when_there_was_no_memory() -> None:
    resource = Counting()
    arena = Arena(resource, 64)
    resource.dry = True
    with pytest.raises(OSError, match="no memory"):
        arena.reset(1000)
    resource.dry = False
    arena.reset(1000)
    assert len(arena.take(1000)) == 1000 and resource.out == 1
