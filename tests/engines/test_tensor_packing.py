"""Arrays in shared memory: what goes in comes out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from yais.core.tensor import DataType
from yais.engines.tensor_packing import pack, packed_size, unpack

SHAPES = array_shapes(min_dims=0, min_side=0, max_side=4)


def of_type(datatype):
    dtype = datatype.numpy
    return arrays(dtype, SHAPES, elements=st.binary(max_size=9) if dtype.hasobject else None)


ARRAYS = st.dictionaries(st.text(max_size=5), st.sampled_from(DataType).flatmap(of_type), max_size=5)


@given(ARRAYS)
def test_what_is_packed_is_unpacked(given):
    memory = memoryview(bytearray(b"\xff" * packed_size(given)))
    got = unpack(pack(given, memory), memory)
    assert list(got) == list(given)
    for name, array in given.items():
        assert got[name].dtype == array.dtype and got[name].shape == array.shape
        if array.dtype == object:
            assert got[name].tolist() == array.tolist()
        else:
            assert got[name].tobytes() == array.tobytes()


@given(ARRAYS)
def test_arrays_do_not_overlap_and_are_aligned(given):
    memory = memoryview(bytearray(packed_size(given)))
    packed = pack(given, memory)
    assert all(tensor.offset % 64 == 0 for tensor in packed)
    views = [array for array in unpack(packed, memory).values() if array.dtype != object and array.size]
    for index, array in enumerate(views):
        assert not any(np.shares_memory(array, other) for other in views[:index])


def test_numbers_are_views_of_the_memory():
    memory = memoryview(bytearray(64))
    array = unpack(pack({"x": np.arange(4)}, memory), memory)["x"]
    array[0] = 7
    assert memory[0] == 7


def test_arrays_need_not_be_contiguous():
    given = np.arange(12).reshape(3, 4)[::-1, ::2]
    memory = memoryview(bytearray(packed_size({"x": given})))
    assert unpack(pack({"x": given}, memory), memory)["x"].tolist() == given.tolist()


def test_memory_that_is_too_small_is_refused():
    for array in (np.arange(9), np.array([b"0123456789" * 9], np.object_)):
        with pytest.raises((TypeError, ValueError)):
            pack({"x": array}, memoryview(bytearray(packed_size({"x": array}) - 64)))
