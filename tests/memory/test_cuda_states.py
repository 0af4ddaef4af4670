"""Copies, graphs and memory in any order: the bytes are those that were put there, and nothing is lost."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from yais.testing.cuda import FakeCuda

SIZE = 32


class Piece:
    """Memory of one stream. Hypothesis keeps this, so that dropping the memory is ours."""

    def __init__(self, memory, stream):
        self.memory, self.stream = memory, stream


class CudaMachine(RuleBasedStateMachine):
    """A GPU with some memory and two streams, each piece of memory used by one of them."""

    def __init__(self):
        super().__init__()
        self.cuda = FakeCuda(memory=4096)
        self.device = self.cuda.device()
        self.streams = [self.device.stream(), self.device.stream()]
        self.expected = {}  # by piece
        self.seen = []  # buffers that a copy fills, and what with
        self.sources = []

    pieces = Bundle("pieces")

    @rule(target=pieces, stream=st.sampled_from([0, 1]))
    def allocate(self, stream):
        try:
            memory = self.device.memory().allocate(SIZE)
        except MemoryError:
            assert len(self.expected) == 4096 // SIZE
            memory = None
        if memory is not None:
            self.expected[memory] = None
        return Piece(memory, stream)

    @rule(piece=consumes(pieces), dropped=st.booleans())
    def free(self, piece, dropped):
        memory, piece.memory = piece.memory, None
        self.expected.pop(memory, None)
        if memory is not None and not dropped:
            memory.close()

    @rule(piece=pieces, value=st.integers(0, 255), pinned=st.booleans())
    def copy_in(self, piece, value, pinned):
        memory, stream = piece.memory, piece.stream
        if memory is None:
            return
        if pinned:
            source = self.device.staging().allocate(SIZE)
            self.sources.append(source)
            array = source.array(np.uint8)
        else:
            array = np.empty(SIZE, np.uint8)
        array[:] = value
        self.streams[stream].copy_in(memory.handle, array)
        if not pinned:
            array[:] = 0
        self.expected[memory] = value

    @rule(origin=pieces, end=pieces)
    def copy(self, origin, end):
        first, one, second, other = origin.memory, origin.stream, end.memory, end.stream
        if first is None or second is None or first is second:
            return
        self.streams[other].wait(self.streams[one].record())
        self.streams[other].copy(second.handle, first.handle, SIZE)
        self.streams[one].wait(self.streams[other].record())  # who writes to the source next comes later
        self.expected[second] = self.expected[first]

    @rule(piece=pieces)
    def copy_out(self, piece):
        memory, stream = piece.memory, piece.stream
        if memory is None or self.expected[memory] is None:
            return
        buffer = self.device.staging().allocate(SIZE)
        self.streams[stream].copy_out(buffer.array(np.uint8), memory.handle)
        self.seen.append((buffer, self.expected[memory]))

    @rule(piece=pieces, value=st.integers(0, 255))
    def graph(self, piece, value):
        memory, stream = piece.memory, piece.stream
        if memory is None:
            return
        source = self.device.staging().allocate(SIZE)
        source.array(np.uint8)[:] = value
        graph = self.streams[stream].capture(
            lambda: self.streams[stream].copy_in(memory.handle, source.array(np.uint8))
        )
        graph.launch(self.streams[stream])
        graph.close()
        source.close()
        self.expected[memory] = value

    @rule(stream=st.sampled_from([0, 1]), future=st.booleans())
    def wait(self, stream, future):
        if future:
            self.streams[stream].completed().result(20)
        else:
            self.streams[stream].sync()

    @rule()
    def look(self):
        for stream in self.streams:
            stream.sync()
        for buffer, value in self.seen:
            assert (buffer.array(np.uint8) == value).all()
            buffer.close()
        self.seen.clear()
        for source in self.sources:
            source.close()
        self.sources.clear()

    @rule(stream=st.sampled_from([0, 1]))
    def replace_a_stream(self, stream):
        self.streams[stream].close()
        self.streams[stream] = self.device.stream()

    @invariant()
    def all_is_counted(self):
        assert self.device.statistics().held_bytes.get("device", 0) == SIZE * len(self.expected)
        assert self.cuda.held.get("device", 0) == SIZE * len(self.expected)

    def teardown(self):
        self.look()
        for memory in self.expected:
            memory.close()
        assert self.cuda.close(20)
        assert self.cuda.held == {}
        assert self.cuda.objects == {}


TestCudaMachine = CudaMachine.TestCase
TestCudaMachine.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
