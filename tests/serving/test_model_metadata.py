"""What the server and its models say of themselves."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from onnx_models import identity, write
from serving_models import SOON, Wire, serving_models

import yais
from yais.protocol import kserve_pb2 as pb
from yais.protocol.model_config_pb2 import ModelConfig

NOT_FOUND = grpc.StatusCode.NOT_FOUND
INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE

NO_NUMBER = "version should be an integral value > 0"

# What every lookup says of what is not there.
LOOKUPS = [
    ("none", "", NOT_FOUND, "Request for unknown model: 'none' is not found"),
    ("none", "3", NOT_FOUND, "Request for unknown model: 'none' is not found"),
    ("", "", NOT_FOUND, "Request for unknown model: '' is not found"),
    ("simple", "2", NOT_FOUND, "Request for unknown model: 'simple' version 2 is not found"),
    (
        "simple",
        "9" * 30,
        NOT_FOUND,
        f"Request for unknown model: 'simple' version {'9' * 30} is not found",
    ),
    (
        "simple",
        "new",
        INVALID_ARGUMENT,
        f"failed to get model version from specified version string 'new' (details: stol), {NO_NUMBER}",
    ),
    (
        "simple",
        "1.0",
        INVALID_ARGUMENT,
        f"failed to get model version from specified version string '1.0' (details: stol), {NO_NUMBER}",
    ),
    ("simple", "-1", INVALID_ARGUMENT, f"invalid model version specified '-1' , {NO_NUMBER}"),
    ("simple", "0", INVALID_ARGUMENT, f"invalid model version specified '0' , {NO_NUMBER}"),
]


def test_server_live_and_ready(client):
    assert client.is_server_live(client_timeout=10) is True
    assert client.is_server_ready(client_timeout=10) is True


def test_server_metadata(client):
    metadata = client.get_server_metadata(client_timeout=10)
    assert (metadata.name, metadata.version) == ("triton", yais.__version__)
    assert list(metadata.extensions) == [
        "classification",
        "sequence",
        "model_repository",
        "model_repository(unload_dependents)",
        "schedule_policy",
        "model_configuration",
        "system_shared_memory",
        "cuda_shared_memory",
        "binary_tensor_data",
        "parameters",
        "statistics",
        "trace",
        "logging",
    ]


@pytest.mark.parametrize(
    ("model", "version", "ready"),
    [
        ("simple", "", True),
        ("simple", "1", True),
        ("simple", "2", False),
        ("none", "", False),
        ("none", "1", False),
    ],
)
def test_model_ready_is_no_error_for_what_is_not_there(client, model, version, ready):
    assert client.is_model_ready(model, version, client_timeout=10) is ready


def test_model_ready_wants_a_number(wire):
    code, text = wire.refusal(pb.ModelReadyRequest(name="simple", version="x"), "ModelReady")
    assert (code, text.endswith(NO_NUMBER)) == (INVALID_ARGUMENT, True)


def test_metadata_of_a_batching_model(client):
    metadata = client.get_model_metadata("simple", client_timeout=10)
    tensor = pb.ModelMetadataResponse.TensorMetadata
    expected = pb.ModelMetadataResponse(
        name="simple",
        versions=["1"],
        platform="onnxruntime_onnx",
        inputs=[tensor(name=name, datatype="INT32", shape=[-1, 16]) for name in ("INPUT0", "INPUT1")],
        outputs=[tensor(name=name, datatype="INT32", shape=[-1, 16]) for name in ("OUTPUT0", "OUTPUT1")],
    )
    assert metadata.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    ("model", "shape", "datatype"),
    [
        ("digits", [-1, 1, 8, 8], "FP32"),
        ("fixed", [2, 3], "INT32"),
        ("scores", [-1, -1], "FP32"),
        ("counter", [1], "INT64"),
        ("identity_bytes", [-1, -1], "BYTES"),
        ("identity_bf16", [-1, -1], "BF16"),
    ],
)
def test_metadata_shapes(client, model, shape, datatype):
    (tensor,) = client.get_model_metadata(model, "1", client_timeout=10).inputs
    assert (list(tensor.shape), tensor.datatype) == (shape, datatype)


def test_config_in_force_of_a_configured_model(client):
    config = client.get_model_config("digits", client_timeout=10).config
    expected = text_format.Parse(
        """
        name: "digits" platform: "onnxruntime_onnx" backend: "onnxruntime" max_batch_size: 32
        version_policy { latest { num_versions: 1 } }
        input { name: "image" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 1, 8, 8 ] }
        output { name: "probabilities" data_type: TYPE_FP32 dims: 10 label_filename: "labels.txt" }
        instance_group { name: "digits" count: 2 kind: KIND_CPU }
        default_model_filename: "model.onnx"
        dynamic_batching { preferred_batch_size: 32 }
        optimization { input_pinned_memory { enable: true } output_pinned_memory { enable: true } }
        """,
        ModelConfig(),
    )
    assert config.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


def test_config_in_force_of_a_model_without_configuration(client):
    config = client.get_model_config("fixed", client_timeout=10).config
    expected = text_format.Parse(
        """
        name: "fixed" platform: "onnxruntime_onnx" backend: "onnxruntime"
        version_policy { latest { num_versions: 1 } }
        input { name: "X" data_type: TYPE_INT32 dims: [ 2, 3 ] }
        output { name: "Y" data_type: TYPE_INT32 dims: [ 2, 3 ] }
        instance_group { name: "fixed" count: 2 kind: KIND_CPU }
        default_model_filename: "model.onnx"
        optimization { input_pinned_memory { enable: true } output_pinned_memory { enable: true } }
        """,
        ModelConfig(),
    )
    assert config.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


@pytest.mark.parametrize("rpc", ["ModelMetadata", "ModelConfig"])
@pytest.mark.parametrize(("model", "version", "code", "text"), LOOKUPS)
def test_lookups_of_what_is_not_there(wire, rpc, model, version, code, text):
    request = getattr(pb, f"{rpc}Request")(name=model, version=version)
    assert wire.refusal(request, rpc) == (code, text)


@pytest.mark.parametrize(("model", "version", "code", "text"), LOOKUPS)
def test_inference_by_what_is_not_there(wire, model, version, code, text):
    request = pb.ModelInferRequest(model_name=model, model_version=version)
    assert wire.refusal(request) == (code, text)


@pytest.mark.parametrize(
    "rpc", ["ServerLive", "ModelMetadata", "ModelConfig", "ModelStatistics", "ModelReady"]
)
def test_a_body_that_is_no_protobuf(wire, rpc):
    code, text = wire.refusal(b"\xff\xff\xff", rpc)
    assert code is grpc.StatusCode.INTERNAL
    assert "cannot decode the request" in text


@pytest.fixture(scope="module")
def partly_broken(tmp_path_factory):
    repository = tmp_path_factory.mktemp("partly_broken")
    write(repository, "good", identity("FP32"))
    write(repository, "corrupt", b"no model at all", version="3")
    write(repository, "empty", None)
    return repository


@pytest.mark.parametrize("strict", [True, False])
def test_readiness_with_a_broken_model(partly_broken, strict):
    options = {"strict_readiness": strict, "name": "other"}
    with serving_models(partly_broken, **options) as server, Wire(server.port) as wire:
        assert wire.call("ServerLive").live is True
        assert wire.call("ServerReady").ready is not strict
        assert wire.call("ServerMetadata").name == "other"
        request = health_pb2.HealthCheckRequest()
        status = health_pb2_grpc.HealthStub(wire.channel).Check(request, timeout=SOON).status
        assert status == (2 if strict else 1)  # NOT_SERVING, SERVING
        for name in ("good", "corrupt", "empty"):
            ready = wire.call("ModelReady", pb.ModelReadyRequest(name=name)).ready
            assert ready is (name == "good")


@pytest.mark.parametrize(
    ("model", "version", "code", "text"),
    [
        ("corrupt", "", NOT_FOUND, "Request for unknown model: 'corrupt' has no available versions"),
        ("corrupt", "3", UNAVAILABLE, "Request for unknown model: 'corrupt' version 3 is not at ready state"),
        ("corrupt", "1", NOT_FOUND, "Request for unknown model: 'corrupt' version 1 is not found"),
        ("empty", "", NOT_FOUND, "Request for unknown model: 'empty' has no available versions"),
        ("empty", "1", NOT_FOUND, "Request for unknown model: 'empty' version 1 is not found"),
    ],
)
def test_lookups_of_broken_models(broken_wire, model, version, code, text):
    request = pb.ModelInferRequest(model_name=model, model_version=version)
    assert broken_wire.refusal(request) == (code, text)
    metadata = pb.ModelMetadataRequest(name=model, version=version)
    assert broken_wire.refusal(metadata, "ModelMetadata") == (code, text)


@pytest.fixture(scope="module")
def broken_wire(partly_broken):
    with serving_models(partly_broken) as server, Wire(server.port) as wire:
        yield wire
