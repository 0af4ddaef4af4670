"""Arrays of a tensor's type, made of what callers pass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yais.core.arrays import bf16_to_float32, converted, float32_to_bf16, numbers, prepared, presented
from yais.core.tensor import DataType, TensorSpec
from yais.errors import InvalidArgument

PLAIN = [datatype for datatype in DataType if datatype not in {DataType.BYTES, DataType.BF16}]


def spec(datatype: DataType) -> TensorSpec:
    return TensorSpec("x", datatype, (-1,))


class Dlpack:
    """Something that speaks DLPack and nothing else."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()  # type: ignore[no-any-return]


class Elsewhere(Dlpack):
    """On a GPU."""

    def __dlpack__(self, **options: Any) -> Any:
        raise BufferError("memory of a GPU")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


@pytest.mark.parametrize("datatype", PLAIN, ids=lambda datatype: datatype.value)
def test_what_is_right_is_not_copied(datatype: DataType) -> None:
    array = np.zeros((2, 3), datatype.numpy)
    assert converted(array, spec(datatype)) is array
    array.flags.writeable = False
    assert converted(array, spec(datatype)) is array


@pytest.mark.parametrize("datatype", PLAIN, ids=lambda datatype: datatype.value)
@pytest.mark.parametrize(
    "change",
    [
        lambda array: array.T,
        lambda array: array[:, ::2],
        lambda array: array.astype(array.dtype.newbyteorder()),
        lambda array: array.tolist(),
        Dlpack,
        lambda array: array.view(np.ma.MaskedArray),
    ],
    ids=["transposed", "strided", "swapped", "list", "dlpack", "subclass"],
)
def test_what_is_the_same_is_made_right(datatype: DataType, change: Any) -> None:
    array = (np.arange(6).reshape(2, 3) % 2).astype(datatype.numpy)
    given_as = change(array)
    result = converted(given_as, spec(datatype))
    assert type(result) is np.ndarray and result.dtype == datatype.numpy and result.flags.c_contiguous
    expected = array if isinstance(given_as, list | Dlpack) else np.asarray(given_as)
    assert (result == expected).all() and result.shape == expected.shape


def test_dlpack_shares_the_memory() -> None:
    array = np.arange(4, dtype=np.float32)
    assert np.shares_memory(converted(Dlpack(array), spec(DataType.FP32)), array)


@pytest.mark.parametrize(
    ("value", "datatype"),
    [
        ([1.5], DataType.INT32),
        ([1j], DataType.FP32),
        (["text"], DataType.FP32),
        ([None], DataType.FP32),
        pytest.param([object()], DataType.INT8, id="objects"),
        ([[1, 2], [3]], DataType.INT32),
        ([1], DataType.BOOL),
        ([1 << 70], DataType.INT64),
        ([1.5], DataType.BOOL),
        (np.array(["2020-01-01"], "datetime64[D]"), DataType.INT64),
        pytest.param(Elsewhere(np.zeros(1)), DataType.FP32, id="elsewhere"),
    ],
    ids=str,
)
def test_another_kind_is_refused(value: Any, datatype: DataType) -> None:
    with pytest.raises(InvalidArgument, match="'x'"):
        converted(value, spec(datatype))


@given(
    st.lists(st.integers(-(1 << 63), (1 << 64) - 1), min_size=1),
    st.sampled_from([datatype for datatype in PLAIN if datatype.numpy.kind in "iu"]),
)
def test_whole_numbers_convert_if_they_fit(values: list[int], datatype: DataType) -> None:
    bounds = np.iinfo(datatype.numpy)
    array = np.asarray(values)
    if array.dtype.kind not in "iu":  # no type of numpy's holds them all
        with pytest.raises(InvalidArgument):
            converted(values, spec(datatype))
    elif all(bounds.min <= value <= bounds.max for value in values):
        assert converted(values, spec(datatype)).tolist() == values
    else:
        with pytest.raises(InvalidArgument, match=datatype.value):
            converted(values, spec(datatype))


def test_numbers_become_floats() -> None:
    assert converted([1, 2], spec(DataType.FP32)).tolist() == [1.0, 2.0]
    assert converted(np.float64(0.1), spec(DataType.FP32)) == np.float32(0.1)
    assert converted([True], spec(DataType.INT8)).tolist() == [1]
    assert converted([], spec(DataType.FP16)).shape == (0,)


@given(st.lists(st.one_of(st.binary(), st.text()), max_size=5))
def test_texts(values: list[bytes | str]) -> None:
    result = converted(values, spec(DataType.BYTES))
    assert result.dtype == object and result.shape == (len(values),)
    assert result.tolist() == [value.encode() if isinstance(value, str) else value for value in values]


@pytest.mark.parametrize("value", [[1], [None], [b"a", 2.0], [bytearray(b"a")]], ids=str)
def test_what_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArgument, match="expected bytes or text"):
        converted(value, spec(DataType.BYTES))


@given(st.lists(st.floats(width=32), min_size=1))
def test_bf16_are_float32_cut(values: list[float]) -> None:
    array = np.array(values, np.float32)
    bits = converted(array, spec(DataType.BF16))
    assert bits.dtype == np.uint16
    back = presented(bits, DataType.BF16)
    assert back.dtype == np.float32 and (np.isnan(back) == np.isnan(array)).all()
    for before, after in zip(array.tolist(), back.tolist(), strict=True):
        if not math.isnan(before):
            assert abs(after) <= abs(before) and math.copysign(1, before) == math.copysign(1, after)
            assert before == after or abs(before - after) <= max(abs(before) / 128, 2.0**-133)
    assert (float32_to_bf16(back) == bits).all()


@given(st.integers(0, (1 << 16) - 1))
def test_bf16_keeps_its_bits(bits: int) -> None:
    array = np.array([[bits]], np.uint16)
    again = float32_to_bf16(bf16_to_float32(array))
    assert again.shape == (1, 1) and (again == array or np.isnan(bf16_to_float32(array)).all())


def test_other_outputs_are_presented_as_they_are() -> None:
    array = np.zeros(3, np.uint16)
    assert presented(array, DataType.UINT16) is array


def test_inputs_are_put_in_order() -> None:
    specs = {"a": spec(DataType.FP32), "b": spec(DataType.INT8)}
    made = prepared({"b": [1], "a": [2]}, specs, "M")
    assert list(made) == ["a", "b"] and [array.tolist() for array in made.values()] == [[2.0], [1]]


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"], [], ["a", "c"]], ids=str)
def test_inputs_are_those_of_the_model(names: list[str]) -> None:
    specs = {"a": spec(DataType.FP32), "b": spec(DataType.INT8)}
    with pytest.raises(InvalidArgument, match=r"model 'M', expected \['a', 'b'\]"):
        prepared({key: [1] for key in names}, specs, "M")


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0, 2**64 - 1], np.uint64),
        ([2**63], np.uint64),
        ([-1, 2**63 - 1], np.int64),
        ([1, 0.5], np.float64),
        ([], np.float64),
        ([[0], [1]], np.int64),
    ],
)
def test_whole_numbers_stay_whole(values, dtype):
    array = numbers(values)
    assert (array.dtype, array.tolist()) == (dtype, values)


def test_numbers_too_large_become_infinite_without_a_warning():
    assert converted(np.array([1e300, -1e300]), spec(DataType.FP32)).tolist() == [math.inf, -math.inf]
