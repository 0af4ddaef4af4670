"""Messages as bytes, in whatever pieces they arrive."""

from __future__ import annotations

import itertools
import pickle
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yais.errors import InvalidArgument
from yais.serving.frontends.link_frames import FrameReader, Message, encode_frame

values = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.binary(max_size=100),
    lambda each: st.tuples(each, each),
)
frames = st.tuples(st.lists(st.tuples(st.integers(0, 20), values, values), max_size=5), st.integers(0, 64))


def feed(reader: FrameReader, data: bytes) -> list[object]:
    """Give a reader all of it, as much at a time as it has room for."""
    got: list[object] = []
    while data:
        with reader.room() as room:
            size = min(len(room), len(data))
            assert size
            room[:size] = data[:size]
        got += reader.received(size)
        data = data[size:]
    return got


@given(st.lists(frames, max_size=5), st.sets(st.integers(1, 600), max_size=20))
@settings(deadline=None, max_examples=50)
def test_frames_come_out_whole_however_they_are_cut(
    sent: list[tuple[list[Message], int]], cuts: set[int]
) -> None:
    wire = b"".join(encode_frame(*each) for each in sent)
    reader = FrameReader()
    got: list[object] = []
    for start, end in itertools.pairwise([0, *sorted(cuts), max(len(wire), 601)]):
        got += feed(reader, wire[start:end])
    assert got == sent


def test_a_frame_may_be_larger_than_the_buffer() -> None:
    reader = FrameReader()
    large = [(1, b"x" * 1_000_000)]
    wire = encode_frame(large, 0) + encode_frame([(2,)], 3)
    assert feed(reader, wire) == [(large, 0), ([(2,)], 3)]
    with reader.room() as room:
        assert len(room) == 1 << 16  # the large buffer is gone


@pytest.mark.parametrize(
    "body",
    [b"garbage", b"", pickle.dumps({}), pickle.dumps([1]), pickle.dumps([()]), pickle.dumps([(1,)])[:-3]],
    ids=["garbage", "empty", "dict", "number", "nothing", "torn"],
)
def test_what_is_no_list_of_messages_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidArgument, match="got a frame"):
        feed(FrameReader(), struct.pack("<4sIQ", b"LINK", 0, len(body)) + body)


def test_what_is_no_frame_is_refused_at_once() -> None:
    with pytest.raises(InvalidArgument, match="got 0xffffffff, expected a frame, which begins"):
        feed(FrameReader(), b"\xff" * 16)
