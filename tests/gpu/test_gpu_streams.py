"""Streams, events, completions, graphs and the device guard, on the GPU itself."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from benchmarks.gpu_machine import AnyKernels
from yais.errors import FailedPrecondition
from yais.memory.cuda.device import CudaDevice
from yais.memory.cuda.error import CudaError

COUNT = 1 << 16
LONG = 100_000_000  # rounds: a second or so of an idle GPU, 0.1 s of a simulated one
SOON = 30.0


def floats(gpu: CudaDevice, count: int = COUNT):
    return gpu.memory().allocate(4 * count)


def test_the_order_of_a_stream(gpu: CudaDevice, kernels: AnyKernels) -> None:
    stream = gpu.stream()
    x, y = np.arange(COUNT, dtype=np.float32), np.zeros(COUNT, np.float32)
    with floats(gpu) as a, floats(gpu) as b:
        stream.copy_in(a.handle, x)
        for _ in range(5):
            kernels.twice(stream, a.handle, b.handle, COUNT)
            stream.copy(a.handle, b.handle, 4 * COUNT)
        stream.copy_out(y, a.handle)
        stream.sync()
    np.testing.assert_array_equal(y, 32 * x)
    stream.close()


def test_events_come_when_the_work_is_done(gpu: CudaDevice, kernels: AnyKernels) -> None:
    stream = gpu.stream()
    with floats(gpu) as a, floats(gpu) as b:
        early = stream.record()
        kernels.twice(stream, a.handle, b.handle, COUNT, LONG)
        late = stream.record()
        early.sync()
        assert early.done
        assert not late.done
        late.sync()
        assert late.done
    stream.close()


def test_a_stream_waits_for_another(gpu: CudaDevice, kernels: AnyKernels) -> None:
    first, second = gpu.stream(), gpu.stream()
    x, y = np.ones(COUNT, np.float32), np.zeros(COUNT, np.float32)
    with floats(gpu) as a, floats(gpu) as b:
        first.copy_in(a.handle, x)
        kernels.twice(first, a.handle, b.handle, COUNT, LONG // 4)
        second.wait(first.record())
        second.copy_out(y, b.handle)
        second.sync()
    np.testing.assert_array_equal(y, 2 * x)
    first.close()
    second.close()


def test_streams_run_side_by_side(gpu: CudaDevice, kernels: AnyKernels) -> None:
    slow, quick = gpu.stream(), gpu.stream()
    with floats(gpu) as a, floats(gpu) as b:
        kernels.twice(slow, a.handle, b.handle, 256, LONG)
        late = slow.record()
        kernels.twice(quick, a.handle, b.handle, 256)
        quick.sync()
        assert not late.done
        slow.sync()
    slow.close()
    quick.close()


def test_a_wait_leaves_the_interpreter_to_others(gpu: CudaDevice, kernels: AnyKernels) -> None:
    """Both kinds: a thread that waits, and a future that is waited for elsewhere."""
    stream = gpu.stream()
    with floats(gpu) as a, floats(gpu) as b:
        kernels.twice(stream, a.handle, b.handle, COUNT, LONG)
        future = stream.completed()
        waiter = threading.Thread(target=stream.sync)
        waiter.start()
        turns = 0
        while not future.done():
            turns += 1
            time.sleep(0)
        waiter.join(SOON)
        assert turns > 100  # with the lock held by the waits it would be one or two
        assert future.result(SOON) is None
    stream.close()


def test_completions_come_in_order_on_one_thread(gpu: CudaDevice, kernels: AnyKernels) -> None:
    stream = gpu.stream()
    order: list[tuple[int, str]] = []
    with floats(gpu) as a, floats(gpu) as b:
        futures = []
        for number in range(8):
            kernels.twice(stream, a.handle, b.handle, COUNT, 1000)
            future = stream.completed()
            future.add_done_callback(
                lambda _, number=number: order.append((number, threading.current_thread().name))
            )
            futures.append(future)
        for future in futures:
            future.result(SOON)
    stream.close()
    assert [number for number, _ in order] == list(range(8))


def test_a_graph_runs_again(gpu: CudaDevice, kernels: AnyKernels) -> None:
    with (
        gpu.staging().allocate(4 * COUNT) as source,
        gpu.staging().allocate(4 * COUNT) as target,
        floats(gpu) as a,
        floats(gpu) as b,
    ):
        check_graph(kernels, gpu, source.array(np.float32), target.array(np.float32), a.handle, b.handle)


def check_graph(kernels: AnyKernels, gpu: CudaDevice, x: np.ndarray, y: np.ndarray, a: int, b: int) -> None:
    stream, other = gpu.stream(), gpu.stream()

    def work() -> None:
        stream.copy_in(a, x)
        kernels.twice(stream, a, b, COUNT)
        stream.copy_out(y, b)

    x[:], y[:] = 1, 0
    graph = stream.capture(work)
    stream.sync()
    assert not y.any()  # captured, not done
    for number in range(1, 6):
        x[:] = number
        used = stream if number % 2 else other
        graph.launch(used)
        used.sync()
        assert (y == 2 * number).all()
    graph.close()
    with pytest.raises(FailedPrecondition, match="closed"):
        graph.launch(stream)
    stream.close()
    other.close()


def test_a_capture_that_fails_leaves_the_stream_usable(gpu: CudaDevice, kernels: AnyKernels) -> None:
    stream = gpu.stream()
    with floats(gpu) as a, floats(gpu) as b:

        def work() -> None:
            kernels.twice(stream, a.handle, b.handle, COUNT)
            raise LookupError("on purpose")

        with pytest.raises(LookupError):
            stream.capture(work)
        kernels.twice(stream, a.handle, b.handle, COUNT)
        stream.sync()
    stream.close()


def test_to_wait_within_a_capture_is_an_error(gpu: CudaDevice) -> None:
    stream = gpu.stream()
    with pytest.raises(CudaError):
        stream.capture(stream.sync)
    stream.sync()
    stream.close()


def test_closed_streams_refuse(gpu: CudaDevice) -> None:
    stream = gpu.stream()
    stream.close()
    stream.close()
    with pytest.raises(FailedPrecondition, match="closed"):
        stream.sync()


def test_events_are_used_again(gpu: CudaDevice) -> None:
    stream = gpu.stream()
    handles = set()
    for _ in range(100):
        event = stream.record()
        event.sync()
        handles.add(event.handle)
        del event
    assert len(handles) <= 2
    stream.close()


def test_the_guard_restores_what_was_current(gpu: CudaDevice) -> None:
    found: list[int] = []

    def current() -> int:
        return int(gpu.toolkit.call("cuCtxGetCurrent"))

    def elsewhere() -> None:
        found.append(current())
        with gpu:
            found.append(current())
            with gpu:
                found.append(current())
            found.append(current())
        found.append(current())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(SOON)
    none, *within, after = found
    assert none == after == 0
    assert len(set(within)) == 1
    assert within[0] != 0


def test_many_threads(gpu: CudaDevice, kernels: AnyKernels) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        try:
            stream = gpu.stream()
            x, y = np.full(COUNT, number, np.float32), np.zeros(COUNT, np.float32)
            with floats(gpu) as a, floats(gpu) as b:
                for _ in range(20):
                    stream.copy_in(a.handle, x)
                    kernels.twice(stream, a.handle, b.handle, COUNT)
                    stream.copy_out(y, b.handle)
                    stream.completed().result(SOON)
                    if not (y == 2 * number).all():
                        wrong.append(y[:4])
            stream.close()
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert wrong == []
