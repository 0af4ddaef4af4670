"""Tokens, restricted protocols and TLS of a running server, as clients of gRPC see them."""

from __future__ import annotations

import queue
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from onnx_models import identity, write
from serving_models import SOON, infer_request, serving_models
from tritonclient.utils import InferenceServerException

from yais.protocol import kserve_pb2 as pb
from yais.rpc.tls import Tls
from yais.serving.access import AccessOptions, Restriction

sys.path.append(str(Path(__file__).parents[1] / "rpc"))  # an authority for certificates

from authority import Authority

SECRET = "s3cr3t-of-alice"

INFER = AccessOptions(grpc_restrictions=(Restriction(("inference", "shared-memory"), "Infer-Key", "v"),))
HEALTH = AccessOptions(grpc_restrictions=(Restriction(("health",), "h", "1"),))


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models")
    write(directory, "identity", identity("FP32"), "max_batch_size: 8")
    return directory


@pytest.fixture(scope="module")
def authority():
    return Authority()


def client(server, **options):
    return triton.InferenceServerClient(f"127.0.0.1:{server.port}", **options)


def infer(connected, **options):
    array = np.ones((1, 3), np.float32)
    tensor = triton.InferInput("X", [1, 3], "FP32")
    tensor.set_data_from_numpy(array)
    result = connected.infer("identity", [tensor], client_timeout=SOON, **options)
    np.testing.assert_array_equal(result.as_numpy("Y"), array)


def refused(call, *arguments, **options):
    with pytest.raises(InferenceServerException) as caught:
        call(*arguments, **options)
    return caught.value.status(), caught.value.message()


# Restricted protocols


def test_a_restricted_protocol_wants_its_header(repository):
    text = "This protocol is restricted, expecting header 'triton-grpc-protocol-Infer-Key'"
    with serving_models(repository, access=INFER) as server, client(server) as connected:
        assert refused(infer, connected) == ("StatusCode.UNAVAILABLE", text)
        wrong = {"triton-grpc-protocol-infer-key": "w"}
        assert refused(infer, connected, headers=wrong) == ("StatusCode.UNAVAILABLE", text)
        # Without the prefix it is another header.
        assert refused(infer, connected, headers={"infer-key": "v"}) == ("StatusCode.UNAVAILABLE", text)
        right = {"triton-grpc-protocol-infer-key": "v"}
        infer(connected, headers=right)
        assert connected.is_server_ready()
        assert connected.get_model_metadata("identity").name == "identity"
        assert refused(connected.unregister_system_shared_memory) == ("StatusCode.UNAVAILABLE", text)


def test_a_restricted_stream_ends_with_a_status(repository):
    with serving_models(repository, access=INFER) as server, client(server) as connected:
        errors = queue.Queue()
        connected.start_stream(lambda result, error: errors.put(error), stream_timeout=SOON)
        error = errors.get(timeout=SOON)
        assert error.status() == "StatusCode.UNAVAILABLE"
        assert error.message().startswith("This protocol is restricted, expecting header")


def test_restricted_health(repository):
    text = "This protocol is restricted, expecting header 'triton-grpc-protocol-h'"
    with (
        serving_models(repository, access=HEALTH) as server,
        client(server) as connected,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        header = {"triton-grpc-protocol-h": "1"}
        for ask in (connected.is_server_live, connected.is_server_ready):
            assert refused(ask) == ("StatusCode.UNAVAILABLE", text)
            assert ask(headers=header)
        assert refused(connected.is_model_ready, "identity") == ("StatusCode.UNAVAILABLE", text)
        check = health_pb2_grpc.HealthStub(channel).Check
        with pytest.raises(grpc.RpcError) as caught:
            check(health_pb2.HealthCheckRequest(), timeout=SOON)
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, text)
        reply = check(health_pb2.HealthCheckRequest(), timeout=SOON, metadata=list(header.items()))
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        infer(connected)


# Tokens


def test_tokens(repository, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text(f"alice {SECRET}\n")
    with (
        serving_models(repository, access=AccessOptions(tokens)) as server,
        client(server) as connected,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        status, message = refused(infer, connected)
        assert (status, message[:25]) == ("StatusCode.UNAUTHENTICATED", "got no authorization head")
        assert refused(infer, connected, headers={"authorization": "Bearer other"})[0] == status
        assert refused(connected.get_server_metadata)[0] == status
        assert refused(connected.is_model_ready, "identity")[0] == status
        infer(connected, headers={"authorization": f"Bearer {SECRET}"})
        assert connected.is_server_live()
        assert connected.is_server_ready()
        check = health_pb2_grpc.HealthStub(channel).Check
        reply = check(health_pb2.HealthCheckRequest(), timeout=SOON)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING


# TLS


def write_authority(directory, authority):
    file = directory / "ca.crt"
    file.write_bytes(authority.certificate)
    return file


def test_tls(repository, tmp_path, authority):
    tls = Tls(*authority.certify("server", "localhost").write(tmp_path))
    root = str(write_authority(tmp_path, authority))
    named = [("grpc.ssl_target_name_override", "localhost")]
    with serving_models(repository, tls=tls) as server:
        with client(server, ssl=True, root_certificates=root, channel_args=named) as connected:
            infer(connected)
        with client(server) as plain:
            assert refused(infer, plain)[0] == "StatusCode.UNAVAILABLE"


def test_mutual_tls(repository, tmp_path, authority):
    root = write_authority(tmp_path, authority)
    tls = Tls(*authority.certify("server", "localhost").write(tmp_path), client_ca=root)
    certificate, key = authority.certify("client").write(tmp_path, "client")
    named = [("grpc.ssl_target_name_override", "localhost")]
    with serving_models(repository, tls=tls) as server:
        files = {"private_key": str(key), "certificate_chain": str(certificate)}
        encrypted = {"ssl": True, "root_certificates": str(root), "channel_args": named}
        with client(server, **encrypted, **files) as connected:
            infer(connected)
        with client(server, **encrypted) as unknown:
            assert refused(infer, unknown)[0] == "StatusCode.UNAVAILABLE"


# Compression


@pytest.mark.parametrize(
    ("level", "start"), [("none", None), ("low", b"\x1f\x8b"), ("medium", b"\x78"), ("high", b"\x78")]
)
def test_compressed_answers(repository, level, start):
    request = infer_request("identity", {"X": np.zeros((1, 100_000), np.float32)})
    as_sent = [("grpc.per_message_decompression", 0)]
    with (
        serving_models(repository, compression=level) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}", options=as_sent) as channel,
    ):
        method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        answer = method(request.SerializeToString(), timeout=SOON)
    if start is None:
        assert pb.ModelInferResponse.FromString(answer).raw_output_contents[0] == bytes(400_000)
    else:
        assert answer.startswith(start)
        assert len(answer) < 10_000
