"""Tensors in the device memory of a lane."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import SOON

from yais.engines.device_tensors import DeviceTensors
from yais.lane import Lanes
from yais.testing.cuda import FakeCuda

SIZES = st.lists(st.integers(0, 2000), max_size=8)


@given(SIZES)
def test_the_size_is_what_tensors_take(sizes: list[int]) -> None:
    total = DeviceTensors.size(sizes)
    with FakeCuda() as cuda:
        lanes = Lanes("gpu", threads={"execute": 1}, count=1, device=cuda.device())
        lanes.reserve(1 << 14, SOON, device=max(total, 1))
        with lanes.pool.acquire(SOON) as lane:
            tensors = DeviceTensors(lane)
            addresses = [tensors.reserve(size) for size in sizes]
            assert all(address % 256 == 0 for address in addresses)
            ends = [address + size for address, size in zip(addresses, sizes, strict=True)]
            assert all(end <= start for end, start in zip(ends, addresses[1:], strict=False))
            with pytest.raises(MemoryError, match="got 257 bytes to take on the device"):
                tensors.reserve(257)
        assert lanes.close(SOON)


def test_copies_arrive_in_their_order() -> None:
    with FakeCuda() as cuda:
        lanes = Lanes("gpu", threads={"execute": 1}, count=1, device=cuda.device())
        lanes.reserve(4096, SOON, device=1024)
        lease = lanes.pool.acquire(SOON)
        lane = lease.item
        tensors = DeviceTensors(lane)
        sources = [np.arange(5, dtype=np.int32), np.zeros((0, 3), np.float16), np.array(7, np.int64)]
        addresses = [tensors.copy_in(source) for source in sources]
        results = [
            tensors.copy_out(address, source.dtype, source.shape)
            for address, source in zip(addresses, sources, strict=True)
        ]
        lane.stream.sync()
        for source, result in zip(sources, results, strict=True):
            assert result.dtype == source.dtype and np.array_equal(result, source)
            assert result.shape == source.shape
        assert "1024" in repr(tensors)
        del result, results  # they hold the staging memory
        lease.release()
        assert lanes.close(SOON)


def test_what_cannot_be_copied_is_refused() -> None:
    with FakeCuda() as cuda:
        lanes = Lanes("gpu", threads={"execute": 1}, count=1, device=cuda.device())
        lanes.reserve(64, SOON, device=1024)
        lease = lanes.pool.acquire(SOON)
        tensors = DeviceTensors(lease.item)
        with pytest.raises(ValueError, match="expected a C-contiguous one"):
            tensors.copy_in(np.zeros((4, 4), np.float32)[:, ::2])
        with pytest.raises(MemoryError, match="expected at most 1024 left of the 1024 of lane 'gpu-0'"):
            tensors.copy_in(np.zeros(1025, np.uint8))
        with pytest.raises(ValueError, match="got size=-1"):
            tensors.reserve(-1)
        with pytest.raises(MemoryError, match="expected at most"):
            tensors.copy_out(tensors.reserve(8), np.uint8, (1 << 20,))
        lease.release()
        assert lanes.close(SOON)


def test_a_lane_without_device_memory_takes_nothing() -> None:
    tensors = DeviceTensors(SimpleNamespace(device=None, stream=None))  # type: ignore[arg-type]
    with pytest.raises(MemoryError, match="expected at most 0 left"):
        tensors.reserve(1)
