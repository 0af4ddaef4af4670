"""What the fake CUDA has is in the real packages, by the same names, with the same parameters and numbers."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re

import pytest
from cuda import core
from cuda.bindings import driver
from cuda.core import _device
from cuda.core._utils.cuda_utils import CUDAError

from yais.errors import FailedPrecondition
from yais.memory.cuda.error import translated
from yais.memory.cuda.toolkit import cuda_toolkit, why_no_cuda
from yais.testing import cuda_core, cuda_types
from yais.testing.cuda import _PROPERTIES
from yais.testing.cuda_driver import FakeDriver

FUNCTIONS = [name for name in dir(FakeDriver) if re.match(r"cu[A-Z]", name)]
TYPES = [name for name in dir(FakeDriver) if name.startswith("CU")]
HANDLES = ["CUcontext", "CUdevice", "CUdeviceptr", "CUevent", "CUgraph", "CUgraphExec", "CUstream"]
CLASSES = [
    cuda_core.Device,
    cuda_core.Stream,
    cuda_core.PinnedMemoryResource,
    cuda_core.ManagedBuffer,
]
OF_THE_FAKE = {"state", "queue", "reached_by"}
"""What the fakes are made with."""


def public(cls: type) -> set[str]:
    return {name for name in {*dir(cls), *cls.__annotations__} if not name.startswith("_")} - OF_THE_FAKE


def names(function: object) -> list[str]:
    """Parameters of a function of the driver, as its documentation begins with them."""
    listed = re.match(r"\w+\((.*)\)$", (function.__doc__ or "").strip().splitlines()[0])
    assert listed is not None
    text = re.sub(
        r"\[[^\[\]]*(\[[^\[\]]*\][^\[\]]*)*\]", "", listed[1]
    )  # types such as tuple[...] have commas
    return [part.partition(":")[0].split()[-1] for part in text.split(",") if part.strip()]


def test_there_is_something_to_compare():
    assert len(FUNCTIONS) > 30
    assert len(TYPES) > 8


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    fake = inspect.signature(getattr(FakeDriver, name))
    assert [parameter for parameter in fake.parameters if parameter != "self"] == names(getattr(driver, name))


@pytest.mark.parametrize("name", TYPES)
def test_types_and_numbers(name):
    fake, real = getattr(FakeDriver, name), getattr(driver, name)
    if isinstance(fake, int):
        assert fake == real
    elif issubclass(fake, enum.IntEnum):
        assert {member.name: int(member) for member in fake} == {
            member.name: int(getattr(real, member.name)) for member in fake
        }
    else:
        assert {key for key in vars(fake()) if not key.startswith("_")} <= set(dir(real()))
        assert public(fake) <= set(dir(real))


@pytest.mark.parametrize("name", HANDLES)
def test_handles_are_numbers(name):
    assert int(getattr(driver, name)(0x1230)) == int(getattr(cuda_types, name)(0x1230))


def test_a_handle_for_other_processes_is_64_bytes():
    assert driver.CU_IPC_HANDLE_SIZE == 64
    assert isinstance(driver.CUipcMemHandle().getPtr(), int)


def test_access_to_a_pool_can_be_described():
    access = driver.CUmemAccessDesc()
    access.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    access.location.id = 3
    access.flags = driver.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
    assert access.location.type == 1
    assert (access.location.id, int(access.flags)) == (3, 3)


@pytest.mark.parametrize("fake", CLASSES, ids=lambda cls: cls.__name__)
def test_classes(fake):
    real = getattr(core, fake.__name__)
    assert public(fake) <= set(dir(real)) | {"device_id"}
    for name in public(fake):
        method = inspect.getattr_static(fake, name, None)
        if isinstance(method, (classmethod, staticmethod)) or inspect.isfunction(method):
            mine = inspect.signature(getattr(fake, name)).parameters
            theirs = inspect.signature(getattr(real, name)).parameters
            known = [parameter for parameter in mine if parameter != "self"]
            assert known == [parameter for parameter in theirs if parameter != "self"][: len(known)]
            for parameter in known:
                assert mine[parameter].kind == theirs[parameter].kind


def test_the_properties_of_a_gpu():
    assert set(_PROPERTIES) <= set(dir(_device.DeviceProperties))
    assert "name" in dir(core.Device)


def test_the_buffers_of_a_pool():
    mine = cuda_core._PoolBuffer
    assert public(mine) | {"handle", "size"} <= set(dir(core.Buffer))
    assert "stream" in inspect.signature(core.Buffer.close).parameters


def test_the_options_of_a_pool():
    fake = {field.name: field.default for field in dataclasses.fields(cuda_core.PinnedMemoryResourceOptions)}
    real = core.PinnedMemoryResourceOptions()
    assert fake == {name: getattr(real, name) for name in fake}
    assert core.PinnedMemoryResourceOptions(numa_id=1).numa_id == 1


def test_errors_of_cuda_core_are_understood():
    with pytest.raises(MemoryError, match="pool: CUDA_ERROR_OUT_OF_MEMORY"), translated("pool"):
        raise CUDAError("CUDA_ERROR_OUT_OF_MEMORY: The API call failed because there is no memory.")


def test_without_a_driver_that_is_said():
    why = why_no_cuda()
    if not why:
        pytest.skip("there is a driver, and a GPU")
    assert "driver" in why or "GPU" in why
    with pytest.raises(FailedPrecondition):
        cuda_toolkit()
