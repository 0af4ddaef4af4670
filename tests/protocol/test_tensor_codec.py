"""Tensors on the wire: what numpy holds, what we write, and what Triton's own client makes of it."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tritonclient.grpc import InferInput
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor, triton_to_np_dtype

from yais.core.arrays import bf16_to_float32, float32_to_bf16
from yais.core.tensor import DataType
from yais.errors import InvalidArgument
from yais.protocol.tensor_codec import (
    decode,
    decode_bytes,
    encode,
    encode_bytes,
    objects,
)

FIXED = [datatype for datatype in DataType if datatype is not DataType.BYTES]

SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)

ELEMENTS = st.lists(
    st.one_of(
        st.binary(max_size=20), st.sampled_from([b"", b"\0", b"a\0", b"\0b", b"\xff\xfe", b"\xed\xa0\x80"])
    ),
    max_size=12,
)


@st.composite
def fixed_arrays(draw: st.DrawFn) -> tuple[DataType, Any]:
    datatype = draw(st.sampled_from(FIXED))
    return datatype, draw(arrays.arrays(datatype.numpy, draw(SHAPES)))


# --- Types of a fixed size ----------------------------------------------------------------------------


@given(fixed_arrays())
def test_round_trip(case: tuple[DataType, Any]) -> None:
    datatype, array = case
    wire = encode(array)
    assert wire.format == "B" and wire.ndim == 1 and wire.c_contiguous
    assert bytes(wire) == array.astype(array.dtype.newbyteorder("<")).tobytes()
    decoded = decode(datatype, array.shape, bytes(wire))
    assert decoded.dtype == datatype.numpy and decoded.shape == array.shape
    assert decoded.tobytes() == array.tobytes()  # as bits: NaN is not equal to itself


@given(fixed_arrays(), st.booleans(), st.integers(1, 3))
def test_arrays_in_any_order_of_memory_and_bytes(
    case: tuple[DataType, Any], big_endian: bool, step: int
) -> None:
    datatype, array = case
    odd = np.asarray(array, order="F")
    if odd.ndim:
        odd = np.repeat(odd, step, axis=0)[::step]
    if big_endian:
        odd = odd.astype(odd.dtype.newbyteorder(">"))
    assert decode(datatype, array.shape, encode(odd)).tobytes() == array.tobytes()


@pytest.mark.parametrize("datatype", FIXED, ids=str)
def test_nothing_is_copied(datatype: DataType) -> None:
    array = np.zeros((3, 4), datatype.numpy)
    wire = encode(array)
    assert np.shares_memory(np.frombuffer(wire, np.uint8), array)
    message = b"x" + bytes(wire)  # not even where the contents are not aligned
    decoded = decode(datatype, (3, 4), memoryview(message)[1:])
    assert np.shares_memory(decoded, np.frombuffer(message, np.uint8))
    assert not decoded.flags.writeable


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ((2,), b"1234567"),  # no whole number of elements
        ((2,), b"1234"),
        ((2,), b""),
        ((), b""),
        ((0,), b"1234"),
        ((-1,), b"1234"),
        ((-2, -1), b"12345678"),  # the product is right
        ((0, 1 << 62, 1 << 62), b""),  # more than numpy can have
    ],
)
def test_sizes_that_lie_are_refused(shape: tuple[int, ...], data: bytes) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode(DataType.FP32, shape, data)
    assert str(caught.value) == f"got {len(data)} bytes for a FP32 tensor of shape {list(shape)}"


# --- BYTES --------------------------------------------------------------------------------------------


@given(ELEMENTS)
def test_bytes_round_trip(elements: list[bytes]) -> None:
    wire = encode_bytes(elements)
    assert wire == b"".join(struct.pack("<I", len(element)) + element for element in elements)
    for data in (wire, memoryview(wire)):
        decoded = decode_bytes(data)
        assert decoded.dtype == np.object_ and decoded.shape == (len(elements),)
        assert decoded.tolist() == elements
    assert encode(objects(elements)) == wire


@given(ELEMENTS)
def test_bytes_are_those_of_tritonclient(elements: list[bytes]) -> None:
    array = objects(elements)
    theirs = serialize_byte_tensor(array)
    wire = theirs.item() if theirs.size else b""
    assert encode_bytes(array) == wire
    assert deserialize_bytes_tensor(encode_bytes(array)).tolist() == decode_bytes(wire).tolist() == elements


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (6,), (1, 6, 1)])
def test_bytes_of_a_shape(shape: tuple[int, ...]) -> None:
    elements = [b"a", b"", b"ccc\0", b"\xff", b"e", b"f"]
    array = objects(elements).reshape(shape)
    decoded = decode(DataType.BYTES, shape, bytes(encode(array)))
    assert decoded.shape == shape and decoded.tolist() == array.tolist()
    assert bytes(encode(np.asfortranarray(array))) == bytes(encode(array))


@pytest.mark.parametrize("shape", [(3,), (1,), (2, 2), (-1,), (-1, -2), ()])
def test_bytes_of_another_number_are_refused(shape: tuple[int, ...]) -> None:
    wire = encode_bytes([b"ab", b""])
    with pytest.raises(InvalidArgument) as caught:
        decode(DataType.BYTES, shape, wire)
    assert str(caught.value) == f"got 2 elements for a BYTES tensor of shape {list(shape)}"


@pytest.mark.parametrize(
    "array",
    [np.array(["a", "bc", "é"]), np.array([b"a", b"bc", b"\xc3\xa9"]), np.array(["a", b"bc", "é"], object)],
)
def test_text_is_encoded(array: Any) -> None:
    assert decode_bytes(encode(array)).tolist() == [b"a", b"bc", b"\xc3\xa9"]


@pytest.mark.parametrize("element", [7, 1.5, None, [1, 2]])
def test_other_objects_are_no_bytes(element: object) -> None:
    # bytes(7) would be seven zeros.
    with pytest.raises(TypeError):
        encode_bytes([b"ok", element])


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        (b"\x01", "incomplete string length indicator, expecting 4 bytes but only 1 bytes available"),
        (
            b"\x01\0\0\0a\x02\0\0",
            "incomplete string length indicator, expecting 4 bytes but only 3 bytes available",
        ),
        (
            b"\x05\0\0\0abc",
            "incomplete string data, expecting string of length 5 but only 3 bytes available",
        ),
        (
            b"\xff\xff\xff\xff",
            "incomplete string data, expecting string of length 4294967295 but only 0 bytes available",
        ),
    ],
)
def test_lengths_that_lie_are_refused(wire: bytes, text: str) -> None:
    for data in (wire, memoryview(wire)):
        with pytest.raises(InvalidArgument) as caught:
            decode_bytes(data)
        assert str(caught.value) == text


@given(st.binary(max_size=40))
def test_any_bytes_decode_or_are_refused(wire: bytes) -> None:
    try:
        elements = decode_bytes(wire).tolist()
    except InvalidArgument:
        return
    assert encode_bytes(elements) == wire


def test_bytes_elements_do_not_keep_the_message() -> None:
    message = bytearray(encode_bytes([b"abc"]))
    decoded = decode_bytes(memoryview(message))
    message[4:] = b"xyz"
    assert decoded.tolist() == [b"abc"]


# --- BF16 ---------------------------------------------------------------------------------------------


BFLOAT16 = triton_to_np_dtype("BF16")


@given(arrays.arrays(np.uint16, st.integers(1, 20)))
def test_bf16_is_that_of_tritonclient(bits: Any) -> None:
    theirs = InferInput("x", list(bits.shape), "BF16")
    theirs.set_data_from_numpy(bits.view(BFLOAT16))
    assert bytes(encode(bits)) == theirs._get_content()
    values = bf16_to_float32(decode(DataType.BF16, bits.shape, theirs._get_content()))
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, bits.view(BFLOAT16).astype(np.float32))


@given(arrays.arrays(np.float32, SHAPES))
def test_float32_is_cut_to_bf16(array: Any) -> None:
    cut = float32_to_bf16(array)
    assert cut.dtype == np.uint16 and cut.shape == array.shape
    upper = [struct.pack("<f", value)[2:] for value in array.ravel().tolist() if value == value]
    assert [bits.tobytes() for bits in cut.ravel()[~np.isnan(array.ravel())]] == upper


@given(arrays.arrays(np.uint16, SHAPES))
@example(np.array([0x7F81, 0xFF81, 0x7FC0, 0x7F80], np.uint16))  # none of them is another
def test_bf16_round_trip(bits: Any) -> None:
    back = float32_to_bf16(bf16_to_float32(bits))
    assert back.shape == bits.shape
    assert back.tolist() == bits.tolist()


@pytest.mark.parametrize("shape", [(0,), (2, 0, 3), (), (1,)])
def test_empty_and_scalar(shape: tuple[int, ...]) -> None:
    for datatype in FIXED:
        array = np.zeros(shape, datatype.numpy)
        assert len(encode(array)) == math.prod(shape) * datatype.size
        assert decode(datatype, shape, encode(array)).shape == shape
    assert decode(DataType.BYTES, shape, encode_bytes([b"x"] * math.prod(shape))).shape == shape
    assert float32_to_bf16(np.zeros(shape, np.float32)).shape == shape


def test_what_is_no_number_in_float32_is_none_in_bf16() -> None:
    quiet, low, negative = np.array([0x7FC00000, 0x7F800001, 0xFF800001], np.uint32).view(np.float32)
    array = np.array([quiet, low, negative, np.inf, -np.inf], np.float32)
    back = bf16_to_float32(float32_to_bf16(array))
    assert np.isnan(back[:3]).all()
    assert back[3:].tolist() == [np.inf, -np.inf]
