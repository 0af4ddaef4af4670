"""Arrays in device memory, as cuda.core takes them. Nothing is read, so there need be no GPU."""

from __future__ import annotations

import ctypes

import pytest
from cuda.core.utils import StridedMemoryView

from yais.core.tensor import DataType
from yais.memory import dlpack_capsule
from yais.memory.device_array import DeviceArray

ADDRESS = 0x7F0000000000


class Stream:
    handle = 7

    def sync(self) -> None:
        raise AssertionError("nobody asked to wait")


@pytest.mark.parametrize("datatype", [each for each in DataType if each.size], ids=str)
@pytest.mark.parametrize("shape", [(2, 3), (4,), ()])
def test_a_view_of_it(monkeypatch, datatype: DataType, shape: tuple[int, ...]) -> None:
    freed: list[int] = []
    deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(freed.append)
    monkeypatch.setattr(dlpack_capsule, "_deleter", ctypes.cast(deleter, ctypes.c_void_p))
    array = DeviceArray(ADDRESS, shape, datatype, gpu=1, stream=Stream())
    view = StridedMemoryView.from_any_interface(array, stream_ptr=-1)
    assert (view.ptr, tuple(view.shape), view.device_id) == (ADDRESS, shape, 1)
    assert view.is_device_accessible and not view.readonly
    if datatype is not DataType.BF16:  # for which numpy has no name
        assert view.dtype == datatype.numpy
    assert not freed  # until cuda.core is done with it
    del view
    assert len(freed) == 1
    dlpack_capsule._libc.free(ctypes.c_void_p(*freed))
