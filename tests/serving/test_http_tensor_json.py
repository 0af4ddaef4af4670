"""Tensors in JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yais.core.tensor import DataType, TensorSpec
from yais.errors import InvalidArgument
from yais.protocol.tensor_codec import objects
from yais.serving.http.tensor_json import decode, encode

NUMBERS = [
    DataType(name)
    for name in ["UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP32", "FP64"]
]


def elements(datatype):
    if datatype is DataType.BOOL:
        return st.booleans()
    if datatype is DataType.BYTES:
        return st.text(st.characters(exclude_categories=["Cs"]))
    if datatype.numpy.kind == "f":
        return st.floats(width=8 * datatype.size)
    limits = np.iinfo(datatype.numpy)
    return st.integers(int(limits.min), int(limits.max))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_what_is_encoded_is_decoded_again_however_it_is_nested(data):
    datatype = data.draw(st.sampled_from([*NUMBERS, DataType.BOOL, DataType.BYTES]))
    values = data.draw(st.lists(elements(datatype), max_size=12))
    spec = TensorSpec("X", datatype, (len(values),))
    contents = decode(spec, values)
    text = json.dumps(encode(spec, contents))
    again = decode(spec, json.loads(text))
    if datatype is DataType.BYTES:
        assert again.tolist() == [value.encode() for value in values]
    else:
        assert bytes(contents) == np.array(values, datatype.numpy).tobytes()
        read = [np.frombuffer(each, datatype.numpy) for each in (again, contents)]
        np.testing.assert_array_equal(*read)  # one NaN is like another in JSON
    cut = data.draw(st.integers(0, len(values)))
    nested = [values[:cut], [[value] for value in values[cut:]]]
    other = decode(spec, nested)
    assert other.tolist() == contents.tolist()


@pytest.mark.parametrize("datatype", NUMBERS)
def test_what_does_not_fit_is_refused(datatype):
    spec = TensorSpec("X", datatype, (1,))
    if datatype.numpy.kind == "f":
        assert np.isinf(np.frombuffer(decode(spec, [-1e999]), datatype.numpy))
        with pytest.raises(InvalidArgument, match="Unable to parse 'data'"):
            decode(spec, [10**400])
        return
    limits = np.iinfo(datatype.numpy)
    for value in (int(limits.min) - 1, int(limits.max) + 1, 10**30, -(10**30)):
        with pytest.raises(InvalidArgument, match="Unable to parse 'data'"):
            decode(spec, [value])


def test_a_large_fp64_is_infinite_as_fp32():
    spec = TensorSpec("X", DataType.FP32, (2,))
    assert np.frombuffer(decode(spec, [1e300, -1e300]), np.float32).tolist() == [np.inf, -np.inf]


@pytest.mark.parametrize(
    ("datatype", "value", "text"),
    [
        ("INT32", 1.0, "attempt to access JSON non-signed-integer as signed-integer"),
        ("INT32", True, "attempt to access JSON non-signed-integer as signed-integer"),
        ("INT32", None, "attempt to access JSON non-signed-integer as signed-integer"),
        ("UINT8", -1, "attempt to access JSON non-unsigned-integer as unsigned-integer"),
        ("UINT8", "1", "attempt to access JSON non-unsigned-integer as unsigned-integer"),
        ("FP32", "1", "attempt to access JSON non-number as number"),
        ("FP64", False, "attempt to access JSON non-number as number"),
        ("FP64", {}, "attempt to access JSON non-number as number"),
        ("BOOL", 1, "attempt to access JSON non-boolean as boolean"),
    ],
)
def test_elements_of_another_type_are_refused(datatype, value, text):
    with pytest.raises(InvalidArgument) as caught:
        decode(TensorSpec("X", DataType(datatype), (2,)), [[1], [value]])
    assert str(caught.value) == f"Unable to parse 'data': {text}"


@pytest.mark.parametrize(
    ("data", "kind"), [("abc", "array"), (None, "array"), (["a", 1], "string"), ([[None]], "string")]
)
def test_bytes_are_arrays_of_strings(data, kind):
    with pytest.raises(InvalidArgument, match=f"attempt to access JSON non-{kind} as {kind}"):
        decode(TensorSpec("X", DataType.BYTES, (1,)), data)


def test_half_a_character_is_refused():
    with pytest.raises(InvalidArgument, match="surrogate"):
        decode(TensorSpec("X", DataType.BYTES, (1,)), json.loads('["\\ud800"]'))


@pytest.mark.parametrize("data", [[1], [1, 2, 3], [[1], [2, 3]], []])
def test_too_few_and_too_many_are_refused(data):
    with pytest.raises(InvalidArgument) as caught:
        decode(TensorSpec("X", DataType.INT32, (2, 1)), data)
    assert str(caught.value) == "Unable to parse 'data': Shape does not match true shape of 'data' field"


@pytest.mark.parametrize("datatype", [DataType.FP16, DataType.BF16])
def test_half_floats_do_not_travel_as_json(datatype):
    spec = TensorSpec("X", datatype, (1,))
    with pytest.raises(InvalidArgument) as caught:
        decode(spec, [1.0])
    assert str(caught.value) == (
        f"receiving {datatype.value} data via JSON is not supported. Please use the binary data format "
        "for input X"
    )
    with pytest.raises(InvalidArgument) as caught:
        encode(spec, memoryview(b"\0\0"))
    assert str(caught.value) == (
        f"sending {datatype.value} data via JSON is not supported. Please use the binary data format "
        "for output X"
    )


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(InvalidArgument, match="output 'Y' holds bytes that are no UTF-8"):
        encode(TensorSpec("Y", DataType.BYTES, (2,)), objects([b"abc", b"\xff"]))
