"""Requests made of arrays, and made up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_takes import array_of, taking

from yais.core.tensor import DataType, TensorSpec
from yais.errors import InvalidArgument
from yais.load.input_sizes import sized
from yais.load.inputs import from_arrays, generated
from yais.load.made_up import made_up

NAMES = [datatype.value for datatype in DataType]

SIMPLE = taking(("a", "INT32", (4,)), ("b", "INT32", (4,)), batch=8)


def numbers(array):
    """Return elements as numbers; those of BYTES are texts of some."""
    return array.astype(np.float64)


@pytest.mark.parametrize("kind", ["random", "zero"])
@pytest.mark.parametrize("name", NAMES)
def test_made_up_values_are_small_numbers_of_every_type(name, kind):
    (tensor,) = generated(taking(("x", name, (50, -1)), batch=4), 3, {"x": (50, 2)}, kind)
    assert tensor.spec == TensorSpec("x", DataType(name), (3, 50, 2))
    values = numbers(array_of(tensor))
    assert values.min() >= 0 and values.max() < 100
    assert (values == 0).all() == (kind == "zero")
    if name.startswith(("INT", "UINT", "BYTES", "BOOL")):
        assert (values == values.astype(int)).all()


def test_a_seed_repeats_them():
    model = taking(("x", "FP32", (9,)), ("t", "BYTES", (2,)))
    first, again, other = (
        [bytes(tensor.data) for tensor in generated(model, seed=seed)] for seed in (5, 5, 6)
    )
    assert first == again != other


def test_texts():
    model = taking(("t", "BYTES", (300,)))
    (given_length,) = generated(model, string_length=12)
    texts = array_of(given_length).tolist()
    assert {len(text) for text in texts} == {12} and len(set(texts)) == 300
    assert all(text.isalnum() for text in texts)
    (same,) = generated(model, string_data="hé", string_length=12)
    assert set(array_of(same).tolist()) == {"hé".encode()}
    (zeros,) = generated(model, kind="zero", string_length=3)
    assert set(array_of(zeros).tolist()) == {b"000"}
    (empty,) = generated(model, string_length=0)
    assert set(array_of(empty).tolist()) == {b""}


@pytest.mark.parametrize(
    ("batch", "shapes", "text"),
    [
        (9, {}, "got a batch of 9, but model 'm' takes batches of at most 8"),
        (1, {"a": (5,)}, "got shape [5] for 'a', expected [4] (-1: any size)"),
        (1, {"a": (4, 1)}, "got shape [4, 1] for 'a', expected [4] (-1: any size)"),
        (1, {"c": (4,)}, "got a shape for 'c', expected one of a, b"),
    ],
)
def test_what_is_not_made_up(batch, shapes, text):
    with pytest.raises(InvalidArgument) as caught:
        generated(SIMPLE, batch, shapes)
    assert str(caught.value) == text


@pytest.mark.parametrize("datatype", ["FP32", "BYTES", "BOOL"])
def test_what_is_too_large_for_any_message(datatype):
    with pytest.raises(InvalidArgument, match=rf"for x: {datatype}, expected less than 2 GiB"):
        generated(taking(("x", datatype, (-1,))), 1, {"x": (10**30,)})


def test_no_batches():
    with pytest.raises(InvalidArgument, match="got a batch of 2, but model 'm' takes no batches"):
        generated(taking(("x", "INT8", (2,))), 2)
    (tensor,) = generated(taking(("x", "INT8", (2,))))
    assert tensor.spec.shape == (2,)


SIZES = st.integers(1, 4)


@st.composite
def models(draw):
    """Inputs of several types, each with one dimension of any size at most."""
    specs = []
    for number in range(draw(st.integers(1, 3))):
        shape = draw(st.lists(SIZES, max_size=3))
        if draw(st.booleans()):
            shape.insert(draw(st.integers(0, len(shape))), -1)
        specs.append((f"x{number}", draw(st.sampled_from(NAMES)), tuple(shape)))
    return taking(*specs, batch=8)


@given(models(), st.integers(1, 8), st.integers(0, 2000))
def test_a_size_is_kept_or_refused_with_sizes_that_are_possible(model, batch, nbytes):
    for _ in range(2):
        try:
            made = generated(model, batch, nbytes=nbytes)
        except InvalidArgument as error:
            refused = str(error)
            # What it names as possible is possible.
            nbytes = int(refused.rpartition(" ")[2])
        else:
            assert sum(len(tensor.data) for tensor in made) == nbytes
            return
    pytest.fail(refused)


def test_sizes_that_are_asked_for():
    bound = taking(("x", "FP32", (3, -1)), ("y", "INT64", (2,)), batch=4)
    assert [tensor.spec.shape for tensor in generated(bound, 2, nbytes=2 * (24 + 16))] == [(2, 3, 2), (2, 2)]
    shaped = generated(bound, 1, {"x": (3, 7)}, nbytes=84 + 16)
    assert shaped[0].spec.shape == (1, 3, 7)
    (text,) = generated(taking(("t", "BYTES", (-1, 2))), nbytes=64)
    assert [len(element) for element in array_of(text).ravel()] == [28, 28]


@pytest.mark.parametrize(
    ("spec", "nbytes", "text"),
    [
        (("x", "FP32", (-1,)), 10, "got 10 bytes for the inputs, expected 8 or 12"),
        (("x", "FP32", (4,)), 10, "got 10 bytes for the inputs, expected 16"),
        (("t", "BYTES", (4,)), 10, "got 10 bytes for the inputs, expected at least 16"),
        (("t", "BYTES", (0,)), 18, "got 18 bytes for the inputs, expected 0"),
        (("t", "BYTES", (4,)), 18, "got 18 bytes for the inputs, expected 16 or 20"),
        (
            ("x", "FP32", (-1, -1)),
            8,
            (
                "got 8 bytes for x: FP32[-1, -1], which has more than one dimension of any size: "
                "expected a shape for it"
            ),
        ),
    ],
)
def test_sizes_that_cannot_be(spec, nbytes, text):
    with pytest.raises(InvalidArgument) as caught:
        generated(taking(spec), nbytes=nbytes)
    assert str(caught.value) == text


def test_sizes_of_nothing():
    with pytest.raises(InvalidArgument, match="expected 0"):
        sized([], {}, 1, 5)


@pytest.mark.parametrize("shape", [(4,), (1, 4)])
def test_the_batch_dimension_may_be_left_out(shape):
    a, b = from_arrays(SIMPLE, {"b": np.ones(shape, np.int32), "a": np.zeros(shape, np.int32)})
    assert (a.spec.name, a.spec.shape, b.spec.name, b.spec.shape) == ("a", (1, 4), "b", (1, 4))
    assert array_of(b).tolist() == [[1, 1, 1, 1]]
    (alone,) = from_arrays(taking(("x", "INT8", (4,))), {"x": [1, 2, 3, 4]})
    assert alone.spec == TensorSpec("x", DataType.INT8, (4,))


@pytest.mark.parametrize("name", NAMES)
def test_arrays_of_every_type(name):
    made = made_up([TensorSpec("x", DataType(name), (5,))], (2,), seed=1)
    (tensor,) = from_arrays(taking(("x", name, (-1,)), batch=2), made)
    got = array_of(tensor)
    # BF16 has half the digits of the float32 that it is given as.
    np.testing.assert_allclose(numbers(got), numbers(made["x"]), rtol=0.01)


def test_optional_inputs_may_be_missing():
    model = taking(("x", "INT8", (1,)), ("y", "INT8", (1,)), y={"optional": True})
    assert [tensor.spec.name for tensor in from_arrays(model, {"x": [1]})] == ["x"]
    assert [tensor.spec.name for tensor in generated(model)] == ["x", "y"]  # as perf_analyzer does


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"a": [1, 2, 3, 4]}, "got no input 'b' for model 'm', expected a, b"),
        ({"a": [1] * 4, "b": [1] * 4, "c": []}, "got an input 'c' for model 'm', expected a, b"),
        (
            {"a": [1, 2, 3], "b": [1] * 4},
            "got shape [3] for input 'a', expected [4], with or without a batch before it",
        ),
        ({"a": [1.5] * 4, "b": [1] * 4}, "got an array of float64 for input 'a', expected INT32"),
        (
            {"a": [[1] * 4] * 9, "b": [1] * 4},
            "got a batch of 9, but model 'm' takes batches of at most 8",
        ),
    ],
)
def test_arrays_that_do_not_fit(arrays, text):
    with pytest.raises(InvalidArgument) as caught:
        from_arrays(SIMPLE, arrays)
    assert str(caught.value) == text


def test_dimensions_of_any_size_are_said():
    with pytest.raises(InvalidArgument) as caught:
        from_arrays(taking(("x", "INT8", (-1, 2))), {"x": [1, 2]})
    assert str(caught.value) == "got shape [2] for input 'x', expected [-1, 2] (-1: any size)"
