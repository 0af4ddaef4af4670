"""Inference over HTTP, as clients see it: JSON, binary tensors, bare tensors, parameters and errors."""

from __future__ import annotations

import base64
import json
import struct
import subprocess
from urllib.parse import quote

import ml_dtypes
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from gated_models import write_python
from http_calls import Http, given, serving_http
from onnx_models import TYPES, identity, write
from serving_models import SOON, one_process, serving_models
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from yais.serving.http.infer_header import infer_header
from yais.serving.mapped_region import Region

rng = np.random.default_rng(1)

TEXTS = [b"", b"a\0b\0", "äöü€".encode(), b"x" * 300, b"'\"\\\n", b"abc"]

TOLD = """
class Model:
    def execute(self, inputs):
        return {"id": inputs["CORRID"], "start": inputs["START"], "end": inputs["END"]}
"""
"""Gives back what it is told of its sequence."""

TOLD_CONFIG = """
    backend: "python" max_batch_size: 1
    input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] }
    output { name: "id" data_type: TYPE_%(type)s dims: [ 1 ] }
    output { name: "start" data_type: TYPE_INT32 dims: [ 1 ] }
    output { name: "end" data_type: TYPE_INT32 dims: [ 1 ] }
    sequence_batching {
        direct {}
        max_sequence_idle_microseconds: 60000000
        control_input { name: "START" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } }
        control_input { name: "END" control { kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] } }
        control_input { name: "CORRID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_%(type)s } }
    }
"""

COUNTING = """
class Model:
    def execute(self, inputs):
        for number in range(3):
            yield {"y": inputs["x"]}
"""

COUNTING_CONFIG = """
    backend: "python" model_transaction_policy { decoupled: true }
    input { name: "x" data_type: TYPE_INT32 dims: [ 1 ] }
    output { name: "y" data_type: TYPE_INT32 dims: [ 1 ] }
"""


@pytest.fixture(scope="module")
def http(server):
    with serving_http(server) as running, Http(running.port) as calls:
        calls.port = running.port
        yield calls


@pytest.fixture(scope="module")
def client(http):
    with triton.InferenceServerClient(f"127.0.0.1:{http.port}", concurrency=4) as connected:
        yield connected


def values(datatype, shape):
    """Return random elements, and the extremes of a type."""
    if datatype == "BYTES":
        array = np.empty(int(np.prod(shape)), np.object_)
        array[:] = [TEXTS[index % len(TEXTS)] for index in range(array.size)]
        return array.reshape(shape)
    if datatype == "BOOL":
        return rng.random(shape) < 0.5
    if datatype == "BF16" or datatype.startswith("FP"):
        dtype = np.dtype(ml_dtypes.bfloat16 if datatype == "BF16" else f"float{datatype[2:]}")
        array = rng.standard_normal(shape).astype(dtype)
        extremes = [ml_dtypes.finfo(dtype).max, np.inf, -np.inf, np.nan, -0.0]
    else:
        dtype = np.dtype(datatype.lower())
        array = rng.integers(0, 100, shape).astype(dtype)
        extremes = [np.iinfo(dtype).min, np.iinfo(dtype).max]
    array.ravel()[: len(extremes)] = extremes[: array.size]
    return array


def tensor(name, array, datatype, **options):
    made = triton.InferInput(name, array.shape, datatype)
    made.set_data_from_numpy(array, **options)
    return made


def test_simple_in_json_is_answered_in_compact_json(http):
    flat = list(range(16))
    inputs = [given("INPUT0", "INT32", [1, 16], [flat]), given("INPUT1", "INT32", [1, 16], flat)]
    reply = http.infer("simple", {"id": '7 ä"', "inputs": inputs})
    assert reply.status == 200 and reply.headers["content-type"] == "application/json"
    assert reply.body.startswith(
        b'{"id":"7 \\u00e4\\"","model_name":"simple","model_version":"1","outputs":['
    )
    assert (
        b'{"name":"OUTPUT0","datatype":"INT32","shape":[1,16],'
        b'"data":[0,2,4,6,8,10,12,14,16,18,20,22,24,26,28,30]}' in reply.body
    )
    assert [output["name"] for output in reply.json["outputs"]] == ["OUTPUT0", "OUTPUT1"]


@pytest.mark.parametrize("version", ["", "1"])
def test_ids_and_versions(client, version):
    a = np.ones((1, 16), np.int32)
    inputs = [tensor("INPUT0", a, "INT32"), tensor("INPUT1", a, "INT32")]
    for request_id in ("", "1", "two", "mit Ä", '"', "1"):
        result = client.infer("simple", inputs, model_version=version, request_id=request_id)
        assert result.get_response().get("id", "") == request_id
        assert (result.as_numpy("OUTPUT0") == 2).all() and (result.as_numpy("OUTPUT1") == 0).all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (8, 2000)])
@pytest.mark.parametrize("datatype", TYPES)
def test_every_type_comes_back_in_binary(client, datatype, shape):
    sent = values(datatype, shape)
    got = client.infer(f"identity_{datatype.lower()}", [tensor("X", sent, datatype)]).as_numpy("Y")
    assert got.shape == shape
    assert got.tolist() == sent.tolist() if datatype == "BYTES" else got.tobytes() == sent.tobytes()


@pytest.mark.parametrize("shape", [(1, 1), (3, 7)])
@pytest.mark.parametrize("datatype", [name for name in TYPES if name not in {"FP16", "BF16"}])
def test_every_type_comes_back_in_json(client, datatype, shape):
    sent = values(datatype, shape)
    result = client.infer(
        f"identity_{datatype.lower()}",
        [tensor("X", sent, datatype, binary_data=False)],
        outputs=[triton.InferRequestedOutput("Y", binary_data=False)],
    )
    (output,) = result.get_response()["outputs"]
    assert "parameters" not in output and output["shape"] == list(shape)
    if datatype == "BYTES":
        assert [text.encode() for text in output["data"]] == sent.ravel().tolist()
    else:
        np.testing.assert_array_equal(np.array(output["data"], triton_to_np_dtype(datatype)), sent.ravel())


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_floats_want_binary(http, datatype):
    model = f"identity_{datatype.lower()}"
    status, text = http.infer(model, {"inputs": [given("X", datatype, [1, 1], [1.0])]}).error
    assert (status, text.partition(" is ")[0]) == (400, f"receiving {datatype} data via JSON")
    inputs = [given("X", datatype, [1, 1], binary_data_size=2)]
    status, text = http.infer(model, {"inputs": inputs}, b"\0\0").error
    assert (status, text.partition(" is ")[0]) == (400, f"sending {datatype} data via JSON")


def test_bytes_that_are_no_text_want_binary(http):
    contents = struct.pack("<I", 1) + b"\xff"
    inputs = [given("X", "BYTES", [1, 1], binary_data_size=5)]
    status, text = http.infer("identity_bytes", {"inputs": inputs}, contents).error
    assert status == 400 and "no UTF-8 text" in text
    outputs = [{"name": "Y", "parameters": {"binary_data": True}}]
    assert http.infer("identity_bytes", {"inputs": inputs, "outputs": outputs}, contents).tail == contents


def test_nan_and_infinity_are_literals(http):
    text = b'{"inputs":[{"name":"X","shape":[1,3],"datatype":"FP32","data":[NaN,Infinity,-Infinity]}]}'
    assert b'"data":[NaN,Infinity,-Infinity]' in http.infer("identity_fp32", text).body


SIMPLE = [given(name, "INT32", [1, 16], binary_data_size=64) for name in ("INPUT0", "INPUT1")]
A = np.arange(16, dtype=np.int32)
B = np.full(16, 100, np.int32)


def asked(*binary, default=None):
    """Ask for OUTPUT1 and OUTPUT0 in this order, in binary or not, or without saying so."""
    outputs = [
        {"name": name} if flag is None else {"name": name, "parameters": {"binary_data": flag}}
        for name, flag in zip(("OUTPUT1", "OUTPUT0"), binary, strict=True)
    ]
    parameters = {} if default is None else {"parameters": {"binary_data_output": default}}
    return {"inputs": SIMPLE, "outputs": outputs, **parameters}


@pytest.mark.parametrize(
    ("request_json", "binary"),
    [
        ({"inputs": SIMPLE}, []),
        ({"inputs": SIMPLE, "parameters": {"binary_data_output": True}}, ["OUTPUT0", "OUTPUT1"]),
        ({"inputs": SIMPLE, "parameters": {"binary_data_output": False}}, []),
        (asked(None, None), []),
        (asked(True, False), ["OUTPUT1"]),
        (asked(False, True), ["OUTPUT0"]),
        (asked(True, True), ["OUTPUT1", "OUTPUT0"]),
        (asked(None, None, default=True), ["OUTPUT1", "OUTPUT0"]),
        (asked(False, None, default=True), ["OUTPUT0"]),
        (asked(True, None, default=False), ["OUTPUT1"]),
    ],
)
def test_outputs_are_binary_as_asked_for_in_their_order(http, request_json, binary):
    for _ in range(2):  # the second is answered from what is kept
        reply = http.infer("simple", request_json, A.tobytes() + B.tobytes())
        assert reply.status == 200
        outputs = reply.json["outputs"]
        if "outputs" in request_json:
            assert [output["name"] for output in outputs] == ["OUTPUT1", "OUTPUT0"]
        expected = {"OUTPUT0": A + B, "OUTPUT1": A - B}
        sizes = [output["name"] for output in outputs if output.get("parameters") == {"binary_data_size": 64}]
        assert sizes == binary
        for output in outputs:
            if output["name"] not in binary:
                assert output["data"] == expected[output["name"]].tolist()
        if binary:
            assert reply.headers["content-type"] == "application/octet-stream"
            assert reply.tail == b"".join(expected[name].tobytes() for name in binary)
        else:
            assert reply.headers["content-type"] == "application/json"
            assert "inference-header-content-length" not in reply.headers


def test_json_and_binary_inputs_mix(http):
    inputs = [given("INPUT0", "INT32", [1, 16], A.tolist()), SIMPLE[1]]
    assert (
        http.infer("simple", {"inputs": inputs}, B.tobytes()).json["outputs"][0]["data"] == (A + B).tolist()
    )


@pytest.mark.parametrize("tail", [A.tobytes() + B.tobytes() + b"\0", b"\0" * 500])
def test_more_binary_data_than_inputs_is_refused(http, tail):
    refusal = http.infer("simple", {"inputs": SIMPLE}, tail).error
    assert refusal == (400, "unexpected additional input data for model 'simple'")


def test_less_binary_data_than_inputs_is_refused(http):
    refusal = http.infer("simple", {"inputs": SIMPLE}, A.tobytes()).error
    assert refusal == (
        400,
        "unexpected size for input 'INPUT1', expecting 64 additional bytes for model 'simple'",
    )


def test_binary_data_without_the_length_of_the_json_is_no_json(http):
    body = json.dumps({"inputs": SIMPLE}).encode() + A.tobytes() + B.tobytes()
    status, text = http.infer("simple", body).error
    assert status == 400 and text.startswith("failed to parse the request JSON buffer: ")


@pytest.mark.parametrize("length", ["-1", "1000", "x", "", "99999999999999999999999999", "1.0", "+1", "²"])
def test_a_length_of_the_json_out_of_range_is_refused(http, length):
    headers = {"Inference-Header-Content-Length": length.encode("latin-1", "replace")}
    status, text = http.infer("simple", b"{}", **headers).error
    assert status == 400 and text.startswith("inference header size should be in range (0, 2), got: ")


SOURCES = (
    "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
    "'shared_memory_region' in 'parameters'. But"
)
NO_MEMBER = "attempt to access non-existing object member"
X = given("X", "FP32", [1, 2], [1.0, 2.0])
ELEMENTS = 2**63 - 1
RESERVED = "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified."


@pytest.mark.parametrize(
    ("request_json", "text"),
    [
        ([], "attempt to access JSON non-object as object"),
        ({}, f"Unable to parse 'inputs': {NO_MEMBER} 'inputs'"),
        ({"inputs": {}}, "Unable to parse 'inputs': attempt to access JSON non-array as array"),
        ({"inputs": [1]}, "attempt to access JSON non-object as object"),
        (
            {"inputs": [{**X, "parameters": {"binary_data_size": 8}}]},
            f"{SOURCES} set 'data' 'binary_data_size'",
        ),
        ({"inputs": [given("X", "FP32", [1, 2])]}, f"{SOURCES} no field is set"),
        (
            {"inputs": [given("X", "FP32", [1], shared_memory_region="r", binary_data_size=8)]},
            f"{SOURCES} set 'binary_data_size' 'shared_memory_region'",
        ),
        ({"inputs": [{"data": [1], "shape": [1]}]}, f"Unable to parse 'name': {NO_MEMBER} 'name'"),
        (
            {"inputs": [{"name": "X", "data": [1], "shape": [1]}]},
            f"Unable to parse 'datatype': {NO_MEMBER} 'datatype'",
        ),
        (
            {"inputs": [{"name": "X", "data": [1], "datatype": "FP32"}]},
            f"Unable to parse 'shape': {NO_MEMBER} 'shape'",
        ),
        (
            {"inputs": [{**X, "name": 1}]},
            "Unable to parse 'name': attempt to access JSON non-string as string",
        ),
        (
            {"inputs": [{**X, "shape": [-1, 2]}]},
            "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
        (
            {"inputs": [{**X, "shape": [1.0, 2]}]},
            "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
        (
            {"inputs": [{**X, "shape": [2**32, 2**32]}]},
            f"shape for input 'X' causes total element count to exceed maximum size of {ELEMENTS}",
        ),
        ({"inputs": [{**X, "shape": [2**62]}]}, "byte size overflow for input 'X'"),
        (
            {"inputs": [{**X, "data": [1.0]}]},
            "Unable to parse 'data': Shape does not match true shape of 'data' field",
        ),
        (
            {"inputs": [{**X, "data": [[1.0], [2.0, 3.0]]}]},
            "Unable to parse 'data': Shape does not match true shape of 'data' field",
        ),
        (
            {"inputs": [given("X", "FP32", [1, 2], binary_data_size=-8)]},
            (
                "Unable to parse 'binary_data_size': attempt to access JSON non-unsigned-integer as "
                "unsigned-integer"
            ),
        ),
        (
            {"inputs": [X], "outputs": [{"name": "Y", "parameters": {"binary_data": 1}}]},
            "Unable to parse 'binary_data': attempt to access JSON non-boolean as boolean",
        ),
        (
            {"inputs": [X], "parameters": {"binary_data_output": "yes"}},
            "Unable to parse 'binary_data_output': attempt to access JSON non-boolean as boolean",
        ),
        (
            {
                "inputs": [X],
                "outputs": [{"name": "Y", "parameters": {"shared_memory_region": "r", "classification": 1}}],
            },
            "Output can't set both 'shared_memory_region' and 'classification'",
        ),
        (
            {
                "inputs": [X],
                "outputs": [{"name": "Y", "parameters": {"shared_memory_region": "r", "binary_data": True}}],
            },
            "Output can't set both 'shared_memory_region' and 'binary_data'",
        ),
        ({"inputs": [X], "outputs": [{}]}, f"Unable to parse 'name': {NO_MEMBER} 'name'"),
        ({"inputs": [X], "id": 1}, "Unable to parse 'id': attempt to access JSON non-string as string"),
        (
            {"inputs": [X], "parameters": {"triton_enable_empty_final_response": True}},
            RESERVED,
        ),
        (
            {"inputs": [X], "parameters": {"mine": None}},
            "parameter 'mine' has invalid type. It should be either 'int', 'bool', 'double' or 'string'.",
        ),
        (
            {"inputs": [X], "parameters": {"sequence_id": 1.5}},
            "Unable to parse 'sequence_id': attempt to access JSON non-string as string",
        ),
        (
            {"inputs": [X], "parameters": {"sequence_start": 1}},
            "Unable to parse 'sequence_start': attempt to access JSON non-boolean as boolean",
        ),
        (
            {"inputs": [X], "parameters": {"timeout": -1}},
            "Unable to parse 'timeout': attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
    ],
)
def test_what_is_wrong_with_a_request_is_said(http, request_json, text):
    assert http.infer("identity_fp32", request_json).error == (400, text)


def test_errors_of_the_model_say_what_they_say_over_grpc(http):
    reply = http.infer("identity_fp32", {"id": "me", "inputs": [{**X, "shape": [1, 1, 2]}]})
    assert reply.error[1].startswith(
        "[request id: me] unexpected shape for input 'X' for model 'identity_fp32'"
    )
    assert http.infer("nope", {"inputs": [X]}).error == (
        404,
        "Request for unknown model: 'nope' is not found",
    )
    status, text = http.call("POST", "/v2/models/simple/versions/x/infer", json.dumps({"inputs": [X]})).error
    assert status == 400 and "specified version string 'x'" in text


def test_deep_json_is_refused(http):
    deep = b'{"inputs":' + b"[" * 101 + b"]" * 101 + b"}"
    deeper = b"[" * 100_000
    for text in (deep, deeper, b'{"a":' * 200 + b"1" + b"}" * 200):
        assert http.infer("simple", text).error == (
            400,
            "JSON nesting depth exceeds maximum allowed limit (100)",
        )
    flat = b'{"inputs":[' + b",".join([b"[]"] * 200) + b"]}"
    assert http.infer("simple", flat).error == (400, "attempt to access JSON non-object as object")


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b'{"inputs":[]} {}', b"nul", b"1" * 5000])
def test_what_is_no_json_is_refused(http, text):
    status, message = http.infer("simple", text).error
    assert status == 400 and message.startswith("failed to parse the request JSON buffer: ")


def test_classification_in_json_and_binary(client):
    sent = np.array([[1.0, 3.0, 2.0]], np.float32)
    for binary in (True, False):
        outputs = [triton.InferRequestedOutput("Y", binary_data=binary, class_count=2)]
        result = client.infer("labelled", [tensor("X", sent, "FP32")], outputs=outputs)
        (output,) = result.get_response()["outputs"]
        assert (output["datatype"], output["shape"]) == ("BYTES", [1, 2])
        expected = ["3.000000:1:second:half", "2.000000:2"]
        got = result.as_numpy("Y").ravel().tolist() if binary else output["data"]
        assert [text.decode() if binary else text for text in got] == expected


def test_a_bare_tensor_is_a_request(http):
    contents = np.arange(5, dtype=np.float32).tobytes()
    reply = http.infer("identity_fp32", contents, **{"Inference-Header-Content-Length": "0"})
    (output,) = reply.json["outputs"]
    assert output["shape"] == [1, 5] and reply.tail == contents
    fixed = np.arange(6, dtype=np.int32).tobytes()
    assert http.infer("fixed", fixed, **{"Inference-Header-Content-Length": "0"}).tail == fixed


def test_bare_text_is_one_element(http):
    reply = http.infer("identity_bytes", b"some text", **{"Inference-Header-Content-Length": "0"})
    assert reply.tail == struct.pack("<I", 9) + b"some text"


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (
            "simple",
            (
                "Raw request must only have 1 input (found 1) to be deduced but got 2 inputs in 'simple' "
                "model configuration"
            ),
        ),
        (
            "scores",
            (
                "The shape of the raw input 'X' can not be deduced because there are more than one "
                "variable-sized dimension"
            ),
        ),
    ],
)
def test_a_bare_tensor_whose_shape_does_not_follow_is_refused(http, model, text):
    assert http.infer(model, b"abcd", **{"Inference-Header-Content-Length": "0"}).error == (400, text)


def test_a_bare_tensor_of_another_size_is_refused(http):
    assert http.infer("fixed", b"abcde", **{"Inference-Header-Content-Length": "0"}).error[0] == 400
    assert http.infer("identity_fp32", b"abcde", **{"Inference-Header-Content-Length": "0"}).error[0] == 400


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A server of models with odd names and habits."""
    repository = tmp_path_factory.mktemp("odd")
    for kind in ("UINT64", "STRING"):
        write_python(repository, f"told_{kind.lower()}", TOLD, TOLD_CONFIG % {"type": kind})
    write_python(repository, "counting", COUNTING, COUNTING_CONFIG)
    write(repository, "odd name+ä%25", identity("FP32"))
    write(repository, "texts", identity("BYTES", (2,)))
    with serving_models(repository) as server, serving_http(server) as running, Http(running.port) as calls:
        calls.port = running.port
        yield calls


def test_names_are_quoted_in_paths(own):
    path = f"/v2/models/{quote('odd name+ä%25')}/infer"
    reply = own.call("POST", path, json.dumps({"inputs": [given("X", "FP32", [1, 1], [1.0])]}))
    assert reply.status == 200 and reply.json["model_name"] == "odd name+ä%25"
    assert own.call("POST", "/v2/models/a%2Fb/infer", "{}").status == 404


def test_bare_text_wants_a_shape_of_one(own):
    refusal = own.infer("texts", b"abc", **{"Inference-Header-Content-Length": "0"}).error
    assert refusal == (400, "For BYTE datatype raw input 'X', the model must have input shape [1]")


def test_decoupled_models_are_refused(own):
    refusal = own.infer("counting", {"inputs": [given("x", "INT32", [1], [1])]}).error
    assert refusal == (501, "HTTP end point doesn't support models with decoupled transaction policy")


@pytest.mark.parametrize(
    ("model", "sequence"), [("told_uint64", 2**64 - 1), ("told_uint64", 5), ("told_string", "ä")]
)
def test_sequences(own, model, sequence):
    with triton.InferenceServerClient(f"127.0.0.1:{own.port}") as client:
        for number in range(3):
            flags = {"sequence_start": number == 0, "sequence_end": number == 2}
            x = tensor("x", np.zeros((1, 1), np.float32), "FP32")
            result = client.infer(model, [x], sequence_id=sequence, **flags)
            expected = sequence if isinstance(sequence, int) else sequence.encode()
            assert result.as_numpy("id").tolist() == [[expected]]
            told = [result.as_numpy(name)[0, 0] for name in ("start", "end")]
            assert told == [number == 0, number == 2]


@pytest.mark.parametrize(
    "said",
    [
        {"i": -5, "s": "text", "b": True, "d": 1.5, "one": 1},
        {"one": True},
        {"one": 1},
        {"one": 1.0},
        {"priority": 2**64 - 1, "timeout": 5, "sequence_id": "a"},
        {},
    ],
)
def test_parameters_are_what_they_say(said):
    text = json.dumps({"parameters": {**said, "binary_data_output": True}, "inputs": []}).encode()
    first, second = (infer_header(text)[0].parameters for _ in range(2))
    assert repr({each.key: each.value for each in first}) == repr(said)
    assert first is second


def test_what_clients_repeat_is_parsed_once():
    def header(start, size=4):
        inputs = [given("X", "FP32", [1, size], binary_data_size=4 * size)]
        return infer_header(start + json.dumps({"inputs": inputs}).encode()[1:])

    first, second = header(b'{"id":"1",'), header(b'{"id":"23",')
    assert first[0] is second[0] and (first[1], second[1]) == ("1", "23")
    assert header(b"{")[1] == ""
    # Other contents, but the same description.
    in_json = [
        infer_header(json.dumps({"inputs": [given("X", "FP32", [1], [x])]}).encode())[0] for x in (1, 2)
    ]
    assert in_json[0] is not in_json[1] and in_json[0].inputs[0] is in_json[1].inputs[0]
    assert bytes(in_json[0].contents[0]) != bytes(in_json[1].contents[0])
    long = [header(b'{"id":"%s",' % (b"x" * 5000))[0] for _ in range(2)]
    assert long[0] is not long[1] and not long[0].repeats


def test_the_last_of_two_ids_counts():
    text = b'{"id":"1","inputs":[],"id":"2"}'
    assert [infer_header(text)[1] for _ in range(2)] == ["2", "2"]


@one_process
def test_shared_memory(http, server):
    from tritonclient.utils import shared_memory

    memory = server._resources.system_memory
    region = shared_memory.create_shared_memory_region("region", "/yais_http", 128)
    try:
        shared_memory.set_shared_memory_region(region, [A, B])
        memory.register(Region("region", "/yais_http", 0, 128))
        inputs = [
            given("INPUT0", "INT32", [1, 16], shared_memory_region="region", shared_memory_byte_size=64),
            given(
                "INPUT1",
                "INT32",
                [1, 16],
                shared_memory_region="region",
                shared_memory_byte_size=64,
                shared_memory_offset=64,
            ),
        ]
        place = {"shared_memory_region": "region", "shared_memory_byte_size": 64}
        outputs = [
            {"name": "OUTPUT1", "parameters": {"binary_data": True}},
            {"name": "OUTPUT0", "parameters": place},
        ]
        for _ in range(2):
            reply = http.infer("simple", {"inputs": inputs, "outputs": outputs})
            # No parameters: Triton's C++ client takes any for those of binary data.
            assert reply.json["outputs"][1] == {"name": "OUTPUT0", "datatype": "INT32", "shape": [1, 16]}
            assert len(reply.tail) == 64
            shared_memory.set_shared_memory_region(region, [A])
        sums = shared_memory.get_contents_as_numpy(region, np.int32, [16])
        assert sums.tolist() == A.tolist()  # written back for the second one
    finally:
        memory.unregister("region")
        shared_memory.destroy_shared_memory_region(region)


def test_triton_client_asks_at_once(client):
    a = np.ones((1, 16), np.int32)
    inputs = [tensor("INPUT0", a, "INT32"), tensor("INPUT1", a, "INT32")]
    asked = [client.async_infer("simple", inputs, request_id=str(number)) for number in range(50)]
    assert [one.get_result().get_response()["id"] for one in asked] == [str(number) for number in range(50)]
    with pytest.raises(InferenceServerException, match=r"\[404\] Request for unknown model: 'no'"):
        client.infer("no", inputs)


async def test_triton_client_in_asyncio(http):
    sent = values("FP32", (2, 100))
    async with triton_aio.InferenceServerClient(f"127.0.0.1:{http.port}") as client:
        result = await client.infer("identity_fp32", [tensor("X", sent, "FP32")])
        assert result.as_numpy("Y").tobytes() == sent.tobytes()
        result = await client.infer("identity_fp32", [tensor("X", sent, "FP32")], headers={"X-Y": "z"})
        assert result.as_numpy("Y").tobytes() == sent.tobytes()


def test_static_helpers_of_triton_client(http):
    sent = values("INT64", (1, 3))
    body, length = triton.InferenceServerClient.generate_request_body([tensor("X", sent, "INT64")])
    reply = http.infer("identity_int64", body, **{"Inference-Header-Content-Length": str(length)})
    header = int(reply.headers["inference-header-content-length"])
    result = triton.InferenceServerClient.parse_response_body(reply.body, header_length=header)
    assert result.as_numpy("Y").tolist() == sent.tolist()


def test_curl(http):
    url = f"http://127.0.0.1:{http.port}/v2/models/identity_bytes/infer"
    text = base64.b64encode(b"x" * 30_000).decode()
    body = json.dumps({"inputs": [given("X", "BYTES", [1, 1], [text])]})
    for options in ([], ["--compressed"], ["-H", "Expect: 100-continue"], ["--http1.0"]):
        command = ["curl", "-sS", "--max-time", "20", *options, "--data-binary", "@-", url]
        done = subprocess.run(command, input=body.encode(), capture_output=True, check=True, timeout=SOON)
        assert json.loads(done.stdout)["outputs"][0]["data"] == [text], options


def test_bytes_of_other_lengths_are_described_anew(client):
    for text in (b"", b"abc", b"x" * 1000):
        sent = np.array([[text]], np.object_)
        result = client.infer("identity_bytes", [tensor("X", sent, "BYTES")])
        assert result.get_output("Y")["parameters"] == {"binary_data_size": 4 + len(text)}
        assert result.as_numpy("Y").tolist() == [[text]]
