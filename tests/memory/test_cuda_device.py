"""GPUs: contexts, guards, several of them, and their end."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from yais.errors import FailedPrecondition
from yais.memory.cuda.device import CudaDevice
from yais.memory.cuda.error import CudaError
from yais.testing.cuda import FakeCuda

SOON = 20.0


@pytest.fixture
def cuda():
    with FakeCuda(gpus=2) as fake:
        yield fake


def current(device) -> int:
    return int(device.toolkit.call("cuCtxGetCurrent"))


def on_a_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join(SOON)
    return found[0]


def test_a_gpu_that_is_not_there(cuda):
    for index in (2, -1):
        with pytest.raises(FailedPrecondition, match=f"got GPU {index}, expected one of the 2"):
            CudaDevice(index, toolkit=cuda.toolkit)
    assert repr(cuda.device(1)) == "<CudaDevice 1: Fake GPU>"


def test_it_is_made_current_where_it_is_not(cuda):
    first, second = cuda.device(0), cuda.device(1)

    def use():
        seen = [current(first)]
        for device in (first, first, second, first):
            device.activate()
            seen.append(current(first))
        return seen

    none, one, same, other, again = on_a_thread(use)
    assert none == 0
    assert one == same == again != other != 0
    first.activate()
    before = cuda.calls.count("cuCtxSetCurrent")
    first.activate()
    assert cuda.calls.count("cuCtxSetCurrent") == before


def test_the_guard_restores_what_was_current(cuda):
    first, second = cuda.device(0), cuda.device(1)

    def use():
        seen = [current(first)]
        with first as guarded:
            assert guarded is first
            seen.append(current(first))
            with second, first, second:
                seen.append(current(first))
            seen.append(current(first))
            with pytest.raises(ZeroDivisionError), second:
                raise ZeroDivisionError
            seen.append(current(first))
        seen.append(current(first))
        return seen

    before, outer, inner, after, raised, end = on_a_thread(use)
    assert before == end == 0
    assert outer == after == raised
    assert inner != outer


def test_every_call_works_on_a_thread_that_never_saw_the_gpu(cuda):
    device = cuda.device()
    stream, buffer = device.stream(), device.staging().allocate(16)
    memory = device.memory().allocate(16)

    def use():
        stream.copy_in(memory.handle, buffer.array(np.uint8))
        event = stream.record()
        stream.wait(event)
        event.sync()
        stream.sync()
        stream.completed().result(SOON)
        graph = stream.capture(lambda: stream.copy(memory.handle, memory.handle + 8, 8))
        graph.launch(stream)
        graph.close()
        device.staging().allocate(8).close()
        device.managed().allocate(8).close()
        device.core()
        device.statistics()
        memory.close()
        stream.close()
        return True

    assert on_a_thread(use)
    first, second = device.stream().record(), device.stream().record()
    assert on_a_thread(lambda: first.done)
    assert on_a_thread(lambda: [second.sync(), second.done][1])
    spare = device.memory().allocate(8)
    assert on_a_thread(lambda: [spare.close(), spare.size][1]) == 0
    buffer.close()


def test_what_belongs_to_one_gpu_does_not_work_on_the_other(cuda):
    first, second = cuda.device(0), cuda.device(1)
    theirs = first.stream().record()
    stream = second.stream()
    second.activate()
    with pytest.raises(CudaError, match="cuEventRecord: CUDA_ERROR_INVALID_HANDLE"):
        second.toolkit.call("cuEventRecord", theirs.handle, stream.raw)
    memory = first.memory().allocate(8)
    assert first.statistics().free_bytes == second.statistics().free_bytes - 8
    graph = first.stream().capture(lambda: None)
    with pytest.raises(CudaError, match="cuGraphLaunch"):
        graph.launch(stream)
    graph.close()
    memory.close()


def test_core_is_current(cuda):
    def use():
        return cuda.device(1).core().device_id, current(cuda.device(1))

    index, context = on_a_thread(use)
    assert index == 1
    assert context == on_a_thread(lambda: [cuda.device(1).activate(), current(cuda.device(1))][1])


def test_the_end(cuda):
    device = CudaDevice(0, toolkit=cuda.toolkit)
    stream, memory = device.stream(), device.memory().allocate(8)
    assert not device.close(SOON)  # somebody has memory
    stream.sync()
    memory.close()
    assert device.close(SOON)
    assert device.close(SOON)
    assert (device.closed, stream.closed, cuda.objects, cuda.held) == (True, True, {}, {})
    assert cuda.calls.count("cuDevicePrimaryCtxRelease") == 1
    assert "closed" in repr(device)
    resource = device.memory()
    for use in (device.activate, device.stream, device.statistics, device.__enter__):
        with pytest.raises(FailedPrecondition, match="expected an open device"):
            use()
    with pytest.raises(FailedPrecondition, match="expected an open device"):
        resource.allocate(8)


def test_the_end_waits_for_work_as_long_as_it_is_told(cuda):
    device = CudaDevice(0, toolkit=cuda.toolkit)
    stream, opened = device.stream(), threading.Event()
    cuda.submit(stream.handle, "compute", lambda: opened.wait(SOON))
    assert not device.close(0.01)
    assert not stream.closed
    opened.set()
    assert device.close(SOON)


def test_the_end_of_a_gpu_that_has_failed(cuda, caplog):
    device = CudaDevice(0, toolkit=cuda.toolkit)
    stream = device.stream()
    memory = device.memory().allocate(8)
    cuda.submit(stream.handle, "compute", lambda: 1 / 0)
    future = stream.completed()
    assert isinstance(future.exception(SOON), CudaError)
    memory.close()
    assert device.close(SOON)
    assert "could not free memory" in caplog.text


def test_events_that_come_back_after_the_end(cuda):
    device = CudaDevice(0, toolkit=cuda.toolkit)
    event = device.stream().record()
    assert device.close(SOON)
    del event  # nothing happens
    assert cuda.objects == {"FakeEvent": 1}
