"""The fake CUDA does what the real one does, or is stricter."""

from __future__ import annotations

import ctypes
import threading

import numpy as np
import pytest

from yais.memory.cuda.device import CudaDevice
from yais.memory.cuda.error import CudaError
from yais.testing.cuda import FakeCuda
from yais.testing.cuda_types import CUresult

SOON = 20.0


@pytest.fixture
def cuda():
    with FakeCuda(gpus=2) as fake:
        yield fake


def status(cuda, function, *arguments) -> str:
    return (
        getattr(cuda.toolkit.driver, function)(*arguments)[0]
        .name.removeprefix("CUDA_")
        .removeprefix("ERROR_")
    )


class Blocked:
    """A stream that stands still until it is let go."""

    def __init__(self, cuda, device):
        self.stream, self.opened = device.stream(), threading.Event()
        cuda.submit(self.stream.handle, "compute", lambda: self.opened.wait(SOON))

    def __enter__(self):
        return self.stream

    def __exit__(self, *_):
        self.opened.set()


def test_nothing_works_without_a_context(cuda):
    def use():
        return [
            status(cuda, function, *arguments)
            for function, arguments in (
                ("cuMemAlloc", (8,)),
                ("cuStreamCreate", (1,)),
                ("cuEventCreate", (3,)),
                ("cuMemGetInfo", ()),
                ("cuMemHostRegister", (4096, 8, 1)),
            )
        ]

    cuda.device()
    found = []
    thread = threading.Thread(target=lambda: found.extend(use()))
    thread.start()
    thread.join(SOON)
    assert found == ["INVALID_CONTEXT"] * 5
    assert status(cuda, "cuCtxSetCurrent", 1234) == "INVALID_CONTEXT"


def test_a_context_that_was_released(cuda):
    device = CudaDevice(1, toolkit=cuda.toolkit)
    device.activate()
    assert status(cuda, "cuMemAlloc", 0) == "INVALID_VALUE"
    device.close()
    assert status(cuda, "cuMemAlloc", 8) == "CONTEXT_IS_DESTROYED"
    assert status(cuda, "cuDevicePrimaryCtxRelease", 1) == "INVALID_CONTEXT"
    assert status(cuda, "cuDeviceGet", 2) == "INVALID_DEVICE"
    cuda.toolkit.driver.cuCtxSetCurrent(0)


def test_what_is_freed_or_destroyed_twice(cuda):
    with cuda.device():
        (_, address) = cuda.toolkit.driver.cuMemAlloc(8)
        assert status(cuda, "cuMemFreeHost", address) == "INVALID_VALUE"
        assert status(cuda, "cuMemFree", address + 1) == "INVALID_VALUE"
        assert status(cuda, "cuMemFree", address) == "SUCCESS"
        assert status(cuda, "cuMemFree", address) == "INVALID_VALUE"
        for create, destroy, flags in (
            ("cuStreamCreate", "cuStreamDestroy", 1),
            ("cuEventCreate", "cuEventDestroy", 3),
        ):
            (_, handle) = getattr(cuda.toolkit.driver, create)(flags)
            assert status(cuda, destroy, handle) == "SUCCESS"
            assert status(cuda, destroy, handle) == "INVALID_HANDLE"
        assert status(cuda, "cuEventCreate", 0) == "INVALID_VALUE"  # one that spins
        assert status(cuda, "cuIpcCloseMemHandle", address) == "INVALID_VALUE"


def test_memory_of_the_host_is_registered_once(cuda):
    memory = np.zeros(64, np.uint8)
    address = memory.ctypes.data
    with cuda.device():
        assert status(cuda, "cuMemHostUnregister", address) == "HOST_MEMORY_NOT_REGISTERED"
        assert status(cuda, "cuMemHostRegister", address, 64, 1) == "SUCCESS"
        assert status(cuda, "cuMemHostRegister", address + 8, 8, 1) == "HOST_MEMORY_ALREADY_REGISTERED"
        assert cuda.held == {"pinned": 64}
        assert status(cuda, "cuMemFreeHost", address) == "INVALID_VALUE"
        assert status(cuda, "cuMemHostUnregister", address) == "SUCCESS"
        assert status(cuda, "cuMemHostUnregister", address) == "HOST_MEMORY_NOT_REGISTERED"


@pytest.mark.parametrize("end", ["target", "source", "pinned"])
def test_memory_that_is_freed_before_the_copy_runs(cuda, end):
    device = cuda.device()
    with device:
        driver = cuda.toolkit.driver
        one, two, host = driver.cuMemAlloc(64)[1], driver.cuMemAlloc(64)[1], driver.cuMemAllocHost(64)[1]
        with Blocked(cuda, device) as stream:
            stream.copy(one, host if end == "pinned" else two, 64)
            free = {
                "target": ("cuMemFree", one),
                "source": ("cuMemFree", two),
                "pinned": ("cuMemFreeHost", host),
            }
            assert status(cuda, *free[end]) == "SUCCESS"
        with pytest.raises(CudaError, match="ILLEGAL_ADDRESS"):
            stream.sync()
        with pytest.raises(CudaError, match="ILLEGAL_ADDRESS"):  # from now on
            device.memory().allocate(8)
        with cuda.device(1).memory().allocate(8):
            pass


def test_registered_memory_that_is_let_go_before_the_copy_runs(cuda):
    device, memory = cuda.device(), np.zeros(64, np.uint8)
    with device.memory().allocate(64) as target:
        assert status(cuda, "cuMemHostRegister", memory.ctypes.data, 64, 1) == "SUCCESS"
        with Blocked(cuda, device) as stream:
            stream.copy_in(target.handle, memory)
            assert status(cuda, "cuMemHostUnregister", memory.ctypes.data) == "SUCCESS"
        with pytest.raises(CudaError, match="ILLEGAL_ADDRESS"):
            stream.sync()


def test_an_address_that_was_freed_is_used_by_nothing_else(cuda):
    device = cuda.device()
    seen = set()
    for _ in range(20):
        with device.memory().allocate(64) as memory:
            assert memory.handle not in seen
            seen.add(memory.handle)
    with pytest.raises(CudaError, match="INVALID_VALUE"):
        device.stream().copy_in(min(seen), np.zeros(4, np.uint8))


def test_what_is_seen_of_its_memory(cuda):
    with cuda.device().memory().allocate(16) as memory:
        cuda.view(memory.handle, 16)[3] = 9
        assert ctypes.string_at(memory.handle + 3, 1) == b"\t"
        for address, size in ((memory.handle, 17), (memory.handle - 1, 1), (memory.handle + 16, 1), (64, 1)):
            with pytest.raises(ValueError, match="expected some within one live allocation"):
                cuda.view(address, size)
        address = memory.handle
    with pytest.raises(ValueError, match="live"):
        cuda.view(address, 1)


def test_copies_between_gpus_are_refused(cuda):
    with cuda.device(0).memory().allocate(8) as one, cuda.device(1).memory().allocate(8) as other:
        stream = cuda.device(0).stream()
        with pytest.raises(CudaError, match="INVALID_VALUE"):
            stream.copy(one.handle, other.handle, 8)


def test_work_of_a_fake_engine(cuda):
    stream = cuda.device().stream()
    assert cuda.submit(stream.handle, "compute", lambda: 7, label="kernel").result(SOON) == 7
    assert [(work.kind, work.label) for work in cuda.gpus[0].timeline] == [("compute", "kernel")]
    handle = stream.handle
    stream.close()
    with pytest.raises(ValueError, match="expected one that is open"):
        cuda.submit(handle, "compute", lambda: 7)


def test_failures_on_demand(cuda):
    cuda.fail("cuMemAlloc", "CUDA_ERROR_OUT_OF_MEMORY", after=1, times=2)
    resource, failed = cuda.device().memory(), []
    for number in range(5):
        try:
            resource.allocate(8).close()
        except MemoryError:
            failed.append(number)
    assert failed == [1, 2]
    with pytest.raises(KeyError):
        cuda.fail("cuMemAlloc", "NONSENSE")


def test_what_is_left_is_told():
    memory = []

    def leave(error=None):
        with FakeCuda() as cuda:
            memory.append(cuda.device().memory().allocate(8))
            if error is not None:
                raise error

    with pytest.raises(AssertionError, match=r"holding \{'device': 8\}"):
        leave()
    with pytest.raises(ZeroDivisionError):  # the first error is the one to see
        leave(ZeroDivisionError())


def test_the_statuses_have_names_that_say_what_they_are():
    with FakeCuda() as cuda:
        assert cuda.toolkit.driver.cuGetErrorString(CUresult.CUDA_ERROR_NOT_READY)[1] == b"not ready"
