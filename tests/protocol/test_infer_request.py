"""Our reader of ModelInferRequest against protobuf's: the same messages, read the same way."""

from __future__ import annotations

import gc
import struct
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from yais.core.tensor import DataType
from yais.errors import Internal, InvalidArgument
from yais.protocol import kserve_pb2 as pb
from yais.protocol.infer_request import (
    InferMessage,
    InputHeader,
    OutputHeader,
    Parameter,
    decode_infer_request,
)
from yais.protocol.tensor_codec import encode_bytes

Tensor = pb.ModelInferRequest.InferInputTensor
Output = pb.ModelInferRequest.InferRequestedOutputTensor

TYPED = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Which field holds the elements of which type (kserve-v2.md, row 26)."""


# --- What protobuf's parser says ----------------------------------------------------------------------


class Refused(Exception):
    """Protobuf cannot parse it: INTERNAL, or INVALID_ARGUMENT if something else was noticed first."""


class Contradiction(Exception):
    """It parses, and is INVALID_ARGUMENT all the same."""


def value_of(parameter: pb.InferParameter) -> Any:
    choice = parameter.WhichOneof("parameter_choice")
    return comparable(getattr(parameter, choice)) if choice else None


def comparable(value: Any) -> Any:
    if isinstance(value, float):
        return struct.pack("<d", value)  # NaN is not equal to itself
    return type(value).__name__, value  # and True is 1


def parameters_of(holder: Any) -> dict[str, Any]:
    return {key: value_of(value) for key, value in holder.parameters.items()}


def elements(raw: bytes) -> list[bytes]:
    found = []
    while raw:
        if len(raw) < 4 or len(raw) - 4 < (length := struct.unpack("<I", raw[:4])[0]):
            raise Contradiction("BYTES")
        found.append(raw[4 : 4 + length])
        raw = raw[4 + length :]
    return found


def typed(tensor: Any, shape: tuple[int, ...]) -> Any:
    fields = [(field.name, values) for field, values in tensor.contents.ListFields()]
    wanted = TYPED.get(tensor.datatype)
    if not fields:
        if wanted is None or np.prod(shape, dtype=object):
            raise Contradiction("nothing there")
        return b"" if tensor.datatype != "BYTES" else []
    name, values = fields[0]
    if name != wanted:
        raise Contradiction("the wrong field")
    if tensor.datatype == "BYTES":
        return list(values)
    kind = DataType(tensor.datatype).numpy
    if kind.kind in "iu" and any(not np.iinfo(kind).min <= value <= np.iinfo(kind).max for value in values):
        raise Contradiction("out of range")
    return b"".join(kind.type(value).tobytes() for value in values)


def by_protobuf(message: bytes) -> Any:
    try:
        request = pb.ModelInferRequest.FromString(message)
    except DecodeError:
        raise Refused from None
    inputs, data = [], []
    raw = list(request.raw_input_contents)
    for tensor in request.inputs:
        if tensor.datatype not in {datatype.value for datatype in DataType}:
            raise Contradiction("data type")
        shape = tuple(tensor.shape)
        inputs.append((tensor.name, tensor.datatype, shape, parameters_of(tensor)))
        if "shared_memory_region" in tensor.parameters:
            if tensor.HasField("contents"):
                raise Contradiction("contents, too")
            data.append(None)
        elif tensor.HasField("contents"):
            if request.raw_input_contents:
                raise Contradiction("both")
            data.append(typed(tensor, shape))
        elif not raw:
            raise Contradiction("too few")
        else:
            data.append(raw.pop(0) if tensor.datatype != "BYTES" else elements(raw.pop(0)))
    if raw:
        raise Contradiction("too many")
    return (
        (request.model_name, request.model_version, request.id),
        parameters_of(request),
        inputs,
        [(output.name, parameters_of(output)) for output in request.outputs],
        data,
    )


def values(parameters: dict[str, Any]) -> dict[str, Any]:
    return {key: None if value is None else comparable(value) for key, value in parameters.items()}


def by_us(message: bytes) -> Any:
    decoded = decode_infer_request(message)
    return (
        (decoded.model_name, decoded.model_version, decoded.id),
        values({parameter.key: parameter.value for parameter in decoded.parameters}),
        [
            (header.spec.name, header.spec.datatype.value, header.spec.shape, values(header.parameters))
            for header in decoded.inputs
        ],
        [(header.name, values(header.parameters)) for header in decoded.outputs],
        [
            None if data is None else data.tolist() if isinstance(data, np.ndarray) else bytes(data)
            for data in decoded.data
        ],
    )


def check(message: bytes) -> str:
    """Compare the two; return how it ended."""
    try:
        expected = by_protobuf(message)
    except Refused:
        with pytest.raises(Internal):
            decode_infer_request(message)
        return "refused"
    except Contradiction:
        with pytest.raises(InvalidArgument):
            decode_infer_request(message)
        return "contradiction"
    assert by_us(message) == expected
    return "accepted"


# --- Messages, field by field -------------------------------------------------------------------------


def varint(value: int, padding: int = 0) -> bytes:
    """Encode a number, with `padding` bytes more than needed."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    for _ in range(padding):
        encoded[-1] |= 0x80
        encoded.append(0)
    return bytes(encoded)


def delimited(number: int, payload: bytes, tag_padding: int = 0, length_padding: int = 0) -> bytes:
    return varint(number << 3 | 2, tag_padding) + varint(len(payload), length_padding) + payload


INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
TEXT = st.text(max_size=12)
PADDING = st.sampled_from([0] * 12 + [1, 2, 3, 4])


@st.composite
def parameters(draw: st.DrawFn) -> pb.InferParameter:
    value = draw(
        st.one_of(
            st.builds(pb.InferParameter),
            st.builds(pb.InferParameter, bool_param=st.booleans()),
            st.builds(pb.InferParameter, int64_param=INT64),
            st.builds(pb.InferParameter, string_param=TEXT),
            st.builds(pb.InferParameter, double_param=st.floats()),
            st.builds(pb.InferParameter, uint64_param=st.integers(0, (1 << 64) - 1)),
        )
    )
    assert isinstance(value, pb.InferParameter)
    return value


PARAMETERS = st.dictionaries(
    st.one_of(TEXT, st.sampled_from(["sequence_id", "shared_memory_region", "classification"])),
    parameters(),
    max_size=2,
)


@st.composite
def tensors(draw: st.DrawFn, with_contents: bool) -> Any:
    datatype = draw(st.sampled_from([datatype.value for datatype in DataType] + ["FP8", ""]))
    if with_contents and draw(st.integers(0, 9)):
        datatype = draw(st.sampled_from(list(TYPED)))
    tensor = Tensor(
        name=draw(TEXT), datatype=datatype, shape=draw(st.lists(st.integers(-2, 300), max_size=3))
    )
    for key, value in draw(PARAMETERS).items():
        tensor.parameters[key].CopyFrom(value)
    if with_contents:
        tensor.contents.SetInParent()
        field = TYPED.get(datatype, "fp32_contents")
        if not draw(st.integers(0, 9)):
            field = draw(st.sampled_from(list(TYPED.values())))
        getattr(tensor.contents, field).extend(draw(st.lists(CONTENTS[field], max_size=4)))
    return tensor


SMALL = st.integers(0, 127)
CONTENTS: dict[str, st.SearchStrategy[Any]] = {
    "bool_contents": st.booleans(),
    "int_contents": SMALL | st.integers(-(1 << 31), (1 << 31) - 1),
    "int64_contents": INT64,
    "uint_contents": SMALL | st.integers(0, (1 << 32) - 1),
    "uint64_contents": st.integers(0, (1 << 64) - 1),
    "fp32_contents": st.floats(width=32, allow_nan=False),
    "fp64_contents": st.floats(allow_nan=False),
    "bytes_contents": st.binary(max_size=5),
}

RAW = st.one_of(
    st.binary(max_size=40),
    st.builds(encode_bytes, st.lists(st.binary(max_size=8), max_size=4)),
    st.sampled_from([4095, 4096, 5000]).map(bytes),
)

UNKNOWN = st.one_of(
    st.builds(
        lambda number, value: varint(number << 3) + varint(value), st.integers(8, 40), st.integers(0, 1 << 40)
    ),
    st.builds(
        lambda number, value: varint(number << 3 | 1) + value,
        st.integers(1, 40),
        st.binary(min_size=8, max_size=8),
    ),
    st.builds(
        lambda number, value: varint(number << 3 | 5) + value,
        st.integers(1, 40),
        st.binary(min_size=4, max_size=4),
    ),
    st.builds(delimited, st.integers(8, 40), st.binary(max_size=8)),
    st.sampled_from([b"\x4b\x08\x01\x4c", b"\x0b\x0c", b"\x08\x05"]),  # groups; a known field of another type
)


@st.composite
def messages(draw: st.DrawFn, plain: bool = False) -> bytes:
    """Draw the bytes of a request whose fields come in any order, any number of times, oddly written."""
    with_contents = draw(st.integers(0, 3)) == 0
    inputs = draw(st.lists(tensors(with_contents), max_size=3))
    pieces: list[tuple[int, bytes]] = []
    for number in (1, 2, 3):
        texts = draw(st.lists(TEXT, max_size=2))
        pieces += [(number, text.encode()) for text in texts]
    for key, value in draw(PARAMETERS).items():
        single = pb.ModelInferRequest()
        single.parameters[key].CopyFrom(value)
        pieces.append((4, single.SerializeToString()[2:]))
    pieces += [(5, tensor.SerializeToString()) for tensor in inputs]
    for _ in range(draw(st.integers(0, 2))):
        output = Output(name=draw(TEXT))
        for key, value in draw(PARAMETERS).items():
            output.parameters[key].CopyFrom(value)
        pieces.append((6, output.SerializeToString()))
    if not with_contents or draw(st.integers(0, 9)) == 0:
        count = sum("shared_memory_region" not in tensor.parameters for tensor in inputs)
        if draw(st.integers(0, 9)) == 0:
            count = draw(st.integers(0, 4))
        pieces += [(7, draw(RAW)) for _ in range(count)]
    if plain:
        return b"".join(delimited(number, payload) for number, payload in pieces)
    if draw(st.booleans()):
        pieces = draw(st.permutations(pieces))
    if draw(st.integers(0, 4)) == 0:  # fields nobody knows, inside of those we know
        pieces = [
            (number, payload + draw(UNKNOWN) if number in {4, 5, 6} else payload)
            for number, payload in pieces
        ]
    if draw(st.integers(0, 6)) == 0:  # text that is none
        pieces.append(
            (draw(st.integers(1, 6)), draw(st.sampled_from([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\n\1\xff"])))
        )
    fields = [delimited(number, payload, draw(PADDING), draw(PADDING)) for number, payload in pieces]
    for unknown in draw(st.lists(UNKNOWN, max_size=2)) if draw(st.integers(0, 3)) == 0 else []:
        fields.insert(draw(st.integers(0, len(fields))), unknown)
    return b"".join(fields)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(messages())
def test_is_what_protobuf_says(message: bytes) -> None:
    check(message)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(messages(), st.data())
def test_damaged_messages_are_refused_or_what_protobuf_says(message: bytes, data: st.DataObject) -> None:
    damaged = bytearray(message)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(damaged)))
        match data.draw(st.sampled_from(["flip", "set", "insert", "delete", "cut"])):
            case "flip" if place < len(damaged):
                damaged[place] ^= 1 << data.draw(st.integers(0, 7))
            case "set" if place < len(damaged):
                damaged[place] = data.draw(st.integers(0, 255))
            case "insert":
                damaged[place:place] = data.draw(st.binary(max_size=4))
            case "delete":
                del damaged[place : place + data.draw(st.integers(1, 4))]
            case "cut":
                del damaged[place:]
    check(bytes(damaged))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
@example(b"\x0a")
@example(b"\x3a\x05ab")
@example(b"\x3a\xff\xff\xff\xff\x0f")
@example(b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
@example(b"\x3a\x80\x80\x80\x80\x80\x00")
def test_any_bytes_are_refused_or_what_protobuf_says(message: bytes) -> None:
    check(message)


def test_all_kinds_are_compared() -> None:
    # Whatever the properties above compare, they do compare.
    request = simple("FP32", "BYTES")
    request.raw_input_contents.extend([b"1234", encode_bytes([b"a\0"])])
    assert check(request.SerializeToString()) == "accepted"
    assert check(request.SerializeToString()[:-1]) == "refused"
    assert check(simple("FP32").SerializeToString()) == "contradiction"


def whole() -> bytes:
    """Return a message with every field."""
    request = simple("FP32", "BYTES")
    request.model_version = "3"
    request.inputs[0].parameters["p"].double_param = 0.5
    request.outputs.add(name="O").parameters["classification"].int64_param = 3
    request.parameters["a"].string_param = "é"
    request.raw_input_contents.extend([b"1234", encode_bytes([b"a\0"])])
    return request.SerializeToString(deterministic=True)


def test_messages_cut_off_anywhere() -> None:
    message = whole()
    outcomes = {check(message[:end]) for end in range(len(message) + 1)}
    assert outcomes == {"accepted", "refused", "contradiction"}


def test_any_bit_may_be_wrong() -> None:
    message = whole()
    for place in range(len(message)):
        for bit in range(8):
            check(message[:place] + bytes([message[place] ^ 1 << bit]) + message[place + 1 :])


@pytest.mark.parametrize("number", [8, 9, 15, 16, 100, 5000])
def test_fields_nobody_knows(number: int) -> None:
    values = {0: b"\5", 1: bytes(8), 2: b"\3abc", 5: bytes(4)}
    for wire_type, value in values.items():
        unknown = varint(number << 3 | wire_type) + value
        assert check(whole() + unknown) == check(unknown + whole()) == "accepted"


def test_a_map_entry_with_a_field_nobody_knows() -> None:
    # Protobuf sets such an entry aside; a reader of entries alone would take it.
    assert check(delimited(4, b"\n\1a\x12\2\x10\5")) == "accepted"
    assert check(delimited(4, b"\n\1a\x12\2\x10\5\x18\1")) == "accepted"


# --- What is kept -------------------------------------------------------------------------------------


def simple(*datatypes: str, shape: tuple[int, ...] = (1,), name: str = "I") -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="M", id="7")
    for index, datatype in enumerate(datatypes):
        request.inputs.add(name=f"{name}{index}", datatype=datatype, shape=shape)
    return request


def decoded_headers(message: InferMessage) -> list[int]:
    return [id(header) for header in (*message.inputs, *message.outputs, *message.parameters)]


def rich(value: int, *, typed_contents: bool = False) -> bytes:
    request = simple("INT32", name="rich")
    request.outputs.add(name="O").parameters["classification"].int64_param = 3
    request.parameters["a"].int64_param = 1
    request.parameters["b"].string_param = "x"
    if typed_contents:
        request.inputs[0].contents.int_contents.append(value)
    else:
        request.raw_input_contents.append(struct.pack("<i", value))
    return request.SerializeToString(deterministic=True)


def test_the_same_bytes_give_the_same_objects() -> None:
    first, second = decode_infer_request(rich(1)), decode_infer_request(rich(2))
    assert decoded_headers(first) == decoded_headers(second)
    assert bytes(first.data[0]) != bytes(second.data[0])
    # Also when the message takes the long way.
    by_protobuf = decode_infer_request(rich(3, typed_contents=True))
    assert decoded_headers(by_protobuf) == decoded_headers(first)
    assert bytes(by_protobuf.data[0]) == struct.pack("<i", 3)
    unknown = decode_infer_request(rich(4) + delimited(20, b"?"))
    assert decoded_headers(unknown) == decoded_headers(first)
    other = simple("INT64", name="rich")
    other.raw_input_contents.append(bytes(8))
    assert decode_infer_request(other.SerializeToString()).inputs[0] is not first.inputs[0]


def alive(kind: type[object]) -> int:
    gc.collect()
    return sum(type(found) is kind for found in gc.get_objects())


def test_what_is_kept_is_bounded() -> None:
    for index in range(5000):
        request = pb.ModelInferRequest()
        request.inputs.add(name=f"bounded{index}", datatype="INT8", shape=[1])
        request.outputs.add(name=f"bounded{index}")
        request.parameters[f"bounded{index}"].bool_param = True
        request.raw_input_contents.append(b"x")
        decode_infer_request(request.SerializeToString())
    # Of these alone: other tests of this process have left theirs.
    names = {
        InputHeader: lambda it: it.spec.name,
        OutputHeader: lambda it: it.name,
        Parameter: lambda it: it.key,
    }
    for kind, name in names.items():
        kept = [it for it in gc.get_objects() if type(it) is kind and name(it).startswith("bounded")]
        assert 1 <= len(kept) <= 4096


def test_what_is_long_is_not_kept() -> None:
    before = alive(InputHeader)
    for index in range(100):
        request = simple("INT8", name=f"{index}" * 300)
        request.raw_input_contents.append(b"x")
        decode_infer_request(request.SerializeToString())
    assert alive(InputHeader) <= before


def test_what_is_kept_holds_no_message() -> None:
    # Servers keep forms by these headers, so that a header must not keep the contents of its request.
    headers: list[Any] = list(decode_infer_request(rich(5, typed_contents=True)).inputs)
    seen: dict[int, Any] = {}
    while headers:
        found = headers.pop()
        if id(found) in seen or isinstance(found, type):
            continue
        assert not isinstance(found, Message)
        seen[id(found)] = found
        headers += gc.get_referents(found)


@pytest.mark.parametrize("size", [4096, 4097, 1 << 20])
def test_large_tensors_are_views(size: int) -> None:
    request = simple("UINT8", "UINT8")
    request.raw_input_contents.extend([bytes(size), b"small"])
    message = request.SerializeToString()
    large, small = decode_infer_request(message).data
    assert isinstance(large, memoryview) and len(large) == size and large.readonly
    assert np.shares_memory(np.frombuffer(large, np.uint8), np.frombuffer(message, np.uint8))
    assert bytes(small) == b"small"


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16383, 16384, (1 << 21) - 1, 1 << 21])
def test_lengths_of_all_widths(length: int) -> None:
    request = simple("UINT8")
    request.raw_input_contents.append(bytes(length))
    request.id = "i" * min(length, 20000)
    assert check(request.SerializeToString()) == "accepted"


# --- Error texts (kserve-v2.md, row 26) ---------------------------------------------------------------


def refusal(request: pb.ModelInferRequest) -> str:
    with pytest.raises(InvalidArgument) as caught:
        decode_infer_request(request.SerializeToString())
    return str(caught.value)


def test_contents_and_raw_contents() -> None:
    request = simple("INT32")
    request.inputs[0].contents.int_contents.append(1)
    request.raw_input_contents.append(bytes(4))
    assert refusal(request) == (
        "contents field must not be specified when using raw_input_contents for 'I0' for model 'M'"
    )


@pytest.mark.parametrize("how", ["none", "too few", "empty contents", "empty contents of FP16"])
def test_no_contents(how: str) -> None:
    request = simple("FP32", "FP16" if "FP16" in how else "FP32", shape=(0,) if "FP16" in how else (2,))
    if how == "too few":
        request.raw_input_contents.append(bytes(8))
    elif how != "none":
        request.inputs[0].contents.fp32_contents.extend([1.0, 2.0])
        request.inputs[1].contents.SetInParent()
    name = "I0" if how == "none" else "I1"
    assert refusal(request) == f"unable to find data for input tensor '{name}' for model 'M' in request."


@pytest.mark.parametrize(
    ("datatype", "field", "named"),
    [
        ("FP32", "int_contents", "INT8"),
        ("INT32", "bytes_contents", "BYTES"),
        ("FP16", "fp32_contents", "FP32"),
    ],
)
def test_contents_of_the_wrong_type(datatype: str, field: str, named: str) -> None:
    request = simple(datatype)
    getattr(request.inputs[0].contents, field).append(b"x" if field == "bytes_contents" else 1)
    assert refusal(request) == (
        f"unexpected explicit tensor data for input tensor 'I0' for model 'M' of type '{named}', "
        f"expected datatype '{datatype}'"
    )


def test_contents_out_of_range() -> None:
    request = simple("UINT8")
    request.inputs[0].contents.uint_contents.append(256)
    assert refusal(request).startswith("input tensor 'I0' for model 'M': ")
    assert "256" in refusal(request)


def test_more_raw_contents_than_inputs() -> None:
    request = simple("UINT8")
    request.raw_input_contents.extend([b"x", b"y"])
    assert refusal(request) == "got 2 raw_input_contents for model 'M', expected one for each of 1 inputs"


def test_raw_contents_are_counted_without_inputs_in_shared_memory() -> None:
    request = simple("UINT8", "UINT8", "UINT8")
    request.inputs[1].parameters["shared_memory_region"].string_param = "region"
    request.raw_input_contents.extend([b"x", b"y"])
    assert [
        None if data is None else bytes(data)
        for data in decode_infer_request(request.SerializeToString()).data
    ] == [
        b"x",
        None,
        b"y",
    ]


def test_a_data_type_nobody_knows() -> None:
    assert refusal(simple("FP8")).startswith(
        "inference input 'I0' data-type is 'FP8', which is none of BOOL, "
    )


@pytest.mark.parametrize(
    ("raw", "what", "rest"),
    [
        (b"\1", "incomplete string length indicator", "expecting 4 bytes but only 1 bytes available"),
        (b"\3\0\0\0ab", "incomplete string data", "expecting string of length 3 but only 2 bytes available"),
    ],
)
def test_lengths_of_strings_that_lie(raw: bytes, what: str, rest: str) -> None:
    request = simple("BYTES")
    request.raw_input_contents.append(raw)
    assert refusal(request) == f"{what} for inference input 'I0' for model 'M', {rest}"


def test_garbage_is_internal() -> None:
    with pytest.raises(Internal, match=r"^cannot decode the ModelInferRequest: "):
        decode_infer_request(b"\xff\xff\xff")


def test_many_strings() -> None:
    request = simple("BYTES", shape=(300_000,))
    request.inputs[0].contents.bytes_contents.extend([b"abc"] * 300_000)
    (data,) = decode_infer_request(request.SerializeToString()).data
    assert isinstance(data, np.ndarray) and data.shape == (300_000,) and data[-1] == b"abc"
