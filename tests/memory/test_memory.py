"""Host memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from yais.memory.host import HostMemoryResource
from yais.memory.resource import MemoryResource


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
