"""Inference requests of Triton's four clients: contents, outputs, parameters, errors."""

from __future__ import annotations

import threading

import ml_dtypes
import numpy as np
import pytest
from gated_models import gates
from server_state import pending
from serving_models import SOON, eventually, one_process
from triton_clients import CLASSES, Client, rows, texts
from triton_models import fill_triton, triton_server
from tritonclient.utils import InferenceServerException, serialize_byte_tensor

from yais.inference.model import Model
from yais.serving.http.options import HttpOptions


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with triton_server(
        fill_triton(tmp_path_factory.mktemp("models")),
        http=HttpOptions(address="127.0.0.1", port=0, header_forward_pattern="x-.*"),
        header_forward_pattern="x-.*",
    ) as running:
        yield running


@pytest.fixture(scope="module", params=CLASSES)
def client(request, server):
    with Client(request.param, server) as connected:
        yield connected


HTTP_ONLY = pytest.mark.parametrize("client", ["http", "http-aio"], indirect=True)

NUMBERS = {
    "BOOL": [True, False, True],
    "UINT8": [0, 255],
    "UINT16": [0, 65535],
    "UINT32": [0, 2**32 - 1],
    "UINT64": [0, 2**64 - 1],
    "INT8": [-128, 127],
    "INT16": [-(2**15), 2**15 - 1],
    "INT32": [-(2**31), 2**31 - 1],
    "INT64": [-(2**63), 2**63 - 1],
    "FP16": [-0.0, 65504, float("inf")],
    "FP32": [0.1, float("-inf"), -0.0],
    "FP64": [0.1, 1e308, float("-inf")],
}
DTYPES = {"BOOL": np.bool_, "FP16": np.float16, "FP32": np.float32, "FP64": np.float64}


def numbers(datatype):
    values = NUMBERS[datatype]
    return np.array([values, values[::-1]], DTYPES.get(datatype, datatype.lower()))


@pytest.mark.parametrize("datatype", NUMBERS)
def test_numbers(client, datatype):
    array = numbers(datatype)
    answer = client.infer(f"identity_{datatype.lower()}", {"X": array}).as_numpy("Y")
    assert (answer.dtype, answer.shape) == (array.dtype, array.shape)
    assert answer.tobytes() == array.tobytes()


@HTTP_ONLY
@pytest.mark.parametrize("datatype", [datatype for datatype in NUMBERS if datatype != "FP16"])
def test_numbers_in_json(client, datatype):
    array = numbers(datatype)
    if datatype.startswith("FP"):
        array = np.where(np.isfinite(array), array, 0)  # the client writes no JSON of others
    tensor = client.input("X", array, binary_data=False)
    outputs = [client.output("Y", binary_data=False)]
    answer = client.call("infer", f"identity_{datatype.lower()}", [tensor], outputs=outputs).as_numpy("Y")
    assert (answer.dtype, answer.shape) == (array.dtype, array.shape)
    assert answer.tobytes() == array.tobytes()


def test_bf16(client):
    array = rows(1.5, -2, 0.00390625, float("inf"), dtype=ml_dtypes.bfloat16)
    answer = client.infer("identity_bf16", {"X": array}).as_numpy("Y")
    assert answer.dtype == ml_dtypes.bfloat16
    assert answer.tobytes() == array.tobytes()


@HTTP_ONLY
def test_what_json_cannot_say(client):
    outputs = [client.output("Y", binary_data=False)]
    for datatype, array in (("FP16", rows(1, dtype=np.float16)), ("BF16", rows(1, dtype=ml_dtypes.bfloat16))):
        with pytest.raises(InferenceServerException) as caught:
            client.infer(f"identity_{datatype.lower()}", {"X": array}, outputs)
        assert caught.value.status() == "400"
        assert datatype in caught.value.message()


BYTES = [b"", b"a\0b\0", b"\0", "\N{SNOWMAN}".encode(), b"x" * 70_000]


def test_bytes(client):
    array = texts(*BYTES, b"\xff\xfe")
    answer = client.infer("identity_bytes", {"X": array}).as_numpy("Y")
    assert answer.tolist() == array.tolist()


@HTTP_ONLY
def test_bytes_in_json(client):
    tensor = client.input("X", texts(*BYTES), binary_data=False)
    outputs = [client.output("Y", binary_data=False)]
    answer = client.call("infer", "identity_bytes", [tensor], outputs=outputs)
    assert answer.get_output("Y")["data"] == [value.decode() for value in BYTES]
    assert answer.as_numpy("Y").tolist() == [[value.decode() for value in BYTES]]


def test_bytes_of_any_object(client):
    """The client turns what is not bytes into text."""
    array = np.array([["text", 5, b"b"]], object)
    answer = client.infer("identity_bytes", {"X": array}).as_numpy("Y")
    assert answer.tolist() == [[b"text", b"5", b"b"]]
    np.testing.assert_array_equal(serialize_byte_tensor(answer), serialize_byte_tensor(array))


@pytest.mark.parametrize("datatype", ["FP32", "INT8", "BYTES"])
@pytest.mark.parametrize("shape", [(1, 0), (3, 0), (8, 0)])
def test_no_elements(client, datatype, shape):
    array = np.zeros(shape, {"FP32": np.float32, "INT8": np.int8, "BYTES": object}[datatype])
    answer = client.infer(f"identity_{datatype.lower()}", {"X": array}).as_numpy("Y")
    assert answer.shape == shape


def test_an_empty_batch_is_refused(client):
    with pytest.raises(InferenceServerException) as caught:
        client.infer("identity_fp32", {"X": np.zeros((0, 2), np.float32)})
    assert caught.value.status() == client.status("INVALID_ARGUMENT", 400)


@HTTP_ONLY
def test_mixed_contents(client):
    """Of two inputs one is binary, the other JSON, and of two outputs as well."""
    one = np.arange(16, dtype=np.int32)[None]
    inputs = [client.input("INPUT0", one, binary_data=False), client.input("INPUT1", one + 1)]
    outputs = [client.output("OUTPUT0", binary_data=True), client.output("OUTPUT1", binary_data=False)]
    answer = client.call("infer", "simple", inputs, outputs=outputs)
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), one * 2 + 1)
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT1"), one * 0 - 1)
    assert "data" not in answer.get_output("OUTPUT0")
    assert answer.get_output("OUTPUT1")["data"] == [-1] * 16
    inputs.reverse()
    outputs.reverse()
    answer = client.call("infer", "simple", inputs, outputs=outputs)
    assert [output["name"] for output in answer.get_response()["outputs"]] == ["OUTPUT1", "OUTPUT0"]
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), one * 2 + 1)


def names(client, answer):
    response = answer.get_response()
    if client.http:
        return [output["name"] for output in response["outputs"]]
    return [output.name for output in response.outputs]


def test_requested_outputs(client):
    arrays = {"INPUT0": np.zeros((2, 16), np.int32), "INPUT1": np.ones((2, 16), np.int32)}
    assert names(client, client.infer("simple", arrays)) == ["OUTPUT0", "OUTPUT1"]
    assert names(client, client.infer("simple", arrays, [])) == ["OUTPUT0", "OUTPUT1"]
    reverse = [client.output("OUTPUT1"), client.output("OUTPUT0")]
    assert names(client, client.infer("simple", arrays, reverse)) == ["OUTPUT1", "OUTPUT0"]
    one = client.infer("simple", arrays, [client.output("OUTPUT1")])
    assert names(client, one) == ["OUTPUT1"]
    assert one.as_numpy("OUTPUT0") is None
    assert one.as_numpy("OUTPUT1").tolist() == [[-1] * 16] * 2
    for asked, text in (
        (["nix"], "unexpected inference output 'nix' for model 'simple'"),
        (["OUTPUT0", "OUTPUT0"], "output 'OUTPUT0' already exists in request"),
    ):
        with pytest.raises(InferenceServerException) as caught:
            client.infer("simple", arrays, map(client.output, asked), request_id="5")
        assert caught.value.message() == f"[request id: 5] {text}"


def test_optional_inputs(client):
    answer = client.infer("optional", {"x": rows(1)})
    assert (answer.as_numpy("sum").tolist(), answer.as_numpy("names").tolist()) == ([[101]], [[b"x"]])
    answer = client.infer("optional", {"x": rows(1), "bias": rows(2)})
    assert (answer.as_numpy("sum").tolist(), answer.as_numpy("names").tolist()) == ([[3]], [[b"bias x"]])
    with pytest.raises(InferenceServerException, match="expected number of inputs between 1 and 2 but got"):
        client.infer("optional", {})


@pytest.mark.parametrize(
    ("datatype", "values", "expected"),
    [
        ("FP32", [0.5, -1, 2.25], [b"2.250000:2", b"0.500000:0:first", b"-1.000000:1:second:half"]),
        ("FP64", [1e-7, 1e15, 1], [b"1000000000000000.000000:1:second:half", b"1.000000:2"]),
        ("INT64", [-(2**63), 7, 7, 8], [b"8:3:fourth", b"7:1:second:half", b"7:2"]),
        ("UINT8", [3, 255], [b"255:1:second:half", b"3:0:first"]),
        ("UINT64", [2**64 - 1, 0], [b"18446744073709551615:0:first"]),
    ],
)
def test_classification(client, datatype, values, expected):
    array = rows(*values, dtype=DTYPES.get(datatype, datatype.lower()))
    array = np.concatenate([array, array])
    asked = client.output("Y", class_count=len(expected))
    answer = client.infer(f"scores_{datatype.lower()}", {"X": array}, [asked]).as_numpy("Y")
    assert answer.tolist() == [expected, expected]


def test_classification_of_all_and_of_none(client):
    asked = [client.output("Y", class_count=100)]
    answer = client.infer("scores_fp32", {"X": rows(1, 2)}, asked).as_numpy("Y")
    assert answer.tolist() == [[b"2.000000:1:second:half", b"1.000000:0:first"]]
    with pytest.raises(InferenceServerException) as caught:
        client.infer("scores_bytes", {"X": texts(b"a")}, asked)
    assert caught.value.message().endswith(
        "class result not available for output due to unsupported type 'BYTES'"
    )
    assert caught.value.status() == client.status("INVALID_ARGUMENT", 400)


@HTTP_ONLY
def test_classification_in_json(client):
    asked = [client.output("Y", class_count=1, binary_data=False)]
    output = client.infer("scores_fp32", {"X": rows(1, 2)}, asked).get_output("Y")
    assert (output["datatype"], output["shape"]) == ("BYTES", [1, 1])
    assert output["data"] == ["2.000000:1:second:half"]


@pytest.fixture
def asked(monkeypatch):
    """The requests as models get them."""
    requests = []
    submit = Model.submit

    def submitted(model, request):
        requests.append(request)
        return submit(model, request)

    monkeypatch.setattr(Model, "submit", submitted)
    return requests


@one_process
def test_parameters(client, asked):
    custom = {"flag": True, "count": -5, "share": 0.25, "text": "t"}
    client.infer("part", {"X": rows(1)}, parameters=custom, headers={"x-tenant": "me", "other": "no"})
    (request,) = asked
    assert {**custom, "x-tenant": "me"}.items() <= dict(request.parameters).items()
    assert type(request.parameters["flag"]) is bool
    assert "other" not in request.parameters


@pytest.mark.parametrize("name", ["sequence_id", "priority", "binary_data_output", "triton_x"])
def test_reserved_parameters_are_refused_by_the_client(client, name):
    with pytest.raises(InferenceServerException, match="is a reserved parameter and cannot be specified"):
        client.infer("part", {"X": rows(1)}, parameters={name: 1})


def test_request_id(client):
    answer = client.infer("part", {"X": rows(1)}, request_id="an id \N{SNOWMAN}")
    response = answer.get_response()
    assert (response["id"] if client.http else response.id) == "an id \N{SNOWMAN}"
    answer = client.infer("part", {"X": rows(1)})
    assert not answer.get_response().get("id") if client.http else answer.get_response().id == ""


def test_priority_and_timeout(client):
    gate = gates["gated"]
    order = []

    def send(value, **options):
        with Client(client.kind, client.server) as another:
            try:
                another.infer("gated", {"x": rows(value)}, **options)
            except InferenceServerException as error:
                order.append((value, error))

    threads = []
    with gate.shut():
        for waiting, (value, options) in enumerate(
            [(0, {}), (1, {}), (2, {"priority": 2}), (3, {"priority": 1}), (4, {"timeout": 1000})]
        ):
            threads.append(threading.Thread(target=send, args=(value,), kwargs=options))
            threads[-1].start()
            if value == 0:
                gate.wait_for(1)
            elif value < 4:
                eventually(lambda expected=waiting: pending(client.server, "gated") == expected)
        threads[-1].join(SOON)
        ((value, error),) = order
        assert (value, error.status()) == (4, client.status("UNAVAILABLE", 503))
        assert error.message() == "Request timeout expired"
    for thread in threads:
        thread.join(SOON)
    assert [batch[0] for batch in gate.batches] == [0, 3, 1, 2]
    client.infer("gated", {"x": rows(1)}, priority=3)  # above the last is the default


def total(client, model, id_, value, **options):
    answer = client.infer(model, {"INPUT": rows(value, dtype=np.int32)}, sequence_id=id_, **options)
    return int(answer.as_numpy("OUTPUT")[0, 0])


def test_sequences(client):
    for model, ids in (
        ("simple_sequence", (2**63 - 1, 7)),
        ("simple_dyna_sequence", (1000, 1001)),
        ("simple_text_sequence", ("one", "a longer id \N{SNOWMAN}")),
    ):
        for id_ in ids:
            assert total(client, model, id_, 1, sequence_start=True) == 1
        for id_ in ids:
            assert total(client, model, id_, 2) == 3
        for id_ in ids:
            added = id_ if "dyna" in model else 0
            assert total(client, model, id_, 3, sequence_end=True) == 6 + added
        with pytest.raises(InferenceServerException) as caught:
            total(client, model, ids[0], 4)
        assert caught.value.status() == client.status("INVALID_ARGUMENT", 400)
        assert caught.value.message().endswith(
            f"inference request for sequence {ids[0]} to model '{model}' must specify the START flag on "
            "the first request of the sequence"
        )


def test_a_sequence_in_one_request(client):
    assert total(client, "simple_sequence", 5, 9, sequence_start=True, sequence_end=True) == 9


def test_a_sequence_id_to_a_model_without_sequences(client):
    answer = client.infer("part", {"X": rows(1)}, sequence_id=5, sequence_start=True)
    assert answer.as_numpy("Y").tolist() == [[1]]


@pytest.mark.parametrize("version", ["1", "2", ""])
def test_versions(client, version):
    arrays = {"INPUT0": np.zeros((1, 16), np.int32), "INPUT1": np.ones((1, 16), np.int32)}
    response = client.infer("simple", arrays, model_version=version).get_response()
    assert (response["model_version"] if client.http else response.model_version) == (version or "2")


ONE, INT = rows(1), rows(1, dtype=np.int32)

NOT_FOUND, INVALID = ("NOT_FOUND", 404), ("INVALID_ARGUMENT", 400)

NO_ID = "[request id: <id_unknown>] "


@pytest.mark.parametrize(
    ("model", "arrays", "options", "status", "text"),
    [
        ("nix", {"X": ONE}, {}, NOT_FOUND, "Request for unknown model: 'nix' is not found"),
        (
            "part",
            {"X": ONE},
            {"model_version": "9"},
            NOT_FOUND,
            "Request for unknown model: 'part' version 9 is not found",
        ),
        (
            "part",
            {"X": ONE},
            {"model_version": "x"},
            INVALID,
            (
                "failed to get model version from specified version string 'x' (details: stol), version "
                "should be an integral value > 0"
            ),
        ),
        (
            "part",
            {},
            {"request_id": "1"},
            INVALID,
            (
                "[request id: 1] expected 1 inputs but got 0 inputs for model 'part'. Got input(s) [], but "
                "missing required input(s) ['X']. Please provide all required input(s)."
            ),
        ),
        (
            "part",
            {"X": INT},
            {},
            INVALID,
            NO_ID + "inference input 'X' data-type is 'INT32', but model 'part' expects 'FP32'",
        ),
        (
            "part",
            {"X": np.zeros((9, 1), np.float32)},
            {},
            INVALID,
            NO_ID + "inference request batch-size must be <= 8 for 'part'",
        ),
        (
            "part",
            {"Z": ONE},
            {},
            INVALID,
            NO_ID + "unexpected inference input 'Z' for model 'part'",
        ),
        (
            "simple",
            {"INPUT0": INT, "INPUT1": INT},
            {},
            INVALID,
            (
                NO_ID
                + "unexpected shape for input 'INPUT0' for model 'simple'. Expected [-1,16], got [1,1]. "
                "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to "
                "be prepended to each input shape. If you want to specify the full shape including the batch "
                "dim in your input dims config, try setting max_batch_size to zero. See the model "
                "configuration docs for more info on max_batch_size."
            ),
        ),
    ],
)
def test_errors(client, model, arrays, options, status, text):
    """Text and status are exact, and `str` puts them together."""
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, arrays, **options)
    error = caught.value
    assert (error.status(), error.message()) == (client.status(*status), text)
    assert str(error) == f"[{client.status(*status)}] {text}"


def test_a_decoupled_model_answers_streams_only(client):
    with pytest.raises(InferenceServerException) as caught:
        client.infer("repeat_int32", {"IN": np.array([1], np.int32)})
    assert caught.value.status() == client.status("UNIMPLEMENTED", 501)
    assert "decoupled transaction policy" in caught.value.message()


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(client, algorithm):
    array = np.zeros((2, 20_000), np.float32)
    array[1, 5] = 7
    options = (
        {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
        if client.http
        else {"compression_algorithm": algorithm}
    )
    answer = client.infer("part", {"X": array}, **options)
    np.testing.assert_array_equal(answer.as_numpy("Y"), array)


@HTTP_ONLY
@pytest.mark.parametrize("one_way", ["request", "response"])
def test_compression_one_way_and_in_json(client, one_way):
    tensor = client.input("X", rows(*range(1000)), binary_data=False)
    outputs = [client.output("Y", binary_data=False)]
    options = {f"{one_way}_compression_algorithm": "gzip"}
    answer = client.call("infer", "part", [tensor], outputs=outputs, **options)
    np.testing.assert_array_equal(answer.as_numpy("Y"), rows(*range(1000)))


@pytest.mark.filterwarnings("ignore:Sending a large body")  # aiohttp to the client
def test_large_tensors(client):
    array = np.arange(5_000_000, dtype=np.float32).reshape(2, -1)  # 20 MB
    answer = client.infer("part", {"X": array})
    np.testing.assert_array_equal(answer.as_numpy("Y"), array)


def test_many_threads_with_a_client_each(client):
    failed = []

    def work(number):
        try:
            with Client(client.kind, client.server) as another:
                for value in range(10):
                    array = rows(number, value)
                    answer = another.infer("part", {"X": array}, request_id=f"{number}-{value}")
                    np.testing.assert_array_equal(answer.as_numpy("Y"), array)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
        assert not thread.is_alive()
    assert not failed
