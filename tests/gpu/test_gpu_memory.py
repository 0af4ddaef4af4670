"""Memory of a GPU, pinned and managed memory, on the GPU itself."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from benchmarks.gpu_machine import AnyKernels
from yais.memory.cuda.device import CudaDevice
from yais.memory.pooled import PooledResource

MIB = 1 << 20


def pattern(size: int) -> np.ndarray:
    return np.random.default_rng(size).integers(0, 256, size, np.uint8)


@pytest.mark.parametrize("size", [1, 255, 4097, 3 * MIB + 5])
def test_bytes_come_back(gpu: CudaDevice, size: int) -> None:
    stream = gpu.stream()
    sent, back = pattern(size), np.zeros(size, np.uint8)
    with gpu.memory().allocate(size) as memory:
        assert memory.handle % 256 == 0
        assert gpu.statistics().held_bytes["device"] >= size
        stream.copy_in(memory.handle, sent)
        stream.copy_out(back, memory.handle)
        stream.sync()
    assert memory.size == 0
    np.testing.assert_array_equal(back, sent)
    stream.close()


def test_pinned_bytes_come_back(gpu: CudaDevice) -> None:
    stream, size = gpu.stream(), 4 * MIB
    with (
        gpu.staging().allocate(size) as source,
        gpu.staging().allocate(size) as target,
        gpu.memory().allocate(size) as first,
        gpu.memory().allocate(size) as second,
    ):
        sent, back = source.array(np.uint8), target.array(np.uint8)
        sent[:], back[:] = pattern(size), 0
        stream.copy_in(first.handle, sent)
        stream.copy(second.handle, first.handle, size)
        stream.copy_out(back, second.handle)
        stream.sync()
        np.testing.assert_array_equal(back, sent)
        del sent, back
    stream.close()


def test_staging_is_pinned(real_gpu: CudaDevice) -> None:
    """What the driver says of the pages decides whether copies are asynchronous."""
    driver = real_gpu.toolkit.driver
    with real_gpu, real_gpu.staging().allocate(2 * MIB) as buffer:
        kind = real_gpu.toolkit.call(
            "cuPointerGetAttribute",
            driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
            buffer.handle,
        )
        assert int(kind) == int(driver.CUmemorytype.CU_MEMORYTYPE_HOST)
    with real_gpu:
        (status, _) = driver.cuPointerGetAttribute(
            driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE, pattern(64).ctypes.data
        )
        assert int(status)  # ordinary memory the driver does not know


def test_a_pool_lends_pinned_memory_again(gpu: CudaDevice) -> None:
    pool = PooledResource(gpu.staging())
    buffer = pool.allocate(MIB)
    address = buffer.handle
    buffer.close()
    again = pool.allocate(MIB)
    assert again.handle == address
    again.close()
    assert pool.statistics().reused_total == 1
    pool.trim()


def test_managed_memory_is_the_hosts_and_the_gpus(gpu: CudaDevice, kernels: AnyKernels) -> None:
    if not gpu.properties.managed_memory:
        pytest.skip("this GPU has no managed memory on this machine")
    stream, count = gpu.stream(), 4096
    with gpu.managed().allocate(4 * count) as managed, gpu.memory().allocate(4 * count) as memory:
        x, y = np.arange(count, dtype=np.float32), np.zeros(count, np.float32)
        stream.copy_in(managed.handle, x)
        managed.prefetch(stream)
        kernels.twice(stream, managed.handle, memory.handle, count)
        stream.copy_out(y, memory.handle)
        stream.sync()
        np.testing.assert_array_equal(y, 2 * x)
    stream.close()


def test_more_than_there_is(gpu: CudaDevice) -> None:
    total = gpu.statistics().total_bytes
    with pytest.raises(MemoryError, match=str(2 * total)):
        gpu.memory().allocate(2 * total)
    with gpu.memory().allocate(MIB) as memory:  # and it goes on
        assert memory.size == MIB


def test_a_thousand_buffers_leave_nothing(real_gpu: CudaDevice) -> None:
    with real_gpu.memory().allocate(MIB):
        pass  # what the driver allocates for itself is there by now
    before = real_gpu.statistics().free_bytes
    for _ in range(1000):
        with real_gpu.memory().allocate(4 * MIB):
            pass
    assert real_gpu.statistics().free_bytes >= before - 4 * MIB


def test_what_nobody_has_any_more_goes_back(gpu: CudaDevice) -> None:
    held = gpu.statistics().held_bytes.get("device", 0)
    memory = gpu.memory().allocate(MIB)
    assert gpu.statistics().held_bytes["device"] == held + MIB
    del memory
    gc.collect()
    assert gpu.statistics().held_bytes["device"] == held
