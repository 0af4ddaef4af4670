"""The memory that contents of tensors travel in."""

from __future__ import annotations

import collections
import gc
import mmap
import os
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from link_pair import descriptors, mappings

from yais.errors import InvalidArgument
from yais.serving.frontends.link_contents import put_all
from yais.serving.frontends.payload_memory import INLINE, PayloadReader, PayloadWriter

SIZE = 8 * 16 * mmap.PAGESIZE


class PayloadMachine(RuleBasedStateMachine):
    """Contents of any size go in, are read in any order, and are given back in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.writer = PayloadWriter(SIZE)
        self.freed: collections.deque[int] = collections.deque()
        self.reader = PayloadReader(self.writer.descriptor, SIZE, self.freed.append)
        self.sent: list[tuple[object, collections.deque[int], bytes]] = []
        self.held: list[tuple[memoryview | bytes, bytes]] = []

    @rule(size=st.integers(0, 3 * SIZE // 16), seed=st.integers(0, 255), parts=st.integers(1, 3))
    def put(self, size: int, seed: int, parts: int) -> None:
        each = random.Random(seed).randbytes(size)
        fds: list[int] = []
        contents = self.writer.put([each] * parts, size * parts, fds)
        self.sent.append((contents, collections.deque(fds), each * parts))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def get(self, data: st.DataObject) -> None:
        contents, fds, expected = self.sent.pop(data.draw(st.integers(0, len(self.sent) - 1)))
        self.held.append((self.reader.get(contents, fds), expected))  # type: ignore[arg-type]
        assert not fds

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))

    @rule()
    def give_back(self) -> None:
        while self.freed:
            self.writer.take_back(self.freed.popleft())

    @invariant()
    def what_is_held_stays(self) -> None:
        for view, expected in self.held:
            assert bytes(view) == expected

    @invariant()
    def nothing_else_is_out(self) -> None:
        shared = sum(type(contents) is tuple for contents, _, _ in self.sent)
        read = self.writer.live - shared - len(self.freed)
        assert 0 <= read <= len(self.held)

    def teardown(self) -> None:
        for _, fds, _ in self.sent:
            for fd in fds:
                os.close(fd)
        for contents, _, _ in self.sent:
            if type(contents) is tuple:
                self.writer.take_back(contents[0])
        self.held.clear()
        self.give_back()
        assert self.writer.live == 0
        self.writer.close()


TestPayloadMachine = PayloadMachine.TestCase
TestPayloadMachine.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


def test_small_contents_travel_with_the_message() -> None:
    writer = PayloadWriter(SIZE)
    assert writer.put([b"x" * INLINE], INLINE, []) == b"x" * INLINE
    assert writer.put([b"x" * (INLINE + 1)], INLINE + 1, []) == (0, INLINE + 1)
    assert (writer.live, writer.shared_bytes) == (1, INLINE + 1)
    writer.close()


def test_the_same_memory_is_used_again() -> None:
    writer = PayloadWriter(SIZE)
    for _ in range(1000):
        contents = writer.put([bytes(10000)], 10000, [])
        assert contents == (0, 10000)
        writer.take_back(0)
    assert writer.overflows == 0
    writer.close()


def test_the_lowest_place_is_used_that_is_large_enough() -> None:
    writer = PayloadWriter(SIZE)
    fds: list[int] = []

    def put(size: int) -> int:
        contents = writer.put([bytes(size)], size, fds)
        assert isinstance(contents, tuple)
        return contents[0]

    assert [put(each) for each in (6400, 6400, 12800, 6400)] == [0, 6400, 12800, 25600]
    for place in (0, 12800, 6400):  # which are one then, from both sides
        writer.take_back(place)
    assert [put(each) for each in (19200, 6400, 6400)] == [0, 19200, 32000]
    assert put(SIZE - 38400) == 38400  # all there is
    assert put(6400) == -1
    assert (writer.live, writer.overflows, len(fds)) == (6, 1, 1)
    os.close(fds[0])
    writer.close()


def test_what_finds_no_room_gets_memory_of_its_own() -> None:
    before = descriptors()
    writer = PayloadWriter(SIZE)
    reader = PayloadReader(writer.descriptor, SIZE, lambda _: None)
    fds: list[int] = []
    large = os.urandom(SIZE + 1)
    contents = writer.put([large], len(large), fds)
    assert contents == (-1, len(large)) and writer.live == 1 and len(fds) == writer.overflows == 1
    writer.close()
    view = reader.get(contents, collections.deque(fds))
    del reader
    assert descriptors() == before + 1  # that of the mapping
    assert bytes(view) == large and isinstance(view, memoryview) and view.readonly
    count = mappings()
    del view
    assert mappings() == count - 1 and descriptors() == before


def test_memory_outlives_who_wrote_it_as_long_as_it_is_read() -> None:
    writer = PayloadWriter(SIZE)
    reader = PayloadReader(writer.descriptor, SIZE, lambda _: None)
    view = reader.get(writer.put([b"y" * 5000], 5000, []), collections.deque())
    writer.close()
    del writer, reader
    gc.collect()
    assert bytes(view) == b"y" * 5000
    count = mappings()
    del view
    assert mappings() == count - 1


def test_memory_cannot_be_made_smaller_or_written_by_its_reader() -> None:
    writer = PayloadWriter(SIZE)
    with pytest.raises(PermissionError):
        os.ftruncate(writer.descriptor, 4096)
    reader = PayloadReader(writer.descriptor, SIZE, lambda _: None)
    view = reader.get(writer.put([b"y" * 5000], 5000, []), collections.deque())
    assert isinstance(view, memoryview) and view.readonly
    writer.close()


@pytest.mark.parametrize("size", [0, -1, 4096, SIZE + 1])
def test_a_size_that_is_none_is_refused(size: int) -> None:
    with pytest.raises(InvalidArgument, match=f"got size={size}, expected a multiple of 8 pages"):
        PayloadWriter(size)


@pytest.mark.parametrize("contents", [(SIZE - 10, 20), (0, SIZE + 1), (5, 0), (5, -1), (-1, 5)])
def test_contents_outside_of_the_memory_are_refused(contents: tuple[int, int]) -> None:
    writer = PayloadWriter(SIZE)
    reader = PayloadReader(writer.descriptor, SIZE, lambda _: None)
    with pytest.raises(InvalidArgument, match="expected them within"):
        reader.get(contents, collections.deque())
    writer.close()


def test_what_is_not_out_cannot_be_given_back() -> None:
    writer = PayloadWriter(SIZE)
    with pytest.raises(InvalidArgument, match="got place 64 given back"):
        writer.take_back(64)
    writer.close()


@pytest.mark.parametrize("kind", ["a pipe", "a file", "short", "unsealed"])
def test_what_is_no_memory_that_stays_is_not_mapped(kind: str, tmp_path: object) -> None:
    others: list[int] = []
    if kind == "a pipe":
        fd, other = os.pipe()
        others.append(other)
    elif kind == "a file":
        fd = os.open(f"{tmp_path}/file", os.O_RDWR | os.O_CREAT)
        os.ftruncate(fd, SIZE)
    elif kind == "unsealed":
        fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, SIZE)
    else:
        writer = PayloadWriter(SIZE // 2)
        fd = os.dup(writer.descriptor)
        writer.close()
    try:
        with pytest.raises(InvalidArgument, match="expected"):
            PayloadReader(fd, SIZE, lambda _: None)
    finally:
        for each in (fd, *others):
            os.close(each)


def test_without_descriptors_contents_of_any_size_travel_with_the_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writer = PayloadWriter(SIZE)

    def create(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", create)
    fds: list[int] = []
    assert put_all(writer, [bytes(SIZE + 1), None, b""], fds) == (bytes(SIZE + 1), None, b"")
    assert (writer.live, writer.overflows, fds) == (0, 1, [])
    writer.close()


def test_the_reader_never_has_more_descriptors_than_it_can_bear() -> None:
    writer = PayloadWriter(8 * mmap.PAGESIZE)
    reader = PayloadReader(writer.descriptor, writer.size, writer.take_back)
    held: list[object] = []
    for _ in range(300):
        fds: list[int] = []
        contents = writer.put([bytes(40000)], 40000, fds)
        held.append(reader.get(contents, collections.deque(fds)))
    assert (writer.live, writer.overflows) == (256, 300)
    assert {len(each) for each in held} == {40000}  # type: ignore[arg-type]
    held.clear()
    assert writer.live == 0
    writer.close()


def test_nothing_is_put_of_what_is_no_tensor() -> None:
    writer = PayloadWriter(SIZE)
    with pytest.raises(InvalidArgument, match="got a str, expected the contents of a tensor"):
        put_all(writer, [bytes(5000), "text"], [])
    assert writer.live == 0
    writer.close()
