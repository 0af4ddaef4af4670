"""Requests and answers over HTTP, read by the server's own code and made by it."""

from __future__ import annotations

import json
from http import HTTPStatus

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yais.client.http_connection import HttpReply
from yais.client.http_message import answer_of_reply, body_of, infer_path, status_of_reply
from yais.client.infer_call import InferCall, InputTensor, SharedTensor, WantedOutput
from yais.core.tensor import DataType, TensorSpec
from yais.errors import Code, InvalidArgument
from yais.protocol.tensor_codec import decode, encode_bytes
from yais.serving.http.errors import STATUS
from yais.serving.http.infer import infer_path as server_path
from yais.serving.http.infer_body import decode_infer

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@st.composite
def tensors(draw):
    """Draw an input with contents."""
    datatype, shape = draw(st.sampled_from(DataType)), draw(shapes)
    spec = TensorSpec(draw(names), datatype, shape)
    if datatype is DataType.BYTES:
        elements = draw(st.lists(st.binary(max_size=5), min_size=spec.elements, max_size=spec.elements))
        return InputTensor(spec, encode_bytes(elements))
    return InputTensor(spec, draw(st.binary(min_size=spec.nbytes, max_size=spec.nbytes)))


parameters = st.dictionaries(
    names.filter(
        lambda key: (
            not key.startswith("triton_")
            and key
            not in {
                "priority",
                "timeout",
                "sequence_id",
                "sequence_start",
                "sequence_end",
                "binary_data_output",
            }
        )
    ),
    st.one_of(st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1), names, st.floats(allow_nan=False)),
    max_size=3,
)


@settings(max_examples=50)
@given(
    st.lists(tensors(), max_size=3),
    st.lists(names, max_size=2, unique=True),
    names,
    st.one_of(st.just(""), names),
    parameters,
)
def test_the_server_reads_what_is_written(inputs, outputs, model, request_id, said):
    call = InferCall(model, inputs, [WantedOutput(name) for name in outputs], "", request_id, said)
    body, length = body_of(call)
    message, binary = decode_infer(body, length, model, "")
    assert message.id == request_id
    assert [header.spec for header in message.inputs] == [tensor.spec for tensor in inputs]
    for data, tensor in zip(message.data, inputs, strict=True):
        spec = tensor.spec
        if spec.datatype is DataType.BYTES:
            np.testing.assert_array_equal(
                np.ravel(data), decode(spec.datatype, (spec.elements,), tensor.data)
            )
        else:
            assert bytes(data) == tensor.data
    assert [output.name for output in message.outputs] == outputs
    assert binary == (set(outputs) if outputs else None)
    assert {parameter.key: parameter.value for parameter in message.parameters} == said


def test_shared_memory_and_classes():
    call = InferCall(
        "m",
        [InputTensor(TensorSpec("a", DataType.FP32, (2,)), SharedTensor("r", 8, 16))],
        [WantedOutput("x", shared=SharedTensor("r", 4)), WantedOutput("y", classes=3)],
    )
    body, length = body_of(call)
    assert length == len(body)
    assert json.loads(body) == {
        "inputs": [
            {
                "name": "a",
                "shape": [2],
                "datatype": "FP32",
                "parameters": {
                    "shared_memory_region": "r",
                    "shared_memory_byte_size": 8,
                    "shared_memory_offset": 16,
                },
            }
        ],
        "outputs": [
            {"name": "x", "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 4}},
            {"name": "y", "parameters": {"classification": 3, "binary_data": True}},
        ],
    }


@pytest.mark.parametrize("model", ["m", "a b", "ä", "a%2Fb?c#d"])
@pytest.mark.parametrize("version", ["", "1"])
def test_paths(model, version):
    from urllib.parse import unquote

    path = infer_path(InferCall(model, (), version=version))
    assert path.isascii()
    assert not set(path) & set(" ?#")
    assert server_path(unquote(path)) == (model, version)


def reply(header, tail=b"", status=200):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return HttpReply(status, {b"inference-header-content-length": b"%d" % len(text)}, text + tail)


def output(name, datatype, shape, **more):
    return {"name": name, "datatype": datatype, "shape": shape, **more}


def test_an_answer():
    header = {
        "model_name": "m",
        "model_version": "3",
        "id": "i",
        "parameters": {"p": 1},
        "outputs": [
            output("a", "INT16", [2], parameters={"binary_data_size": 4}),
            output("b", "BYTES", [1, 2], data=["x", "äy"]),
            output("c", "FP32", [2, 1], data=[1, 2.5]),
            output("d", "BYTES", [1], parameters={"binary_data_size": 5}),
            output("e", "FP32", [0], parameters={"binary_data_size": 0}),
            output("f", "BOOL", [1, 2], data=[[True, False]]),
            output("g", "UINT64", [1], data=[(1 << 64) - 1]),
            output("h", "BF16", [1], data=[1.5]),
            output("shared", "FP32", [2]),
        ],
    }
    answer = answer_of_reply(reply(header, b"\1\0\2\0\1\0\0\0z"))
    assert (answer.model, answer.version, answer.id, answer.parameters) == ("m", "3", "i", {"p": 1})
    assert {name: array.tolist() for name, array in answer.outputs.items()} == {
        "a": [1, 2],
        "b": [[b"x", "äy".encode()]],
        "c": [[1.0], [2.5]],
        "d": [b"z"],
        "e": [],
        "f": [[True, False]],
        "g": [(1 << 64) - 1],
        "h": [1.5],
    }
    assert answer.outputs["c"].dtype == np.float32


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"no JSON",
        b"[]",
        b"{}",
        b'{"model_name":"m","outputs":[{}]}',
        {"model_name": "m", "outputs": [output("a", "FP99", [1], data=[1])]},
        {"model_name": "m", "outputs": [output("a", "FP32", [2], data=[1])]},
        {"model_name": "m", "outputs": [output("a", "FP32", [2], parameters={"binary_data_size": 8})]},
        {"model_name": "m", "outputs": [output("a", "FP32", [1], parameters={"binary_data_size": "8"})]},
        {"model_name": "m", "outputs": [output("a", "INT8", [1], data=["x"])]},
    ],
)
def test_answers_that_are_none(wrong):
    with pytest.raises(InvalidArgument):
        answer_of_reply(reply(wrong))


def test_a_header_length_that_is_none():
    with pytest.raises(InvalidArgument):
        answer_of_reply(HttpReply(200, {b"inference-header-content-length": b"x"}, b"{}"))


def test_the_status_is_one_that_the_server_would_send():
    for code in Code:
        if code is Code.OK:
            continue
        sent = reply({"error": "so"}, status=STATUS[code])
        told, text = status_of_reply(sent)
        assert (STATUS[told], text) == (STATUS[code], "so")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error":"why"}', "why"),
        (b"<html>not here</html>", "<html>not here</html>"),
        (b"", "got HTTP status 418"),
        (b"[1]", "[1]"),
        (b"\xff", "�"),
    ],
)
def test_texts_of_errors(body, text):
    assert status_of_reply(HttpReply(HTTPStatus.IM_A_TEAPOT, {}, body)) == (Code.UNKNOWN, text)
