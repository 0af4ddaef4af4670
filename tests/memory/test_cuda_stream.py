"""Streams, events, completions and graphs."""

from __future__ import annotations

import gc
import queue
import threading
import time

import numpy as np
import pytest

from yais.core.clock import Deadline
from yais.core.future import Future
from yais.errors import FailedPrecondition
from yais.memory.cuda.device import CudaDevice
from yais.memory.cuda.error import CudaError
from yais.testing import ManualClock
from yais.testing.cuda import FakeCuda

SOON = 20.0
SIZE = 4096


@pytest.fixture
def cuda():
    with FakeCuda(gpus=2) as fake:
        yield fake


class Gate:
    """A kernel that runs until it is let go."""

    def __init__(self, cuda, stream):
        self.started, self.opened = threading.Event(), threading.Event()
        self.done = cuda.submit(stream.handle, "compute", self._run, label="gate")

    def _run(self):
        self.started.set()
        assert self.opened.wait(SOON)

    def open(self):
        self.opened.set()


@pytest.fixture
def memory(cuda):
    with cuda.device().memory().allocate(SIZE) as memory:
        yield memory


class Pinned:
    """Pinned memory: an array with nothing but the buffer that keeps it."""

    def __init__(self, cuda):
        self.buffer = cuda.device().staging().allocate(SIZE)

    @property
    def array(self):
        return self.buffer.array(np.uint8)


@pytest.fixture
def pinned(cuda):
    pinned = Pinned(cuda)
    yield pinned
    pinned.buffer.close()


def test_a_stream_for_cuda_core(cuda):
    device = cuda.device()
    stream = device.stream()
    cuda.toolkit.call("cuCtxSetCurrent", 0)
    core = stream.core()
    assert isinstance(core, cuda.toolkit.core.Stream) and core.handle == stream.handle
    assert int(cuda.toolkit.call("cuCtxGetCurrent"))  # the GPU's context, in which kernels are launched
    stream.close()
    with pytest.raises(FailedPrecondition, match="expected an open stream"):
        stream.core()


def test_a_round_trip_in_the_order_of_the_calls(cuda, memory, pinned):
    stream, back = cuda.device().stream(), np.zeros(16, np.uint8)
    pinned.array[:] = 7
    stream.copy_in(memory.handle, pinned.array)
    stream.copy(memory.handle + 8, memory.handle, 4)
    stream.copy_in(memory.handle, np.arange(8, dtype=np.uint8))
    stream.copy_out(back, memory.handle)
    stream.sync()
    assert back.tolist() == [*range(8), 7, 7, 7, 7, 7, 7, 7, 7]
    assert [work.kind for work in cuda.gpus[0].timeline] == ["copy_in", "compute", "copy_in", "copy_out"]


def test_a_copy_from_pinned_memory_is_read_late_and_from_other_memory_at_once(cuda, memory, pinned):
    stream = cuda.device().stream()
    gate = Gate(cuda, stream)
    other = np.full(8, 1, np.uint8)
    pinned.array[:8] = 1
    stream.copy_in(memory.handle, pinned.array[:8])
    stream.copy_in(memory.handle + 8, other)
    pinned.array[:8] = other[:] = 2
    gate.open()
    stream.sync()
    assert cuda.view(memory.handle, 16).tolist() == [2] * 8 + [1] * 8


def test_a_copy_to_pageable_memory_is_waited_for(cuda, memory, pinned):
    stream = cuda.device().stream()
    gate = Gate(cuda, stream)
    stream.copy_out(pinned.array, memory.handle)  # returns
    back = np.ones(4, np.uint8)
    thread = threading.Thread(target=stream.copy_out, args=(back, memory.handle))
    thread.start()
    assert gate.started.wait(SOON)
    assert thread.is_alive()
    gate.open()
    thread.join(SOON)
    assert not back.any()


def test_arrays_that_cannot_be_copied(cuda, memory):
    stream = cuda.device().stream()
    frozen = np.zeros(4, np.uint8)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="strides"):
        stream.copy_in(memory.handle, np.zeros((4, 4), np.uint8)[:, 1])
    with pytest.raises(ValueError, match="strides"):
        stream.copy_out(np.zeros((4, 4), np.uint8)[:, 1], memory.handle)
    with pytest.raises(ValueError, match="writeable=False"):
        stream.copy_out(frozen, memory.handle)
    stream.copy_in(memory.handle, np.zeros((0, 3), np.uint8))
    assert "cuMemcpyAsync" not in cuda.calls


@pytest.mark.parametrize("offset", [SIZE, SIZE - 1, -1])
def test_a_copy_out_of_bounds_is_refused_and_the_stream_goes_on(cuda, memory, pinned, offset):
    stream = cuda.device().stream()
    with pytest.raises(CudaError, match="cuMemcpyAsync: CUDA_ERROR_INVALID_VALUE"):
        stream.copy(memory.handle + offset, memory.handle, 2)
    stream.copy_in(memory.handle, pinned.array)
    stream.sync()


def test_an_event_comes_after_what_was_before_it(cuda):
    stream = cuda.device().stream()
    first, gate = stream.record(), Gate(cuda, stream)
    second = stream.record()
    assert first.done
    assert not second.done
    waiter = threading.Thread(target=second.sync)
    waiter.start()
    gate.open()
    waiter.join(SOON)
    assert not waiter.is_alive()
    assert second.done
    assert "done" in repr(second)


def test_an_event_of_cuda_is_not_used_again_while_somebody_has_it(cuda):
    stream = cuda.device().stream()
    kept, dropped = stream.record(), stream.record()
    handle = dropped.handle
    del dropped
    gc.collect()
    again, other = stream.record(), stream.record()
    assert again.handle == handle
    assert len({kept.handle, again.handle, other.handle}) == 3
    assert cuda.objects["FakeEvent"] == 3
    for _ in range(50):
        stream.sync()
    assert cuda.objects["FakeEvent"] == 4


def test_an_event_that_failed_to_be_recorded_is_spare_again(cuda):
    stream = cuda.device().stream()
    stream.sync()
    cuda.fail("cuEventRecord", "CUDA_ERROR_INVALID_HANDLE")
    with pytest.raises(CudaError, match="cuEventRecord"):
        stream.record()
    gc.collect()
    stream.sync()
    assert cuda.objects["FakeEvent"] == 1


def test_a_stream_waits_for_an_event_of_another(cuda, memory, pinned):
    first, second = cuda.device().stream(), cuda.device().stream()
    gate = Gate(cuda, first)
    pinned.array[:] = 3
    first.copy_in(memory.handle, pinned.array)
    second.wait(first.record())
    back = cuda.device().staging().allocate(SIZE)
    second.copy_out(back.array(np.uint8), memory.handle)
    done = second.completed()
    assert gate.started.wait(SOON)
    assert not done.done()
    gate.open()
    done.result(SOON)
    assert (back.array(np.uint8) == 3).all()
    back.close()


def test_streams_of_two_gpus(cuda, memory):
    first, second = cuda.device(0).stream(), cuda.device(1).stream()
    gate = Gate(cuda, first)
    second.wait(first.record())  # events reach across GPUs
    done = second.completed()
    assert not done.done()
    gate.open()
    done.result(SOON)
    with pytest.raises(CudaError, match="cuMemcpyAsync"):
        second.copy_out(np.zeros(4, np.uint8), memory.handle)


def test_completions_come_in_order_on_one_thread_of_the_stream(cuda):
    stream, called = cuda.device().stream(), queue.SimpleQueue()
    gate = Gate(cuda, stream)
    for number in range(5):
        stream.completed().add_done_callback(
            lambda _, n=number: called.put((n, threading.current_thread().name))
        )
    assert called.empty()
    gate.open()
    seen = [called.get(timeout=SOON) for _ in range(5)]
    assert [number for number, _ in seen] == list(range(5))
    assert len({name for _, name in seen}) == 1
    assert seen[0][1].startswith("gpu0-done-")


def test_a_completion_that_is_done_keeps_no_event(cuda):
    device = cuda.device()
    stream = device.stream()
    stream.completed().result(SOON)
    deadline = Deadline.after(SOON)
    while not deadline.expired() and "0 events" in repr(device.events):
        time.sleep(0.001)
    stream.sync()
    assert cuda.objects["FakeEvent"] == 1


def test_a_completion_that_is_cancelled_disturbs_no_other(cuda):
    stream = cuda.device().stream()
    gate = Gate(cuda, stream)
    first, second = stream.completed(), stream.completed()
    assert first.cancel()
    gate.open()
    assert second.result(SOON) is None
    assert first.cancelled()


def test_a_callback_that_raises_disturbs_no_other(cuda, caplog):
    stream = cuda.device().stream()
    gate = Gate(cuda, stream)
    first, second = stream.completed(), stream.completed()
    first.add_done_callback(lambda _: 1 / 0)
    gate.open()
    second.result(SOON)
    assert "ZeroDivisionError" in caplog.text


def test_a_completion_has_the_error_of_the_work(cuda, caplog):
    stream = cuda.device(1).stream()
    cuda.submit(stream.handle, "compute", lambda: 1 / 0)
    with pytest.raises(CudaError, match="CUDA_ERROR_LAUNCH_FAILED"):
        stream.completed().result(SOON)
    with pytest.raises(CudaError, match="start the process again"):
        stream.sync()
    assert cuda.device(0).stream().sync() is None  # the other GPU works
    stream.close()
    assert stream.closed


def test_close_waits_and_finishes_the_futures(cuda):
    stream = cuda.device().stream()
    gate = Gate(cuda, stream)
    future = stream.completed()
    closer = threading.Thread(target=stream.close)
    closer.start()
    assert gate.started.wait(SOON)
    assert closer.is_alive()
    gate.open()
    closer.join(SOON)
    assert future.done()
    assert cuda.objects == {"FakeEvent": 1} or cuda.objects == {"FakeEvent": 2}
    stream.close()
    assert "closed" in repr(stream)


def test_close_waits_for_the_callbacks(cuda):
    stream, entered, opened = cuda.device().stream(), threading.Event(), threading.Event()
    gate = Gate(cuda, stream)

    def callback(_):
        entered.set()
        opened.wait(SOON)

    stream.completed().add_done_callback(callback)
    last = stream.completed()
    gate.open()
    assert entered.wait(SOON)
    closer = threading.Thread(target=stream.close)
    closer.start()
    closer.join(0.05)
    assert closer.is_alive()
    opened.set()
    closer.join(SOON)
    assert last.done()


def test_close_waits_for_work_that_nobody_waits_for(cuda):
    stream = cuda.device().stream()
    gate = Gate(cuda, stream)
    closer = threading.Thread(target=stream.close)
    closer.start()
    assert gate.started.wait(SOON)
    closer.join(0.05)
    assert closer.is_alive()
    gate.open()
    closer.join(SOON)
    assert gate.done.done()


@pytest.mark.parametrize(
    "use",
    [
        lambda s, m: s.copy_in(m, np.zeros(4, np.uint8)),
        lambda s, m: s.copy_out(np.zeros(4, np.uint8), m),
        lambda s, m: s.copy(m, m, 0),
        lambda s, m: s.record(),
        lambda s, m: s.sync(),
        lambda s, m: s.completed(),
        lambda s, m: s.capture(lambda: None),
    ],
)
def test_a_closed_stream_is_refused(cuda, memory, use):
    stream = cuda.device().stream()
    stream.close()
    before = len(cuda.calls)
    with pytest.raises(FailedPrecondition, match="expected an open stream"):
        use(stream, memory.handle)
    assert len(cuda.calls) == before


def test_a_stream_may_be_closed_by_a_callback_of_its_own(cuda):
    stream, closed = cuda.device().stream(), Future()
    gate = Gate(cuda, stream)

    def close(_):
        stream.close()
        closed.set_result(stream.closed)

    stream.completed().add_done_callback(close)
    gate.open()
    assert closed.result(SOON)


def test_a_stream_that_is_dropped_is_destroyed(cuda):
    device = cuda.device()
    stream = device.stream()
    future = stream.completed()
    (thread,) = [thread for thread in threading.enumerate() if thread.name.startswith("gpu0-done-")]
    del stream
    future.result(SOON)
    gc.collect()
    device.statistics()
    assert "FakeStream" not in cuda.objects
    thread.join(SOON)
    assert not thread.is_alive()


def test_callbacks_of_a_stream_that_is_dropped_may_free(cuda):
    """Whoever destroys the stream is freeing meanwhile, and does not wait for them."""
    device = cuda.device()
    stream, memory = device.stream(), device.memory().allocate(SIZE)
    gate, freed = Gate(cuda, stream), Future()
    stream.completed().add_done_callback(lambda _: freed.set_result(memory.close()))
    assert gate.started.wait(SOON)
    del stream
    gc.collect()
    thread = threading.Thread(target=device.statistics, daemon=True)
    thread.start()
    while "cuEventQuery" not in cuda.calls:
        assert thread.is_alive()
        time.sleep(0.001)
    gate.open()
    thread.join(SOON)
    assert not thread.is_alive()
    assert freed.result(SOON) is None
    assert not cuda.held and "FakeStream" not in cuda.objects


def test_futures_of_a_stream_that_is_dropped_outlive_the_device(cuda):
    """It has waited for the work, and not for who is told of it."""
    device = CudaDevice(0, toolkit=cuda.toolkit)
    stream, entered, opened = device.stream(), threading.Event(), threading.Event()
    gate = Gate(cuda, stream)
    stream.completed().add_done_callback(lambda _: entered.set() or opened.wait(SOON))
    last = stream.completed()
    gate.open()
    assert entered.wait(SOON)
    del stream
    gc.collect()
    assert device.close(SOON)
    assert not last.done()
    opened.set()
    assert last.result(SOON) is None


def test_a_graph_reads_what_is_there_when_it_runs(cuda, memory, pinned):
    stream, other = cuda.device().stream(), cuda.device().stream()
    runs = []

    def work():
        stream.copy_in(memory.handle, pinned.array)
        cuda.submit(stream.handle, "compute", lambda: runs.append(cuda.view(memory.handle, 1)[0]))

    graph = stream.capture(work)
    stream.sync()
    assert runs == []
    for number, used in enumerate((stream, other, stream)):
        pinned.array[:] = number
        graph.launch(used)
        used.sync()
    assert runs == [0, 1, 2]
    graph.close()
    graph.close()
    with pytest.raises(FailedPrecondition, match="closed graph"):
        graph.launch(stream)
    assert "FakeGraph" not in cuda.objects


@pytest.mark.parametrize("spoil", ["sync", "query", "raise"])
def test_a_capture_that_cannot_be_leaves_nothing(cuda, memory, pinned, spoil):
    stream = cuda.device().stream()

    def work():
        stream.copy_in(memory.handle, pinned.array)
        if spoil == "raise":
            raise LookupError("on purpose")
        event = stream.record()
        if spoil == "sync":
            event.sync()
        else:
            with pytest.raises(CudaError, match="CAPTURED_EVENT"):
                _ = event.done

    expected = LookupError if spoil == "raise" else CudaError
    with pytest.raises(expected):
        stream.capture(work)
    assert "FakeGraph" not in cuda.objects
    stream.copy_in(memory.handle, pinned.array)
    stream.sync()


def test_to_free_memory_elsewhere_does_not_disturb_a_capture(cuda, memory, pinned):
    device = cuda.device()
    stream, spare = device.stream(), device.memory().allocate(8)

    def work():
        stream.copy_in(memory.handle, pinned.array)
        spare.close()  # waits for the device's streams, but for this one

    graph = stream.capture(work)
    graph.launch(stream)
    stream.sync()
    graph.close()


def test_a_graph_that_is_dropped_is_destroyed(cuda):
    device = cuda.device()
    graph = device.stream().capture(lambda: None)
    assert cuda.objects["FakeGraph"] == 1
    del graph
    gc.collect()
    device.statistics()
    assert "FakeGraph" not in cuda.objects


def test_others_take_it_for_a_stream(cuda):
    stream = cuda.device().stream()
    assert stream.__cuda_stream__() == (0, stream.handle)


def test_copies_overlap_where_there_are_engines(cuda):
    clock = ManualClock()
    with FakeCuda(clock=clock, copy_seconds=lambda size: size / 1e9, engines={"copy_in": 1}) as fake:
        device = fake.device()
        memory, pinned = device.memory().allocate(2000), device.staging().allocate(2000)
        streams = [device.stream(), device.stream()]
        for index, stream in enumerate(streams):
            stream.copy_in(memory.handle + 1000 * index, pinned.array(np.uint8)[:1000])
        events = [stream.record() for stream in streams]
        clock.advance_to(1000)
        events[0].sync()
        assert not events[1].done  # one engine
        clock.advance_to(2000)
        events[1].sync()
        assert [(w.start, w.end) for w in fake.gpus[0].timeline] == [(0, 1000), (1000, 2000)]
        memory.close()
        pinned.close()
