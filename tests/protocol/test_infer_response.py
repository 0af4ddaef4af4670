"""Our ModelInferResponse, read by protobuf."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yais.core.tensor import DataType, TensorSpec
from yais.protocol import kserve_pb2 as pb
from yais.protocol.infer_response import ResponseHead, encode_infer_response, encode_varint

SPECS = st.lists(
    st.builds(
        TensorSpec,
        st.text(max_size=8),
        st.sampled_from(DataType),
        st.lists(st.integers(0, 1 << 40), max_size=4).map(tuple),
    ),
    max_size=4,
)

NAMES = st.text(max_size=10) | st.sampled_from(["x" * 127, "x" * 128, "é" * 100, "\0"])

EDGES = [0, 1, 127, 128, 16383, 16384, (1 << 21) - 1, 1 << 21]


def expected(
    name: str, version: str, request_id: str, specs: list[TensorSpec], contents: list[bytes]
) -> pb.ModelInferResponse:
    response = pb.ModelInferResponse(model_name=name, model_version=version, id=request_id)
    for spec in specs:
        response.outputs.add(name=spec.name, datatype=spec.datatype.value, shape=spec.shape)
    response.raw_output_contents.extend(contents)
    return response


@given(NAMES, NAMES, NAMES, SPECS, st.data())
def test_is_read_by_protobuf(
    name: str, version: str, request_id: str, specs: list[TensorSpec], data: st.DataObject
) -> None:
    sizes = st.binary(max_size=10) | st.sampled_from(EDGES[:-2]).map(bytes)
    contents = [data.draw(sizes) for _ in specs]
    head = ResponseHead.of(name, version, specs)
    wire = encode_infer_response(head, request_id, [memoryview(piece) for piece in contents])
    response = pb.ModelInferResponse.FromString(wire)
    assert response == expected(name, version, request_id, specs, contents)
    assert not any(output.HasField("contents") for output in response.outputs)


@pytest.mark.parametrize("size", EDGES)
def test_sizes_of_all_widths(size: int) -> None:
    specs = [TensorSpec("y", DataType.UINT8, (size,)), TensorSpec("z", DataType.UINT8, (1,))]
    contents = [bytes(size), b"z"]
    request_id = "i" * size
    head = ResponseHead.of("m", "1", specs)
    wire = encode_infer_response(head, request_id, contents)
    assert pb.ModelInferResponse.FromString(wire) == expected("m", "1", request_id, specs, contents)


def test_a_head_serves_many_responses() -> None:
    specs = [TensorSpec("y", DataType.FP32, (1, 2))]
    head = ResponseHead.of("m", "3", specs)
    for request_id in ("", "a", "Zoë", "日本", "\U0001f600"):
        wire = encode_infer_response(head, request_id, [b"12345678"])
        assert type(wire) is bytes
        assert pb.ModelInferResponse.FromString(wire) == expected("m", "3", request_id, specs, [b"12345678"])


def test_empty_contents_have_an_entry() -> None:
    head = ResponseHead.of("m", "1", [TensorSpec("y", DataType.BYTES, (0,))])
    response = pb.ModelInferResponse.FromString(encode_infer_response(head, "", [b""]))
    assert list(response.raw_output_contents) == [b""]


@given(st.integers(0, (1 << 64) - 1))
def test_varint(value: int) -> None:
    # A field that protobuf writes with the same number.
    tag_and_number = pb.InferParameter(uint64_param=value).SerializeToString()
    assert tag_and_number[1:] == encode_varint(value)
