"""Our ModelStreamInferResponse, read by protobuf."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from yais.core.tensor import DataType, TensorSpec
from yais.protocol import kserve_pb2 as pb
from yais.protocol.infer_response import ResponseHead
from yais.protocol.stream_response import encode_stream_error, encode_stream_response, stream_head

TEXTS = st.text(max_size=10) | st.sampled_from(["x" * 127, "x" * 128, "é" * 100, "\0"])
CONTENTS = st.lists(st.binary(max_size=10) | st.sampled_from([127, 128, 16384]).map(bytes), max_size=4)


@given(TEXTS, TEXTS, TEXTS, CONTENTS, st.booleans())
def test_a_response(name: str, version: str, request_id: str, contents: list[bytes], final: bool) -> None:
    specs = [TensorSpec(f"y{i}", DataType.UINT8, (len(data),)) for i, data in enumerate(contents)]
    head = stream_head(ResponseHead.of(name, version, specs), final=final)
    expected = pb.ModelStreamInferResponse()
    response = expected.infer_response
    response.model_name, response.model_version, response.id = name, version, request_id
    for spec in specs:
        response.outputs.add(name=spec.name, datatype="UINT8", shape=spec.shape)
    response.raw_output_contents.extend(contents)
    response.parameters["triton_final_response"].bool_param = final
    wire = encode_stream_response(head, request_id, [memoryview(data) for data in contents])
    read = pb.ModelStreamInferResponse.FromString(wire)
    assert read == expected
    # False is said, too: it is not what a missing parameter means.
    assert read.infer_response.parameters["triton_final_response"].WhichOneof("parameter_choice")


@given(TEXTS, TEXTS)
def test_an_error(text: str, request_id: str) -> None:
    expected = pb.ModelStreamInferResponse(error_message=text)
    expected.infer_response.id = request_id
    expected.infer_response.parameters["triton_final_response"].bool_param = True
    assert pb.ModelStreamInferResponse.FromString(encode_stream_error(text, request_id)) == expected
