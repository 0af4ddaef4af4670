"""What is said where CUDA cannot be used, and of what its calls return."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from yais.errors import FailedPrecondition, Internal
from yais.memory.cuda import toolkit as module
from yais.memory.cuda.device import CudaDevice, cuda_device, cuda_usage
from yais.memory.cuda.error import CudaError, translated
from yais.memory.cuda.toolkit import cuda_toolkit, why_no_cuda
from yais.testing.cuda import FakeCuda
from yais.testing.cuda_types import CUresult


@pytest.fixture(autouse=True)
def _forgotten():
    module._loaded.cache_clear()
    yield
    module._loaded.cache_clear()


def packages(monkeypatch, driver) -> None:
    """Have `from cuda import core` and `from cuda.bindings import driver` find these."""
    cuda, bindings = ModuleType("cuda"), ModuleType("cuda.bindings")
    cuda.core = core = ModuleType("cuda.core")
    cuda.bindings, bindings.driver = bindings, driver
    found = {"cuda": cuda, "cuda.core": core, "cuda.bindings": bindings, "cuda.bindings.driver": driver}
    for name, package in found.items():
        monkeypatch.setitem(sys.modules, name, package)


def a_driver(count=1, init=0):
    return SimpleNamespace(
        __name__="cuda.bindings.driver",
        cuInit=lambda flags: (CUresult(init),),
        cuDeviceGetCount=lambda: (CUresult.CUDA_SUCCESS, count),
        cuGetErrorString=lambda status: (CUresult.CUDA_SUCCESS, b"no such device"),
    )


def test_without_the_packages_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda", None)
    with pytest.raises(FailedPrecondition, match=r"pip install 'yais\[cuda\]'"):
        cuda_toolkit()
    with pytest.raises(FailedPrecondition, match=r"yais\[cuda\]"):
        CudaDevice(0)
    assert "not installed" in why_no_cuda()


def test_without_a_driver(monkeypatch):
    def missing(flags):
        raise RuntimeError("libcuda.so.1 is not there")

    packages(monkeypatch, SimpleNamespace(cuInit=missing))
    with pytest.raises(FailedPrecondition, match=r"driver that works: libcuda\.so\.1 is not there"):
        cuda_toolkit()


def test_without_a_gpu(monkeypatch):
    packages(monkeypatch, a_driver(count=0))
    assert "CUDA_VISIBLE_DEVICES" in why_no_cuda()
    module._loaded.cache_clear()
    packages(monkeypatch, a_driver(init=100))
    assert "cuInit: CUDA_ERROR_NO_DEVICE: no such device" in why_no_cuda()


def test_what_works_is_found_once(monkeypatch):
    packages(monkeypatch, a_driver())
    assert why_no_cuda() == ""
    assert cuda_toolkit() is cuda_toolkit()
    assert repr(cuda_toolkit()) == "<CudaToolkit: cuda.core, cuda.bindings.driver>"


def test_the_process_has_one_device_for_each_gpu(monkeypatch):
    with FakeCuda(gpus=2) as cuda:
        monkeypatch.setattr("yais.memory.cuda.device.cuda_toolkit", lambda: cuda.toolkit)
        monkeypatch.setattr("yais.memory.cuda.device._devices", {})
        first, second = cuda_device(0), cuda_device(1)
        assert (cuda_device(), cuda_device(1)) == (first, second)
        assert first.close(5)
        assert cuda_device(0) is not first
        with (
            cuda_device(0).memory(owner="m").allocate(1),
            cuda_device(0).staging().allocate(9),
            second.managed(owner="m").allocate(2),
            second.memory(owner="m").allocate(4),
        ):
            usage = {key: (now.bytes, now.high_water_bytes, now.buffers) for key, now in cuda_usage().items()}
        assert usage == {("m", "device"): (5, 5, 2), ("m", "managed"): (2, 2, 1)}
        assert all([cuda_device(0).close(5), second.close(5)])


def test_a_status_becomes_an_error():
    with FakeCuda() as cuda:
        call = cuda.toolkit.call
        with pytest.raises(
            CudaError, match="cuMemFree: CUDA_ERROR_INVALID_CONTEXT: invalid context"
        ) as caught:
            call("cuMemFree", 7)
        assert isinstance(caught.value, Internal)
        assert (caught.value.name, caught.value.sticky) == ("CUDA_ERROR_INVALID_CONTEXT", False)
        cuda.fail("cuMemAlloc", "CUDA_ERROR_OUT_OF_MEMORY")
        with pytest.raises(MemoryError, match="cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY"):
            call("cuMemAlloc", 1)
        cuda.fail("cuMemAlloc", "CUDA_ERROR_ILLEGAL_ADDRESS")
        with pytest.raises(CudaError, match="start the process again") as caught:
            call("cuMemAlloc", 1)
        assert caught.value.sticky


def test_a_status_that_the_driver_does_not_know():
    with FakeCuda() as cuda:
        cuda.fail("cuGetErrorString", "CUDA_ERROR_INVALID_VALUE")
        error = cuda.toolkit.failure("cuNew", 12345)
        assert str(error) == "cuNew: CUDA_ERROR_12345: an error that the driver does not know"


def test_the_errors_of_cuda_core_are_the_same():
    with (
        pytest.raises(MemoryError, match="pool: CUDA_ERROR_OUT_OF_MEMORY: there is none"),
        translated("pool"),
    ):
        raise RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: there is none")
    with (
        pytest.raises(CudaError, match="pool: CUDA_ERROR_NOT_SUPPORTED: no more is known"),
        translated("pool"),
    ):
        raise RuntimeError("CUDA_ERROR_NOT_SUPPORTED")
    with pytest.raises(TypeError, match="other"), translated("pool"):
        raise TypeError("other")
