"""Inference as clients see it: Triton's own, and messages made by hand."""

from __future__ import annotations

import queue

import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from onnx_models import EXAMPLES, TYPES
from serving_models import SOON, infer_request, outputs_of
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from yais.protocol import kserve_pb2 as pb

rng = np.random.default_rng(1)


def values(datatype, shape):
    """Return what is hardest on each type: its extremes, and random elements."""
    if datatype == "BYTES":
        texts = [b"", b"\0", b"a\0b\0", "äöü€".encode(), b"x" * 300, b"abc", b"'", b"\n"]
        array = np.empty(int(np.prod(shape)), np.object_)
        array[:] = [texts[index % len(texts)] for index in range(array.size)]
        return array.reshape(shape)
    if datatype == "BOOL":
        return rng.random(shape) < 0.5
    if datatype == "BF16" or datatype.startswith("FP"):
        dtype = np.dtype(ml_dtypes.bfloat16 if datatype == "BF16" else f"float{datatype[2:]}")
        array = rng.standard_normal(shape).astype(dtype)
        limits = ml_dtypes.finfo(dtype)
        extremes = [limits.max, limits.tiny, np.inf, -np.inf, np.nan, -0.0]
    else:
        dtype = np.dtype(datatype.lower())
        array = rng.integers(0, 100, shape).astype(dtype)
        extremes = [np.iinfo(dtype).min, np.iinfo(dtype).max]
    array.ravel()[: len(extremes)] = extremes[: array.size]
    return array


def given(array, datatype, name="X"):
    tensor = triton.InferInput(name, array.shape, datatype)
    tensor.set_data_from_numpy(array)
    return tensor


def simple_inputs(batch=1):
    a, b = rng.integers(-1000, 1000, (2, batch, 16), dtype=np.int32)
    return a, b, [given(a, "INT32", "INPUT0"), given(b, "INT32", "INPUT1")]


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (8, 2)])
@pytest.mark.parametrize("datatype", TYPES)
def test_every_type_comes_back_as_it_was_sent(client, datatype, shape):
    sent = values(datatype, shape)
    result = client.infer(f"identity_{datatype.lower()}", [given(sent, datatype)], client_timeout=SOON)
    output = result.get_output("Y")
    assert (output.datatype, tuple(output.shape)) == (datatype, shape)
    got = result.as_numpy("Y")
    # Bit by bit, since one NaN equals no other.
    assert got.tolist() == sent.tolist() if datatype == "BYTES" else got.tobytes() == sent.tobytes()
    assert not output.HasField("contents")  # raw always, whatever the request used


@pytest.mark.parametrize(
    "elements",
    [
        [b"\xff\xfe", b"abc"],
        [b"\xff", "äöü".encode()],
        [b"\x80\0\x81\0", b""],
        [b"\xc3", b"\xa4"],  # the two halves of one character
        ["\ud7ff\ue000\U0010ffff".encode(), b"\0\0"],
    ],
)
def test_bytes_that_are_no_text_come_back(client, elements):
    sent = np.empty((1, len(elements)), np.object_)
    sent[0, :] = elements
    result = client.infer("identity_bytes", [given(sent, "BYTES")], client_timeout=SOON)
    assert result.as_numpy("Y").tolist() == sent.tolist()


def test_text_and_no_text_in_one_batch_come_back(client):
    """Requests of one batch are converted together, so one that is no UTF-8 must not change another."""
    answers = queue.Queue()
    texts = ["ä".encode(), b"\xff", "€".encode(), b"\xe4"] * 20
    for number, text in enumerate(texts):
        sent = np.array([[text]], np.object_)

        def answered(result, error, number=number):
            answers.put((number, error or result.as_numpy("Y")[0, 0]))

        client.async_infer("identity_bytes", [given(sent, "BYTES")], answered, client_timeout=SOON)
    received = dict(answers.get(timeout=SOON) for _ in texts)
    assert [received[number] for number in range(len(texts))] == texts


@pytest.mark.parametrize("shape", [(1, 0), (8, 0)])
@pytest.mark.parametrize("datatype", ["FP32", "INT8", "BYTES", "BF16", "BOOL"])
def test_tensors_without_elements(client, datatype, shape):
    sent = np.empty(shape, triton_to_np_dtype(datatype))
    result = client.infer(f"identity_{datatype.lower()}", [given(sent, datatype)], client_timeout=SOON)
    assert tuple(result.get_output("Y").shape) == shape
    assert result.as_numpy("Y").shape == shape


# The typed field of each type, and what may stand in it.
TYPED = {
    "BOOL": ("bool_contents", [True, False]),
    "INT8": ("int_contents", [-128, 127]),
    "INT16": ("int_contents", [-(2**15), 2**15 - 1]),
    "INT32": ("int_contents", [-(2**31), 2**31 - 1]),
    "INT64": ("int64_contents", [-(2**63), 2**63 - 1]),
    "UINT8": ("uint_contents", [0, 255]),
    "UINT16": ("uint_contents", [0, 2**16 - 1]),
    "UINT32": ("uint_contents", [0, 2**32 - 1]),
    "UINT64": ("uint64_contents", [0, 2**64 - 1]),
    "FP32": ("fp32_contents", [0.5, float("inf")]),
    "FP64": ("fp64_contents", [1e-300, -1e300]),
    "BYTES": ("bytes_contents", [b"a\0", b"\xff"]),
}


@pytest.mark.parametrize("datatype", TYPED)
def test_typed_contents_are_answered_with_raw_ones(wire, datatype):
    field, elements = TYPED[datatype]
    request = pb.ModelInferRequest(model_name=f"identity_{datatype.lower()}")
    tensor = request.inputs.add(name="X", datatype=datatype, shape=[1, len(elements)])
    getattr(tensor.contents, field).extend(elements)
    response = wire.infer(request)
    (output,) = response.outputs
    assert (output.datatype, list(output.shape)) == (datatype, [1, 2])
    assert not output.HasField("contents")
    if datatype == "BYTES":
        expected = b"\2\0\0\0a\0\1\0\0\0\xff"
    else:
        dtype = {"BOOL": np.bool_, "FP32": np.float32, "FP64": np.float64}.get(datatype, datatype.lower())
        expected = np.array(elements, dtype).tobytes()
    assert list(response.raw_output_contents) == [expected]


def test_typed_contents_of_no_element(wire):
    request = pb.ModelInferRequest(model_name="identity_fp32")
    request.inputs.add(name="X", datatype="FP32", shape=[2, 0]).contents.SetInParent()
    assert list(wire.infer(request).raw_output_contents) == [b""]


def test_many_typed_elements(wire):
    request = pb.ModelInferRequest(model_name="identity_bytes")
    tensor = request.inputs.add(name="X", datatype="BYTES", shape=[1, 100_000])
    tensor.contents.bytes_contents.extend([b"%d" % number for number in range(100_000)])
    (raw,) = wire.infer(request).raw_output_contents
    assert len(raw) == 100_000 * 4 + sum(len(str(number)) for number in range(100_000))
    assert raw.endswith(b"\5\0\0\x0099999")


@pytest.mark.parametrize("batch", [1, 2, 63, 64])
def test_batch_sizes(client, batch):
    a, b, inputs = simple_inputs(batch)
    result = client.infer("simple", inputs, client_timeout=SOON)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), a + b)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), a - b)


def test_inputs_in_any_order(client):
    a, b, inputs = simple_inputs()
    result = client.infer("simple", inputs[::-1], client_timeout=SOON)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), a - b)


def test_inputs_in_both_orders_share_a_batch(client):
    """The layouts differ, the group is the same: contents must not be mixed up."""
    answers = queue.Queue()
    expected = []
    for number in range(100):
        a, b, inputs = simple_inputs()
        expected.append(a - b)

        def answered(result, error, number=number):
            answers.put((number, error or result.as_numpy("OUTPUT1")))

        client.async_infer("simple", inputs[:: -1 if number % 2 else 1], answered, client_timeout=SOON)
    received = dict(answers.get(timeout=SOON) for _ in expected)
    np.testing.assert_array_equal([received[number] for number in range(100)], expected)


@pytest.mark.parametrize(
    "names", [["OUTPUT0"], ["OUTPUT1"], ["OUTPUT0", "OUTPUT1"], ["OUTPUT1", "OUTPUT0"], []]
)
def test_outputs_are_those_asked_for_in_that_order(client, names):
    a, b, inputs = simple_inputs(3)
    outputs = [triton.InferRequestedOutput(name) for name in names]
    result = client.infer("simple", inputs, outputs=outputs or None, client_timeout=SOON)
    response = result.get_response()
    assert [output.name for output in response.outputs] == (names or ["OUTPUT0", "OUTPUT1"])
    assert len(response.raw_output_contents) == len(response.outputs)
    expected = {"OUTPUT0": a + b, "OUTPUT1": a - b}
    for output in response.outputs:
        np.testing.assert_array_equal(result.as_numpy(output.name), expected[output.name])


@pytest.mark.parametrize("request_id", ["", "1", "a" * 200, "ünicode \0"])
def test_the_request_id_comes_back(client, request_id):
    _, _, inputs = simple_inputs()
    response = client.infer("simple", inputs, request_id=request_id, client_timeout=SOON).get_response()
    assert (response.id, response.model_name, response.model_version) == (request_id, "simple", "1")


@pytest.mark.parametrize("version", ["", "1", "01", "+1", " 1"])
def test_version_strings(client, version):
    _, _, inputs = simple_inputs()
    response = client.infer("simple", inputs, model_version=version, client_timeout=SOON).get_response()
    assert response.model_version == "1"


def test_parameters_of_every_kind_are_taken(wire):
    array = np.ones((1, 2), np.float32)
    request = infer_request("identity_fp32", {"X": array})
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    request.parameters["priority"].uint64_param = 3
    request.parameters["timeout"].int64_param = 1_000_000
    request.parameters["sequence_id"].int64_param = 7
    request.parameters["sequence_start"].bool_param = True
    request.parameters["text"].string_param = "ü"
    request.parameters["number"].double_param = 0.5
    request.parameters["nothing"].SetInParent()
    request.inputs[0].parameters["custom"].int64_param = 1
    request.outputs.add(name="Y").parameters["custom"].string_param = "x"
    np.testing.assert_array_equal(outputs_of(wire.infer(request))["Y"], array)


def test_unknown_fields_are_ignored(wire):
    """A newer client may say more; protobuf readers skip what they do not know."""
    array = np.ones((1, 2), np.float32)
    message = infer_request("identity_fp32", {"X": array}, id="7").SerializeToString()
    extended = b"\xa2\x06\x03new" + message + b"\xf8\x07\x01"
    response = pb.ModelInferResponse.FromString(wire.method("ModelInfer")(extended, timeout=SOON))
    assert response.id == "7"
    np.testing.assert_array_equal(outputs_of(response)["Y"], array)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests(client, algorithm):
    a, b, inputs = simple_inputs(64)
    result = client.infer("simple", inputs, compression_algorithm=algorithm, client_timeout=SOON)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), a + b)


@pytest.mark.parametrize("algorithm", [None, "gzip"])
def test_ten_megabytes(client, algorithm):
    sent = np.tile(np.arange(2_621_440 // 8, dtype=np.float32), (8, 1))
    inputs = [given(sent, "FP32")]
    result = client.infer("identity_fp32", inputs, compression_algorithm=algorithm, client_timeout=SOON)
    np.testing.assert_array_equal(result.as_numpy("Y"), sent)


def test_large_and_small_requests_mixed(client):
    """A batch of unequal shapes is no batch; contents of above and below 4 KiB are kept in other ways."""
    answers = queue.Queue()
    sizes = [1, 1023, 1024, 1025, 100_000] * 8
    sent = [rng.standard_normal((1, size)).astype(np.float32) for size in sizes]
    for number, array in enumerate(sent):

        def answered(result, error, number=number):
            answers.put((number, error or result.as_numpy("Y")))

        client.async_infer("identity_fp32", [given(array, "FP32")], answered, client_timeout=SOON)
    received = dict(answers.get(timeout=SOON) for _ in sent)
    for number, array in enumerate(sent):
        np.testing.assert_array_equal(received[number], array)


def test_a_model_without_a_batch_dimension(client):
    sent = np.arange(6, dtype=np.int32).reshape(2, 3)
    result = client.infer("fixed", [given(sent, "INT32")], client_timeout=SOON)
    np.testing.assert_array_equal(result.as_numpy("Y"), sent)


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (0, 4), (300, 1)])
def test_dynamic_dimensions_without_a_batch(client, shape):
    sent = rng.standard_normal(shape).astype(np.float32)
    result = client.infer("scores", [given(sent, "FP32")], client_timeout=SOON)
    np.testing.assert_array_equal(result.as_numpy("Y"), sent)


def test_digits_recognises_the_held_out_images(client):
    with np.load(EXAMPLES / "digits" / "held_out.npz") as file:
        images, labels = file["images"], file["labels"]
    answers = queue.Queue()
    for index, image in enumerate(images):

        def answered(result, error, index=index):
            answers.put((index, error or int(result.as_numpy("probabilities").argmax())))

        tensor = given(image.astype(np.float32)[None, None], "FP32", "image")
        client.async_infer("digits", [tensor], answered, client_timeout=SOON)
    received = dict(answers.get(timeout=SOON) for _ in images)
    assert np.mean([received[index] == labels[index] for index in range(len(labels))]) >= 0.97


async def test_asyncio_client(server):
    async with triton_aio.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        a, b, inputs = simple_inputs(4)
        assert await client.is_server_ready(client_timeout=SOON)
        result = await client.infer("simple", inputs, request_id="aio", client_timeout=SOON)
        assert result.get_response().id == "aio"
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), a + b)
        with pytest.raises(InferenceServerException, match="is not found"):
            await client.infer("unknown", inputs, client_timeout=SOON)


def test_a_request_that_the_engine_refuses_fails_alone(client):
    """They run in one batch with requests that it takes, which must not feel it."""
    answers = queue.Queue()
    indices = [number % 5 for number in range(60)]  # 4 is not in the table
    for number, index in enumerate(indices):

        def answered(result, error, number=number):
            answers.put((number, error.message() if error else result.as_numpy("value")[0, 0]))

        tensor = given(np.array([[index]], np.int64), "INT64", "index")
        client.async_infer("table", [tensor], answered, client_timeout=SOON)
    received = dict(answers.get(timeout=SOON) for _ in indices)
    for number, index in enumerate(indices):
        if index < 4:
            assert received[number] == 10 + index
        else:
            assert "model 'table' failed:" in received[number]
            assert "out of data bounds" in received[number]
