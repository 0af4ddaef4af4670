"""Arrays in device memory, as PyTorch takes them: here their memory is the host's, and DLPack says so."""

from __future__ import annotations

import ctypes
import gc

import numpy as np
import pytest
import torch
from torch_models import NAMES

from yais.core.tensor import DataType
from yais.memory import dlpack_capsule
from yais.memory.device_array import DeviceArray
from yais.memory.dlpack_capsule import CPU


class Stream:
    handle = 7

    def sync(self) -> None:
        """Nothing is queued."""


class OnHost(DeviceArray):
    __slots__ = ()

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU, 0


@pytest.mark.parametrize("datatype", NAMES, ids=str)
@pytest.mark.parametrize("shape", [(2, 3), (4,), (), (0, 3)])
def test_a_tensor_of_it(monkeypatch, datatype: DataType, shape: tuple[int, ...]) -> None:
    freed: list[int] = []
    deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(freed.append)
    monkeypatch.setattr(dlpack_capsule, "_deleter", ctypes.cast(deleter, ctypes.c_void_p))
    memory = np.arange(6).astype(datatype.numpy)
    taken = torch.from_dlpack(OnHost(memory.ctypes.data, shape, datatype, gpu=0, stream=Stream()))
    assert taken.dtype is NAMES[datatype] and tuple(taken.shape) == shape
    size = taken.numel()
    assert not size or taken.data_ptr() == memory.ctypes.data
    assert taken.reshape(-1).view(torch.uint8).tolist() == list(memory.tobytes()[: taken.nbytes])
    assert not freed  # until PyTorch is done with it
    del taken
    gc.collect()
    assert len(freed) == 1
    dlpack_capsule._libc.free(ctypes.c_void_p(*freed))


def test_what_pytorch_writes() -> None:
    memory = np.zeros((2, 3), np.float32)
    taken = torch.from_dlpack(OnHost(memory.ctypes.data, (2, 3), DataType.FP32, gpu=0, stream=Stream()))
    taken.copy_(torch.ones(2, 3) * 5)
    assert (memory == 5).all()
