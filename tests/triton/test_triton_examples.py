"""What the example programs of Triton's client do, and what they assert."""

from __future__ import annotations

import asyncio
import json
import queue
from functools import partial

import grpc
import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from serving_models import SOON, eventually
from triton_clients import CLASSES, Client
from triton_models import fill_triton, triton_server
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

FIRST = np.arange(16, dtype=np.int32)[None]
SECOND = np.ones((1, 16), np.int32)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with triton_server(fill_triton(tmp_path_factory.mktemp("models"))) as running:
        yield running


@pytest.fixture(scope="module", params=CLASSES)
def client(request, server):
    with Client(request.param, server) as connected:
        yield connected


@pytest.fixture
def stub(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def test_simple_infer_client(client):
    """simple_grpc_infer_client and simple_http_infer_client."""
    for parameters in ({}, {"parameters": {"a": "b"}}):
        inputs = [client.input("INPUT0", FIRST), client.input("INPUT1", SECOND)]
        outputs = [client.output("OUTPUT0"), client.output("OUTPUT1")]
        results = client.call("infer", "simple", inputs, outputs=outputs, headers={"test": "1"}, **parameters)
        for number in range(16):
            assert FIRST[0][number] + SECOND[0][number] == results.as_numpy("OUTPUT0")[0][number]
            assert FIRST[0][number] - SECOND[0][number] == results.as_numpy("OUTPUT1")[0][number]
        results = client.call("infer", "simple", inputs, outputs=None)
        assert results.as_numpy("OUTPUT1") is not None
    statistics = client.call("get_inference_statistics", model_name="simple")
    assert len(statistics["model_stats"]) == 2  # the example's model has one version
    with pytest.raises(InferenceServerException):
        client.infer("wrong_model_name", {"INPUT0": FIRST})


def test_simple_http_infer_client_with_the_first_in_json(server):
    with Client("http", server) as client:
        inputs = [
            client.input("INPUT0", FIRST, binary_data=False),
            client.input("INPUT1", SECOND, binary_data=True),
        ]
        outputs = [client.output("OUTPUT0", binary_data=True), client.output("OUTPUT1", binary_data=False)]
        query = {"test_1": 1, "test_2": 2}
        results = client.raw.infer(
            "simple", inputs, outputs=outputs, query_params=query, headers={"test": "1"}
        )
        assert (results.as_numpy("OUTPUT1") == FIRST - SECOND).all()


def test_simple_string_infer_client(client):
    """simple_*_string_infer_client, and the model simple_identity with NULs."""
    expected_sum, expected_diff = FIRST + SECOND, FIRST - SECOND
    as_text = partial(np.vectorize(lambda number: str(number).encode(), otypes=[object]))
    results = client.infer("simple_string", {"INPUT0": as_text(FIRST), "INPUT1": as_text(SECOND)})
    for number in range(16):
        assert int(results.as_numpy("OUTPUT0")[0][number]) == expected_sum[0][number]
        assert int(results.as_numpy("OUTPUT1")[0][number]) == expected_diff[0][number]
    null_chars = np.array([[f"he\x00llo {number}".encode() for number in range(16)]], object)
    results = client.infer("simple_identity", {"X": null_chars})
    np.testing.assert_array_equal(results.as_numpy("Y"), null_chars)


def test_simple_async_infer_client(server):
    """simple_grpc_async_infer_client and simple_http_async_infer_client."""
    answers = queue.Queue()
    with Client("grpc", server) as client:
        inputs = [client.input("INPUT0", FIRST), client.input("INPUT1", SECOND)]
        for _ in range(2):
            client.raw.async_infer(
                "simple",
                inputs,
                partial(lambda waiting, result, error: waiting.put(error or result), answers),
                client_timeout=SOON,
            )
        results = [answers.get(timeout=SOON) for _ in range(2)]
    with Client("http", server, concurrency=2) as client:
        inputs = [client.input("INPUT0", FIRST), client.input("INPUT1", SECOND)]
        requests = [client.raw.async_infer("simple", inputs) for _ in range(2)]
        results += [request.get_result(timeout=SOON) for request in requests]
    for result in results:
        assert (result.as_numpy("OUTPUT0") == FIRST + SECOND).all()


async def test_simple_aio_infer_client(server):
    """simple_grpc_aio_infer_client and simple_http_aio_infer_client: requests at once on one client."""
    for kind, url in (("grpc-aio", server.port), ("http-aio", server.http_port)):
        module = httpclient if kind.startswith("http") else grpcclient
        inputs = [module.InferInput(name, [1, 16], "INT32") for name in ("INPUT0", "INPUT1")]
        for tensor, array in zip(inputs, (FIRST, SECOND), strict=True):
            tensor.set_data_from_numpy(array)
        async with CLASSES[kind](f"127.0.0.1:{url}") as client:
            calls = [client.infer("simple", inputs, request_id=str(number + 1)) for number in range(20)]
            async with asyncio.timeout(SOON):
                results = await asyncio.gather(*calls)
        for number, result in enumerate(results):
            response = result.get_response()
            assert (response.id if kind == "grpc-aio" else response["id"]) == str(number + 1)
            assert (result.as_numpy("OUTPUT1") == FIRST - SECOND).all()


def test_simple_health_metadata(client):
    """simple_grpc_health_metadata and simple_http_health_metadata."""
    assert client.call("is_server_live", headers={"test": "1", "dummy": "2"})
    assert client.call("is_server_ready")
    assert client.call("is_model_ready", "simple")
    assert client.call("get_server_metadata")["name"] == "triton"
    assert client.call("get_model_metadata", "simple", headers={"test": "1"})["name"] == "simple"
    with pytest.raises(InferenceServerException) as caught:
        client.call("get_model_metadata", "wrong_model_name")
    assert "Request for unknown model" in caught.value.message()
    config = client.call("get_model_config", "simple")
    assert (config if client.http else config["config"])["name"] == "simple"
    with pytest.raises(InferenceServerException) as caught:
        client.call("get_model_config", "wrong_model_name")
    assert "Request for unknown model" in caught.value.message()


def test_simple_model_control(client):
    """simple_grpc_model_control and simple_http_model_control."""
    name = "identity_int32"
    for load in ({}, {"config": '{"backend": "onnxruntime", "max_batch_size": "2"}'}):
        client.call("unload_model", name)
        eventually(lambda: not client.call("is_model_ready", name))
        client.call("load_model", name, **load)
        assert client.call("is_model_ready", name)
    for options, text in (
        ({"config": '{"max_batch_size": }'}, "failed to load"),
        ({"files": {"file:1/model.onnx": b""}}, "failed to load"),
    ):
        with pytest.raises(InferenceServerException, match=text):
            client.call("load_model", name, **options)
        assert client.call("is_model_ready", name)
    client.call("load_model", name)
    with pytest.raises(InferenceServerException) as caught:
        client.call("load_model", "wrong_model_name")
    assert "failed to load" in caught.value.message()


def test_simple_sequence_sync_infer_client(client):
    """simple_grpc_sequence_sync_infer_client and simple_http_sequence_sync_infer_client."""
    values = [11, 7, 5, 3, 2, 0, 1]

    def send(model, array, **options):
        result = client.infer(model, {"INPUT": np.array([[array]], np.int32)}, **options)
        return int(result.as_numpy("OUTPUT")[0][0])

    for model, first_id, second_id in (
        ("simple_sequence", 1000, 1001),
        ("simple_dyna_sequence", 1006, 1007),
        ("simple_text_sequence", "sequence-1", "sequence-2"),
    ):
        for sequence_id, first, sign in ((first_id, 0, 1), (second_id, 100, -1)):
            got = [
                send(
                    model,
                    sign * value if count else first,
                    sequence_id=sequence_id,
                    sequence_start=count == 0,
                    sequence_end=count == len(values),
                )
                for count, value in enumerate([0, *values])
            ]
            expected = [first + sign * int(total) for total in np.cumsum([0, *values])]
            expected[-1] += sequence_id if "dyna" in model else 0
            assert got == expected


def test_simple_grpc_custom_repeat(server):
    """With the final response, and cancelled."""
    answers = queue.Queue()
    with grpcclient.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        client.start_stream(lambda result, error: answers.put(error or result))
        tensor = grpcclient.InferInput("IN", [5], "INT32")
        tensor.set_data_from_numpy(np.arange(5, dtype=np.int32))
        client.async_stream_infer("repeat_int32", [tensor], request_id="0", enable_empty_final_response=True)
        received = []
        while True:
            result = answers.get(timeout=SOON)
            response = result.get_response()
            if response.parameters.get("triton_final_response").bool_param:
                break
            received.append(int(result.as_numpy("OUT")[0]))
        client.stop_stream()
    assert received == list(range(5))


def test_grpc_client(stub):
    """grpc_client: every kind of message by the stub itself."""
    assert stub.ServerLive(service_pb2.ServerLiveRequest()).live
    assert stub.ServerReady(service_pb2.ServerReadyRequest()).ready
    assert stub.ModelReady(service_pb2.ModelReadyRequest(name="simple", version="1")).ready
    assert stub.ServerMetadata(service_pb2.ServerMetadataRequest()).name == "triton"
    assert stub.ModelMetadata(service_pb2.ModelMetadataRequest(name="simple")).name == "simple"
    assert stub.ModelConfig(service_pb2.ModelConfigRequest(name="simple")).config.name == "simple"
    request = service_pb2.ModelInferRequest(model_name="simple", model_version="", id="my request id")
    for name in ("INPUT0", "INPUT1"):
        request.inputs.add(name=name, datatype="INT32", shape=[1, 16])
    for name in ("OUTPUT0", "OUTPUT1"):
        request.outputs.add(name=name)
    request.raw_input_contents.extend([FIRST.tobytes(), SECOND.tobytes()])
    response = stub.ModelInfer(request)
    assert (response.id, response.model_name) == ("my request id", "simple")
    assert np.frombuffer(response.raw_output_contents[0], np.int32).tolist() == (FIRST + SECOND)[0].tolist()


CONTENTS = {
    "BOOL": ("bool_contents", [True, False]),
    "INT8": ("int_contents", [-128, 127]),
    "INT16": ("int_contents", [-(2**15), 5]),
    "INT32": ("int_contents", [-(2**31), 5]),
    "INT64": ("int64_contents", [-(2**63), 5]),
    "UINT8": ("uint_contents", [255, 0]),
    "UINT16": ("uint_contents", [65535, 0]),
    "UINT32": ("uint_contents", [2**32 - 1, 0]),
    "UINT64": ("uint64_contents", [2**64 - 1, 0]),
    "FP32": ("fp32_contents", [0.5, -1]),
    "FP64": ("fp64_contents", [0.1, -1]),
    "BYTES": ("bytes_contents", [b"", b"a\0b"]),
}


@pytest.mark.parametrize("datatype", CONTENTS)
def test_grpc_explicit_contents_clients(stub, datatype):
    """grpc_explicit_int_content_client, _int8_, _byte_: typed contents; the answer is raw."""
    field, values = CONTENTS[datatype]
    request = service_pb2.ModelInferRequest(model_name=f"identity_{datatype.lower()}")
    tensor = request.inputs.add(name="X", datatype=datatype, shape=[1, len(values)])
    getattr(tensor.contents, field).extend(values)
    response = stub.ModelInfer(request, timeout=SOON)
    (output,) = response.outputs
    assert (output.datatype, list(output.shape)) == (datatype, [1, len(values)])
    assert not output.HasField("contents")
    result = grpcclient.InferResult(response)
    np.testing.assert_array_equal(result.as_numpy("Y"), [values])


def test_reuse_infer_objects_client(client):
    """reuse_infer_objects_client: shared memory and back again with the same objects."""
    import tritonclient.utils.shared_memory as shm

    inputs = [client.input("INPUT0", FIRST), client.input("INPUT1", SECOND)]
    outputs = [client.output("OUTPUT0"), client.output("OUTPUT1")]

    def check():
        result = client.call("infer", "simple", inputs, outputs=outputs)
        assert (result.as_numpy("OUTPUT0") == FIRST + SECOND).all()
        assert (result.as_numpy("OUTPUT1") == FIRST - SECOND).all()

    check()
    check()
    client.call("unregister_system_shared_memory")
    handle = shm.create_shared_memory_region("input_data", f"/yais-test-reuse-{client.kind}", 128)
    try:
        shm.set_shared_memory_region(handle, [FIRST, SECOND])
        client.call("register_system_shared_memory", "input_data", handle._shm_key, 128)
        inputs[0].set_shared_memory("input_data", 64)
        inputs[1].set_shared_memory("input_data", 64, offset=64)
        check()
        inputs[0].set_data_from_numpy(FIRST)
        inputs[1].set_data_from_numpy(SECOND)
        check()
        client.call("unregister_system_shared_memory")
    finally:
        shm.destroy_shared_memory_region(handle)


def test_memory_growth_and_ensembles(client):
    """ensemble clients and memory_growth_test: statistics count what has been answered."""

    def count():
        (row,) = client.call("get_inference_statistics", "whole")["model_stats"]
        return int(row["inference_stats"]["success"].get("count", 0))  # JSON of protobuf leaves 0 out

    before = count()
    for _ in range(5):
        result = client.infer("whole", {"A": FIRST.astype(np.float32)})
        assert (result.as_numpy("B") == FIRST).all()
    assert count() == before + 5


def test_the_json_of_a_config_is_read_back(client):
    """A configuration that has been got may be given to load."""
    config = client.call("get_model_config", "identity_int8")
    config = config if client.http else config["config"]
    config["max_batch_size"] = 16
    client.call("load_model", "identity_int8", config=json.dumps(config))
    after = client.call("get_model_config", "identity_int8")
    assert (after if client.http else after["config"])["max_batch_size"] == 16
    client.call("load_model", "identity_int8")
