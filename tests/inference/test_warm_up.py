"""Warm-up samples as the inputs that they stand for, and what is wrong with others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yais.core.arrays import bf16_to_float32
from yais.core.tensor import DataType, TensorSpec
from yais.errors import InvalidArgument
from yais.inference.layout import Signature
from yais.inference.profile import Profile
from yais.inference.request import InferRequest
from yais.inference.warm_up import WarmUpInput, WarmUpSample, sample_inputs, zeros
from yais.protocol.tensor_codec import objects

A = TensorSpec("A", DataType.FP32, (2,))
B = TensorSpec("B", DataType.INT64, (-1, 2))
S = TensorSpec("S", DataType.BYTES, (2,))
SIGNATURE = Signature("M", (A, B, S), (), max_batch=4, optional=frozenset({"S"}))
ONE = Signature("M", (A,), (), max_batch=4)
STRINGS = Signature("M", (S,), (), max_batch=4)

ZERO = WarmUpInput(DataType.FP32, (2,), "zero")


def only(signature: Signature, given_input: WarmUpInput, batch_size: int = 1) -> Any:
    """Return the array of a sample with one input."""
    name = signature.inputs[0].name
    (array,) = sample_inputs(signature, WarmUpSample("sample", {name: given_input}, batch_size))
    assert array is not None
    return array


def refusal(signature: Signature, inputs: dict[str, WarmUpInput], batch_size: int = 1) -> str:
    with pytest.raises(InvalidArgument) as caught:
        sample_inputs(signature, WarmUpSample("first", inputs, batch_size))
    text = str(caught.value)
    assert text.startswith("warm-up sample 'first': ")
    return text.removeprefix("warm-up sample 'first': ")


def taken(signature: Signature, arrays: list[Any]) -> None:
    """Check that a model takes a request with these inputs."""
    pairs = [(spec, array) for spec, array in zip(signature.inputs, arrays, strict=True) if array is not None]
    specs = [TensorSpec(spec.name, DataType.of(array.dtype), array.shape) for spec, array in pairs]
    data = [array for _, array in pairs]
    assert all(array.flags.c_contiguous for array in data)
    signature.check_sizes(signature.layout(InferRequest(specs, data)), specs, data)


# --- Samples ------------------------------------------------------------------------------------------


def test_inputs_come_in_the_order_of_the_signature() -> None:
    inputs = {
        "S": WarmUpInput(DataType.BYTES, (2,), objects([b"one", b"two\0"])),
        "B": WarmUpInput(DataType.INT64, (3, 2), np.arange(6, dtype="<i8").tobytes()),
        "A": WarmUpInput(DataType.FP32, (2,), "zero"),
    }
    arrays = sample_inputs(SIGNATURE, WarmUpSample("sample", inputs, batch_size=3))
    a, b, s = arrays
    assert a is not None and b is not None and s is not None
    assert a.tolist() == [[0, 0]] * 3 and a.dtype == np.float32
    assert b.tolist() == [[[0, 1], [2, 3], [4, 5]]] * 3 and b.dtype == np.int64
    assert s.tolist() == [[b"one", b"two\0"]] * 3
    taken(SIGNATURE, arrays)


def test_an_optional_input_may_be_missing() -> None:
    inputs = {"A": ZERO, "B": WarmUpInput(DataType.INT64, (3, 2), "zero")}
    arrays = sample_inputs(SIGNATURE, WarmUpSample("sample", inputs))
    assert arrays[2] is None
    taken(SIGNATURE, arrays)


def test_without_a_batch_dimension() -> None:
    signature = Signature("M", (A, TensorSpec("X", DataType.FP64, ())), (), max_batch=0)
    inputs = {"A": ZERO, "X": WarmUpInput(DataType.FP64, (), np.float64(7.5).tobytes())}
    arrays = sample_inputs(signature, WarmUpSample("sample", inputs))
    assert [array.shape for array in arrays if array is not None] == [(2,), ()]
    assert arrays[1] is not None and float(arrays[1]) == 7.5


@given(
    st.sampled_from([datatype for datatype in DataType if datatype.size]),
    st.sampled_from(["zero", "random"]),
    st.integers(1, 4),
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
)
def test_numbers(datatype: DataType, data: Any, batch: int, dims: tuple[int, ...]) -> None:
    signature = Signature("M", (TensorSpec("X", datatype, dims),), (), max_batch=4)
    array = only(signature, WarmUpInput(datatype, dims, data), batch)
    assert array.shape == (batch, *dims) and array.dtype == datatype.numpy
    assert array.flags.c_contiguous and array.flags.writeable
    assert data == "random" or not array.any()


@pytest.mark.parametrize("datatype", [datatype for datatype in DataType if datatype.size], ids=str)
def test_random_numbers_differ_and_are_the_same_again(datatype: DataType) -> None:
    signature = Signature("M", (TensorSpec("X", datatype, (100,)),), (), max_batch=0)
    array = only(signature, WarmUpInput(datatype, (100,), "random"))
    assert len(np.unique(array)) > (1 if datatype is DataType.BOOL else 50)
    assert np.array_equal(array, only(signature, WarmUpInput(datatype, (100,), "random")))
    if datatype in {DataType.FP16, DataType.FP32, DataType.FP64, DataType.BF16}:
        values = bf16_to_float32(array) if datatype is DataType.BF16 else array
        assert values.min() >= 0 and values.max() <= 1


def test_random_integers_are_of_all_values() -> None:
    signature = Signature("M", (TensorSpec("X", DataType.INT8, (10_000,)),), (), max_batch=0)
    array = only(signature, WarmUpInput(DataType.INT8, (10_000,), "random"))
    assert array.min() == -128 and array.max() == 127


@pytest.mark.parametrize("data", ["zero", "random"])
def test_strings_are_empty(data: Any) -> None:
    array = only(STRINGS, WarmUpInput(DataType.BYTES, (2,), data), 2)
    assert array.dtype == np.object_ and array.tolist() == [[b"", b""]] * 2


def test_more_bytes_than_needed() -> None:
    contents = np.array([1, 2, 3], "<f4").tobytes()
    assert only(ONE, WarmUpInput(DataType.FP32, (2,), contents)).tolist() == [[1, 2]]


def test_an_array() -> None:
    array = np.array([[1], [2]], np.float32)
    assert only(ONE, WarmUpInput(DataType.FP32, (2,), array), 2).tolist() == [[1, 2], [1, 2]]


# --- What is wrong ------------------------------------------------------------------------------------


def test_too_few_bytes() -> None:
    assert refusal(ONE, {"A": WarmUpInput(DataType.FP32, (2,), bytes(7))}) == (
        "warmup setting expects 8 bytes for input 'A', got 7"
    )


@pytest.mark.parametrize(
    ("contents", "got"),
    [
        (objects([b"x"]), "1 elements of type object"),
        (objects([b"x"] * 3), "3 elements of type object"),
        (np.zeros(2, np.float32), "2 elements of type float32"),
        (b"xx", "bytes"),
    ],
    ids=str,
)
def test_strings_that_do_not_fit(contents: Any, got: str) -> None:
    assert refusal(STRINGS, {"S": WarmUpInput(DataType.BYTES, (2,), contents)}) == (
        f"warmup setting expects 2 elements of type object for input 'S', got {got}"
    )


@pytest.mark.parametrize(
    ("contents", "got"),
    [
        (np.zeros(3, np.float32), "3 elements of type float32"),
        (np.zeros(2, np.float64), "2 elements of type float64"),
    ],
    ids=str,
)
def test_arrays_that_do_not_fit(contents: Any, got: str) -> None:
    assert refusal(ONE, {"A": WarmUpInput(DataType.FP32, (2,), contents)}) == (
        f"warmup setting expects 2 elements of type float32 for input 'A', got {got}"
    )


def test_a_dimension_that_is_not_known() -> None:
    assert refusal(SIGNATURE, {"A": ZERO, "B": WarmUpInput(DataType.INT64, (-1, 2), "zero")}) == (
        "warmup setting expects all variable-size dimensions are specified for input 'B'"
    )


def test_inputs_that_the_model_does_not_take() -> None:
    assert refusal(ONE, {}).startswith("expected 1 inputs but got 0 inputs for model 'M'")
    assert refusal(ONE, {"X": ZERO}) == "unexpected inference input 'X' for model 'M'"
    assert "data-type is 'INT32'" in refusal(ONE, {"A": WarmUpInput(DataType.INT32, (2,), "zero")})
    assert "Expected [-1,2], got [1,3]" in refusal(ONE, {"A": WarmUpInput(DataType.FP32, (3,), "zero")})


def test_a_shape_that_no_memory_could_hold() -> None:
    signature = Signature("M", (TensorSpec("A", DataType.FP32, (-1,)),), (), max_batch=0)
    assert "maximum size" in refusal(signature, {"A": WarmUpInput(DataType.FP32, (1 << 62,), "zero")})


def test_batch_sizes_that_the_model_does_not_take() -> None:
    assert refusal(ONE, {"A": ZERO}, 5) == "inference request batch-size must be <= 4 for 'M'"
    assert "got [0,2]" in refusal(ONE, {"A": ZERO}, 0)
    without = Signature("M", (A,), (), max_batch=0)
    assert refusal(without, {"A": ZERO}, 2) == (
        "got a batch size of 2 for 'M', which has no batch dimension, expected 1"
    )


# --- Zeros --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3])
def test_zeros(batch: int) -> None:
    profile = Profile((1, 2), (9, 2), usual=(7, 2))
    signature = Signature("M", (A, B, S), (), max_batch=4, profiles={"B": profile})
    arrays = zeros(signature, batch)
    assert [array.shape for array in arrays if array is not None] == [(batch, 2), (batch, 7, 2), (batch, 2)]
    taken(signature, arrays)
    assert arrays[2] is not None and arrays[2].tolist() == [[b"", b""]] * batch


def test_zeros_where_nothing_is_said_of_the_size() -> None:
    signature = Signature("M", (B, A), (), max_batch=0, optional=frozenset({"A"}))
    assert [array.shape for array in zeros(signature) if array is not None] == [(1, 2), (2,)]
