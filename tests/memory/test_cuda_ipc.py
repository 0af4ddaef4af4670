"""Memory of other processes."""

from __future__ import annotations

import numpy as np
import pytest

from yais.errors import InvalidArgument
from yais.memory.cuda.error import CudaError
from yais.testing.cuda import FakeCuda


@pytest.fixture
def cuda():
    with FakeCuda() as fake:
        yield fake


@pytest.fixture
def client():
    """Another process."""
    with FakeCuda() as fake:
        yield fake


@pytest.fixture
def theirs(client):
    with client.device().memory().allocate(100) as memory:
        yield memory


def test_what_one_writes_the_other_reads(cuda, client, theirs):
    handle = client.device().export(theirs)
    assert (type(handle), len(handle)) == (bytes, 64)
    with cuda.device().open_ipc(handle, 100) as memory:
        client.view(theirs.handle, 100)[:] = bytes(range(100))
        back = np.zeros(100, np.uint8)
        stream = cuda.device().stream()
        stream.copy_out(back, memory.handle)
        stream.sync()
        assert back.tolist() == list(range(100))
        assert cuda.device().statistics().held_bytes["ipc"] == 100
        assert cuda.held == {"ipc": 100}
    assert cuda.held == {}


def test_the_same_handle_is_opened_once(cuda, client, theirs):
    device, handle = cuda.device(), client.device().export(theirs)
    first, second, part = (device.open_ipc(handle, size) for size in (100, 100, 10))
    assert first.handle == second.handle == part.handle
    assert part.size == 10
    assert cuda.calls.count("cuIpcOpenMemHandle") == 1
    first.close()
    part.close()
    cuda.view(second.handle, 100)
    second.close()
    second.close()
    assert cuda.calls.count("cuIpcCloseMemHandle") == 1
    device.open_ipc(handle, 100).close()
    assert cuda.calls.count("cuIpcOpenMemHandle") == 2


@pytest.mark.parametrize(
    ("handle", "size", "message"),
    [
        (b"x" * 63, 8, "a CUDA handle of 63 bytes, expected 64"),
        (b"x" * 64, 8, "does not open on GPU 0 .*CUDA_ERROR_INVALID_VALUE"),
        (b"x" * 64, 0, "got 0 bytes of CUDA memory"),
        (b"x" * 64, -5, "got -5 bytes of CUDA memory"),
    ],
)
def test_what_is_no_handle(cuda, handle, size, message):
    with pytest.raises(InvalidArgument, match=message):
        cuda.device().open_ipc(handle, size)
    assert cuda.held == {}


def test_more_than_the_memory_has(cuda, client, theirs):
    handle = client.device().export(theirs)
    with pytest.raises(
        InvalidArgument, match="got 101 bytes of CUDA memory to open, expected at most its 100"
    ):
        cuda.device().open_ipc(handle, 101)
    assert cuda.held == {}


def test_memory_that_is_a_part_of_a_larger_piece(cuda, client, theirs, monkeypatch):
    """CUDA may share the whole block that a small allocation was cut from."""
    handle = client.device().export(theirs)
    found = cuda.toolkit.driver.cuMemGetAddressRange

    def within(address):
        status, start, size = found(address)
        return status, int(start) - 512, size + 512

    monkeypatch.setattr(cuda.toolkit.driver, "cuMemGetAddressRange", within)
    cuda.device().open_ipc(handle, 100).close()
    with pytest.raises(InvalidArgument, match="expected at most its 100"):
        cuda.device().open_ipc(handle, 101)


def test_memory_of_this_process(cuda):
    device = cuda.device()
    with device.memory().allocate(8) as memory, pytest.raises(InvalidArgument, match="another process"):
        device.open_ipc(device.export(memory), 8)


def test_memory_that_is_gone(cuda, client, theirs):
    handle = client.device().export(theirs)
    theirs.close()
    with pytest.raises(InvalidArgument, match="memory it still has"):
        cuda.device().open_ipc(handle, 8)


def test_only_device_memory_is_exported(cuda):
    device = cuda.device()
    with device.staging().allocate(8) as buffer, pytest.raises(CudaError, match="cuIpcGetMemHandle"):
        device.export(buffer)


def test_a_mapping_whose_size_is_unknown_is_closed(cuda, client, theirs):
    handle = client.device().export(theirs)
    cuda.fail("cuMemGetAddressRange", "CUDA_ERROR_UNKNOWN")
    with pytest.raises(CudaError, match="cuMemGetAddressRange"):
        cuda.device().open_ipc(handle, 8)
    assert cuda.held == {}
    cuda.device().open_ipc(handle, 8).close()
