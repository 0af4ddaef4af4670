"""Checking the form of requests: what is found out, and Triton's texts for what is wrong."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yais.core.tensor import DataType, TensorSpec
from yais.errors import InvalidArgument
from yais.inference.layout import Layout, Signature
from yais.inference.request import InferRequest, TensorData
from yais.protocol.tensor_codec import objects

A = TensorSpec("A", DataType.FP32, (4,))
B = TensorSpec("B", DataType.INT64, (-1, 2))
S = TensorSpec("S", DataType.BYTES, (3,))
Y = TensorSpec("Y", DataType.FP32, (4,))
Z = TensorSpec("Z", DataType.FP32, (-1,))

BATCHING = Signature("M", (A, B, S), (Y, Z), max_batch=8)
PLAIN = Signature("M", (A, B, S), (Y, Z), max_batch=0)
ONE = Signature("M", (A,), (Y, Z), max_batch=8)

NOTE = (
    " NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended "
    "to each input shape. If you want to specify the full shape including the batch dim in your input dims "
    "config, try setting max_batch_size to zero. See the model "
    "configuration docs for more info on max_batch_size."
)


def spec(name: str, datatype: DataType, *shape: int) -> TensorSpec:
    return TensorSpec(name, datatype, shape)


def good(batch: int = 2, length: int = 5) -> list[TensorSpec]:
    return [
        spec("A", DataType.FP32, batch, 4),
        spec("B", DataType.INT64, batch, length, 2),
        spec("S", DataType.BYTES, batch, 3),
    ]


def layout(signature: Signature, inputs: list[TensorSpec], outputs: list[str] | None = None) -> Layout:
    return signature.layout(InferRequest(inputs, [b""] * len(inputs), outputs or []))


def refusal(signature: Signature, inputs: list[TensorSpec], outputs: list[str] | None = None) -> str:
    with pytest.raises(InvalidArgument) as caught:
        layout(signature, inputs, outputs)
    return str(caught.value)


# --- What is found out --------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_inputs_come_in_any_order(order: tuple[int, ...]) -> None:
    given_inputs = [good()[position] for position in order]
    found = layout(BATCHING, given_inputs)
    assert found.batch == 2
    assert found.shapes == ((2, 4), (2, 5, 2), (2, 3))
    assert [given_inputs[position].name for position in found.order] == ["A", "B", "S"]
    # In the request's order: bytes, and elements of BYTES.
    assert found.sizes == tuple({"A": 32, "B": 160, "S": 6}[spec.name] for spec in given_inputs)
    assert found.outputs == (0, 1)


def test_without_a_batch_dimension() -> None:
    inputs = [spec("A", DataType.FP32, 4), spec("B", DataType.INT64, 7, 2), spec("S", DataType.BYTES, 3)]
    found = layout(PLAIN, inputs)
    assert found.batch == 1 and found.shapes == ((4,), (7, 2), (3,)) and found.sizes == (16, 112, 3)
    scalar = Signature("M", (TensorSpec("X", DataType.FP16, ()),), (), max_batch=0)
    assert layout(scalar, [spec("X", DataType.FP16)]).sizes == (2,)


def test_without_inputs() -> None:
    assert layout(Signature("M", (), (Y,), max_batch=4), []).batch == 1


def test_groups() -> None:
    assert layout(BATCHING, good(2)).group == layout(BATCHING, good(3)).group
    assert layout(BATCHING, good(2)).group == layout(BATCHING, good(2)[::-1]).group
    assert layout(BATCHING, good(2)).group == layout(BATCHING, good(2), ["Z"]).group
    assert layout(BATCHING, good(2, length=5)).group != layout(BATCHING, good(2, length=6)).group


@pytest.mark.parametrize(
    ("asked", "expected"), [([], (0, 1)), (["Y"], (0,)), (["Z"], (1,)), (["Z", "Y"], (1, 0))]
)
def test_outputs_come_in_the_order_asked_for(asked: list[str], expected: tuple[int, ...]) -> None:
    assert layout(BATCHING, good(), asked).outputs == expected


@given(st.integers(1, 8), st.integers(0, 50))
def test_sizes(batch: int, length: int) -> None:
    found = layout(BATCHING, good(batch, length))
    assert found.batch == batch and found.sizes == (16 * batch, 16 * batch * length, 3 * batch)


def test_dimensions_of_no_size() -> None:
    assert layout(BATCHING, good(2, length=0)).sizes == (32, 0, 6)
    assert layout(
        PLAIN, [spec("A", DataType.FP32, 4), spec("B", DataType.INT64, 0, 2), spec("S", DataType.BYTES, 3)]
    ).sizes == (16, 0, 3)


# --- What is wrong (kserve-v2.md, row 30) -------------------------------------------------------------


def test_too_large_a_batch() -> None:
    assert layout(BATCHING, good(8)).batch == 8
    assert refusal(BATCHING, good(9)) == "inference request batch-size must be <= 8 for 'M'"


@pytest.mark.parametrize(
    ("shape", "got"),
    [
        ((2, 5), "[2,5]"),
        ((2,), "[2]"),
        ((4,), "[4]"),
        ((), "[]"),
        ((2, 4, 1), "[2,4,1]"),
        ((2, -1), "[2,-1]"),
        ((-1, 4), "[-1,4]"),
        ((0, 4), "[0,4]"),
        ((-(1 << 63), 4), "[-9223372036854775808,4]"),
    ],
)
def test_the_wrong_shape(shape: tuple[int, ...], got: str) -> None:
    assert refusal(ONE, [spec("A", DataType.FP32, *shape)]) == (
        f"unexpected shape for input 'A' for model 'M'. Expected [-1,4], got {got}.{NOTE}"
    )


def test_the_wrong_shape_where_any_size_fits() -> None:
    inputs = good()
    inputs[1] = spec("B", DataType.INT64, 2, -1, 2)
    assert refusal(BATCHING, inputs) == (
        f"unexpected shape for input 'B' for model 'M'. Expected [-1,-1,2], got [2,-1,2].{NOTE}"
    )


def test_the_wrong_shape_without_a_batch_dimension() -> None:
    signature = Signature("M", (A,), (Y,), max_batch=0)
    assert refusal(signature, [spec("A", DataType.FP32, 1, 4)]) == (
        "unexpected shape for input 'A' for model 'M'. Expected [4], got [1,4]."
    )


def test_the_wrong_type() -> None:
    assert refusal(ONE, [spec("A", DataType.INT32, 2, 4)]) == (
        "inference input 'A' data-type is 'INT32', but model 'M' expects 'FP32'"
    )


def test_missing_inputs() -> None:
    assert refusal(BATCHING, good()[:1]) == (
        "expected 3 inputs but got 1 inputs for model 'M'. Got input(s) ['A'], but missing required input(s) "
        "['B','S']. Please provide all required input(s)."
    )
    assert refusal(BATCHING, []) == (
        "expected 3 inputs but got 0 inputs for model 'M'. Got input(s) [], but missing required input(s) "
        "['A','B','S']. Please provide all required input(s)."
    )


def test_too_many_inputs() -> None:
    assert refusal(ONE, good()).startswith(
        "expected 1 inputs but got 3 inputs for model 'M'. Got input(s) ['A','B','S']"
    )


def test_an_input_twice() -> None:
    assert refusal(BATCHING, [*good()[:2], good()[0]]) == "input 'A' already exists in request"


def test_an_unknown_input() -> None:
    inputs = [*good()[:2], spec("X", DataType.BYTES, 2, 3)]
    assert refusal(BATCHING, inputs) == "unexpected inference input 'X' for model 'M'"


def test_different_batches() -> None:
    inputs = [*good(2)[:2], good(3)[2]]
    assert refusal(BATCHING, inputs) == "input 'S' batch size does not match other inputs for 'M'"


def test_outputs_unknown_and_twice() -> None:
    assert refusal(BATCHING, good(), ["Y", "X"]) == "unexpected inference output 'X' for model 'M'"
    assert refusal(BATCHING, good(), ["Y", "Z", "Y"]) == "output 'Y' already exists in request"


@pytest.mark.parametrize("datatype", [DataType.FP32, DataType.UINT8, DataType.BYTES], ids=str)
@pytest.mark.parametrize(
    "shape",
    [(1 << 62, 8), (1 << 40, 1 << 40), ((1 << 63) - 1, 2), (0, 1 << 62, 8), ((1 << 63) - 1, 0, 1 << 40)],
)
def test_more_elements_than_can_be_counted(datatype: DataType, shape: tuple[int, ...]) -> None:
    # Also where a dimension of no size hides them: no array can have that shape.
    signature = Signature("M", (TensorSpec("X", datatype, (-1,) * len(shape)),), (), max_batch=0)
    listed = ",".join(map(str, shape))
    assert refusal(signature, [spec("X", datatype, *shape)]) == (
        f"shape [{listed}] of input 'X' for model 'M' causes total element count to exceed maximum size of "
        "2^63-1 bytes"
    )


# --- Contents -----------------------------------------------------------------------------------------


def contents(batch: int = 2) -> list[TensorData]:
    return [bytes(16 * batch), bytes(80 * batch), objects([b""] * (3 * batch))]


def size_refusal(data: list[TensorData]) -> str:
    with pytest.raises(InvalidArgument) as caught:
        BATCHING.check_sizes(layout(BATCHING, good()), good(), data)
    return str(caught.value)


def test_contents_of_the_right_size() -> None:
    BATCHING.check_sizes(layout(BATCHING, good()), good(), contents())
    inputs, data = good()[::-1], contents()[::-1]
    BATCHING.check_sizes(layout(BATCHING, inputs), inputs, data)


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_too_few_or_too_many_bytes(size: int) -> None:
    assert size_refusal([memoryview(bytes(size)), *contents()[1:]]) == (
        f"input byte size mismatch for input 'A' for model 'M'. Expected 32, got {size}"
    )


def test_too_few_strings() -> None:
    assert size_refusal([*contents()[:2], objects([b""] * 5)]) == (
        "expected 6 string elements for inference input 'S' for model 'M', got 5"
    )


def test_too_many_strings() -> None:
    assert size_refusal([*contents()[:2], objects([b""] * 7)]) == (
        "unexpected number of string elements 7 for inference input 'S' for model 'M', expecting 6"
    )


# --- Optional inputs ----------------------------------------------------------------------------------

OPTIONAL = Signature("M", (A, B, S), (Y, Z), max_batch=8, optional=frozenset({"A", "S"}))
ALL_OPTIONAL = Signature("M", (A, S), (Y,), max_batch=8, optional=frozenset({"A", "S"}))


@given(st.permutations(range(3)), st.sets(st.sampled_from("AS")))
def test_optional_inputs_may_be_left_out(order: list[int], left_out: set[str]) -> None:
    inputs = [tensor for tensor in (good()[position] for position in order) if tensor.name not in left_out]
    found = layout(OPTIONAL, inputs)
    assert found.batch == 2
    for name, shape, position in zip("ABS", found.shapes, found.order, strict=True):
        if name in left_out:
            assert position == -1 and shape == ()
        else:
            assert inputs[position].name == name and shape == inputs[position].shape
    assert found.sizes == tuple({"A": 32, "B": 160, "S": 6}[tensor.name] for tensor in inputs)


def test_only_requests_with_the_same_inputs_share_a_batch() -> None:
    groups = [
        layout(OPTIONAL, [tensor for tensor in good() if tensor.name not in left_out]).group
        for left_out in ("", "A", "S", "AS")
    ]
    assert len(set(groups)) == 4
    assert layout(OPTIONAL, good(3)[1:]).group == layout(OPTIONAL, good(2)[1:]).group


@pytest.mark.parametrize("max_batch", [0, 8])
def test_a_scalar_is_not_the_same_as_nothing(max_batch: int) -> None:
    scalar = TensorSpec("X", DataType.FP32, ())
    signature = Signature("M", (A, scalar), (), max_batch=max_batch, optional=frozenset({"X"}))
    batch = (2,) if max_batch else ()
    inputs = [spec("A", DataType.FP32, *batch, 4), spec("X", DataType.FP32, *batch)]
    assert layout(signature, inputs).group != layout(signature, inputs[:1]).group


def test_none_of_several_optional_inputs() -> None:
    found = layout(ALL_OPTIONAL, [])
    assert found.batch == 1 and found.order == (-1, -1) and found.shapes == ((), ()) and found.sizes == ()


def test_the_batch_without_the_first_input() -> None:
    assert layout(OPTIONAL, good(5)[1:]).batch == 5
    assert refusal(OPTIONAL, good(9)[1:]) == "inference request batch-size must be <= 8 for 'M'"
    assert refusal(OPTIONAL, [good(2)[1], good(3)[2]]) == (
        "input 'S' batch size does not match other inputs for 'M'"
    )


def test_too_few_inputs_where_some_are_optional() -> None:
    assert refusal(OPTIONAL, []) == (
        "expected number of inputs between 1 and 3 but got 0 inputs for model 'M'. Got input(s) [], but "
        "missing required input(s) ['B']. Please provide all required input(s)."
    )


def test_optional_inputs_without_the_required_one() -> None:
    # As many as would do, and two of them optional.
    assert refusal(OPTIONAL, [good()[0], good()[2]]) == (
        "expected number of inputs between 1 and 3 but got 2 inputs for model 'M'. Got input(s) ['A','S'], "
        "but missing required input(s) ['B']. Please provide all required input(s)."
    )


def test_too_many_inputs_where_some_are_optional() -> None:
    inputs = [*good(), spec("X", DataType.BYTES, 2, 3)]
    assert refusal(OPTIONAL, inputs) == (
        "expected number of inputs between 1 and 3 but got 4 inputs for model 'M'. Got input(s) "
        "['A','B','S','X']. Expected ['A','B','S']."
    )


def test_an_unknown_input_instead_of_an_optional_one() -> None:
    assert refusal(OPTIONAL, [good()[1], spec("X", DataType.BYTES, 2, 3)]) == (
        "unexpected inference input 'X' for model 'M'"
    )


def test_an_optional_input_is_checked_where_it_is_given() -> None:
    assert refusal(OPTIONAL, [spec("A", DataType.INT32, 2, 4), good()[1]]) == (
        "inference input 'A' data-type is 'INT32', but model 'M' expects 'FP32'"
    )
    inputs = good()[:2]
    with pytest.raises(InvalidArgument, match=r"byte size mismatch for input 'B'.*Expected 160, got 1$"):
        OPTIONAL.check_sizes(layout(OPTIONAL, inputs), inputs, [bytes(32), bytes(1)])
