"""Arrays in the memory of a GPU, as other libraries take them; numpy stands for these."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from yais.core.tensor import DataType
from yais.memory import dlpack_capsule
from yais.memory.device_array import DeviceArray
from yais.memory.dlpack_capsule import CPU, CUDA

SIZED = [datatype for datatype in DataType if datatype.size]


class Stream:
    handle = 7
    waits = 0

    def sync(self) -> None:
        self.waits += 1


class OnHost(DeviceArray):
    """What DLPack says to be on the host, so that numpy takes it."""

    __slots__ = ()

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU, 0


@pytest.fixture
def stream():
    return Stream()


@dataclass
class Descriptions:
    """What capsules hold, by address: made, and given back by who took it."""

    made: list[int] = field(default_factory=list)
    freed: list[int] = field(default_factory=list)
    dropped: int = 0  # capsules that nobody takes, in this test


@pytest.fixture(autouse=True)
def descriptions(monkeypatch) -> Iterator[Descriptions]:
    seen = Descriptions()
    malloc, free = dlpack_capsule._malloc, dlpack_capsule._libc.free

    def made(size: int) -> int:
        seen.made.append(malloc(size))
        return seen.made[-1]

    def deleter(place: int) -> None:
        seen.freed.append(place)
        free(ctypes.c_void_p(place))

    counting = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(deleter)
    monkeypatch.setattr(dlpack_capsule, "_malloc", made)
    monkeypatch.setattr(dlpack_capsule, "_deleter", ctypes.cast(counting, ctypes.c_void_p))
    yield seen
    gc.collect()
    assert len(seen.freed) == len(set(seen.freed)) == len(seen.made) - seen.dropped


def described(array: np.ndarray, datatype: DataType, stream: Stream, kind: type = DeviceArray) -> DeviceArray:
    made: DeviceArray = kind(array.ctypes.data, array.shape, datatype, gpu=0, stream=stream)
    return made


@pytest.mark.parametrize("datatype", [each for each in SIZED if each is not DataType.BF16], ids=str)
@pytest.mark.parametrize("shape", [(2, 3), (), (4,), (1, 1, 5)])
def test_dlpack_shares_the_memory(stream, descriptions, datatype, shape):
    array = np.arange(np.prod(shape, dtype=int)).astype(datatype.numpy).reshape(shape)
    taken = np.from_dlpack(described(array, datatype, stream, OnHost))
    assert taken.dtype == datatype.numpy and taken.shape == shape
    assert taken.tolist() == array.tolist()
    assert taken.ctypes.data == array.ctypes.data
    assert len(descriptions.made) == 1 and not descriptions.freed  # until numpy is done with it


def test_dlpack_of_what_is_empty(stream):
    taken = np.from_dlpack(described(np.zeros((0, 3), np.float32), DataType.FP32, stream, OnHost))
    assert taken.shape == (0, 3)


def test_a_capsule_that_nobody_takes(stream, descriptions):
    """It leaves its description behind, and never frees one of which somebody may still hold the address."""
    capsule = described(np.zeros(3, np.float32), DataType.FP32, stream).__dlpack__()
    del capsule
    gc.collect()
    assert len(descriptions.made) == 1 and not descriptions.freed
    descriptions.dropped = 1


def test_who_refuses_a_capsule_is_heard(stream, monkeypatch):
    """With the deleter of the product, which runs while the error is on its way."""
    monkeypatch.undo()
    with pytest.raises((BufferError, RuntimeError), match="dtype"):  # numpy has no bfloat16
        np.from_dlpack(described(np.zeros(3, np.uint16), DataType.BF16, stream, OnHost))


def test_bfloat16_in_dlpack(stream, descriptions):
    array = described(np.zeros((2, 3), np.uint16), DataType.BF16, stream)
    assert array.dtype == np.uint16
    capsule = array.__dlpack__()
    managed = dlpack_capsule._ManagedTensor.from_address(*descriptions.made)
    kind = managed.tensor.dtype
    assert (kind.code, kind.bits, kind.lanes) == (4, 16, 1)
    assert (managed.tensor.device.kind, managed.tensor.device.index) == (CUDA, 0)
    assert managed.tensor.data == array.address and managed.tensor.shape[:2] == [2, 3]
    assert managed.deleter
    del capsule
    descriptions.dropped = 1


def test_cuda_array_interface(stream):
    array = described(np.zeros((2, 3), np.float16), DataType.FP16, stream)
    assert array.__cuda_array_interface__ == {
        "shape": (2, 3),
        "typestr": "<f2",
        "data": (array.address, False),
        "strides": None,
        "stream": 7,
        "version": 3,
    }
    empty = DeviceArray(4096, (0, 3), DataType.BOOL, gpu=0, stream=stream)
    assert empty.__cuda_array_interface__["data"] == (0, False)
    stream.handle = 0
    assert array.__cuda_array_interface__["stream"] == 1


@pytest.mark.parametrize(("other", "waits"), [(7, 0), (-1, 0), (None, 1), (2, 1), (9, 1)])
def test_who_works_on_another_stream_waits(stream, descriptions, other, waits):
    descriptions.dropped = 1
    described(np.zeros(3, np.float32), DataType.FP32, stream).__dlpack__(stream=other)
    assert stream.waits == waits


def test_what_dlpack_cannot_do(stream, descriptions):
    descriptions.dropped = 1
    array = described(np.zeros(3, np.float32), DataType.FP32, stream)
    assert array.__dlpack_device__() == (CUDA, 0)
    with pytest.raises(BufferError, match=r"dl_device=\(1, 0\)"):
        array.__dlpack__(dl_device=(CPU, 0))
    with pytest.raises(BufferError, match="copy=True"):
        array.__dlpack__(copy=True)
    assert array.__dlpack__(dl_device=(CUDA, 0), copy=False, max_version=(1, 0)) is not None


def test_sizes(stream):
    array = DeviceArray(4096, [2, 3], DataType.FP64, gpu=1, stream=stream)
    assert (array.size, array.nbytes, array.shape) == (6, 48, (2, 3))
    assert repr(array) == "<DeviceArray FP64[2, 3] at 0x1000 of GPU 1>"
    with pytest.raises(ValueError, match="BYTES"):
        DeviceArray(4096, (2,), DataType.BYTES, gpu=0, stream=stream)
