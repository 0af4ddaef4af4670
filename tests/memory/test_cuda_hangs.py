"""A stream that does not come to an end: what is to be freed waits for it, and nobody else does."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from yais.memory.cuda import device as module
from yais.memory.cuda.device import CudaDevice
from yais.testing.cuda import FakeCuda

SOON = 20.0
PATIENCE = 0.05


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    monkeypatch.setattr(module, "_PATIENCE", PATIENCE)
    with FakeCuda() as fake:
        yield fake


def hang(cuda: FakeCuda, stream: Any) -> threading.Event:
    """Let a stream do nothing until the event that is returned is set."""
    gate = threading.Event()
    cuda.submit(stream.handle, "compute", lambda: gate.wait(SOON))
    return gate


def test_memory_is_freed_later(cuda: FakeCuda) -> None:
    device = cuda.device()
    stream = device.stream()
    memory, other = (device.memory().allocate(64) for _ in range(2))
    gate = hang(cuda, stream)
    start = time.monotonic()
    memory.close()
    with device.memory().allocate(64):
        assert device.statistics().held_bytes["device"] == 2 * 64
    assert time.monotonic() - start < SOON / 2
    assert cuda.held["device"] == 4 * 64 - 64  # that of the block waits as well
    gate.set()
    stream.sync()
    other.close()
    assert not cuda.held


def test_many_who_free_do_not_wait_for_each_other_for_long(cuda: FakeCuda) -> None:
    device = cuda.device()
    gate = hang(cuda, device.stream())
    pieces = [device.memory().allocate(64) for _ in range(4)]
    threads = [threading.Thread(target=piece.close) for piece in pieces]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert not any(thread.is_alive() for thread in threads) and cuda.held["device"] == 4 * 64
    gate.set()


def test_a_graph_is_destroyed_at_once(cuda: FakeCuda) -> None:
    """It holds memory of the GPU, and the driver frees one that is executing when that is over."""
    device = cuda.device()
    stream = device.stream()
    graph = stream.capture(lambda: cuda.submit(stream.handle, "compute", lambda: None) and None)
    gate = hang(cuda, device.stream())
    graph.close()
    assert not cuda.objects.get("FakeGraph")
    gate.set()


@pytest.mark.parametrize("cyclic", [False, True])
def test_a_stream_that_nobody_has_is_waited_for(cuda: FakeCuda, cyclic: bool) -> None:
    device = cuda.device()
    stream = device.stream()
    holder: list[Any] = [stream]
    if cyclic:
        holder.append(holder)
    memory = device.memory().allocate(64)
    seen: list[bool] = []
    gate = threading.Event()
    cuda.submit(stream.handle, "host", lambda: gate.wait(SOON))
    cuda.submit(stream.handle, "compute", lambda: seen.append(bool(cuda.view(address, 64))))
    address = memory.handle
    del stream, holder
    gc.collect()
    memory.close()
    assert cuda.held["device"] == 64 and cuda.objects["FakeStream"] == 1
    gate.set()
    assert device.close(SOON)
    assert seen == [True] and not cuda.objects.get("FakeStream")


def test_a_device_that_hangs_is_not_closed(cuda: FakeCuda) -> None:
    device = CudaDevice(0, toolkit=cuda.toolkit)
    gate = hang(cuda, device.stream())
    assert not device.close(0.02) and not device.closed
    gate.set()
    assert device.close(SOON)
