"""The RPCs without tensors over both protocols: the same messages, the same errors."""

from __future__ import annotations

import json
import threading

import pytest
from endpoint_calls import ask, call_of, connected, row, serving
from onnx_models import identity, write
from serving_models import SOON, serving_models

from yais.client.connection import Connection
from yais.client.endpoint import connect
from yais.client.http_connection import HttpReply
from yais.client.http_routes import route_of
from yais.errors import FailedPrecondition, Internal, InvalidArgument, NotFound, Unimplemented, YaisError
from yais.memory.shared_region import SharedRegion
from yais.protocol import kserve_pb2 as pb
from yais.repository.control import ControlMode
from yais.serving.http.options import HttpOptions


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("models")) as running:
        yield running


@pytest.fixture(params=["grpc", "http"])
def protocol(request):
    return request.param


@pytest.fixture
def endpoint(protocol, server):
    with connected(protocol, server) as endpoint:
        yield endpoint


@pytest.fixture
def both(server):
    with connected("grpc", server) as grpc, connected("http", server) as http:
        yield grpc, http


SAME = [
    ("ServerLive", {}),
    ("ServerReady", {}),
    ("ServerMetadata", {}),
    ("ModelReady", {"name": "simple"}),
    ("ModelReady", {"name": "simple", "version": "1"}),
    ("ModelReady", {"name": "simple", "version": "7"}),
    ("ModelReady", {"name": "nothing"}),
    ("ModelMetadata", {"name": "simple"}),
    ("ModelMetadata", {"name": "labelled", "version": "1"}),
    ("ModelConfig", {"name": "simple"}),
    ("ModelConfig", {"name": "counting", "version": "1"}),
    ("ModelStatistics", {"name": "simple"}),
    ("ModelStatistics", {"name": "simple", "version": "1"}),
    ("ModelStatistics", {}),
    ("RepositoryIndex", {}),
    ("RepositoryIndex", {"ready": True}),
    ("SystemSharedMemoryStatus", {}),
    ("SystemSharedMemoryUnregister", {"name": "nothing"}),
    ("SystemSharedMemoryUnregister", {}),
    ("CudaSharedMemoryStatus", {}),
    ("CudaSharedMemoryUnregister", {}),
]


@pytest.mark.parametrize(("rpc", "fields"), SAME)
def test_both_protocols_say_the_same(both, rpc, fields):
    request = getattr(pb, f"{rpc}Request")(**fields)
    over_grpc, over_http = (endpoint.call(rpc, request) for endpoint in both)
    assert type(over_grpc) is type(over_http) is getattr(pb, f"{rpc}Response")
    assert over_grpc == over_http


def test_what_they_say(endpoint, server):
    assert endpoint.call("ServerLive", pb.ServerLiveRequest()).live
    assert not endpoint.call("ModelReady", pb.ModelReadyRequest(name="nothing")).ready
    metadata = endpoint.call("ModelMetadata", pb.ModelMetadataRequest(name="simple"))
    assert {(tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in metadata.inputs} == {
        ("INPUT0", "INT32", (-1, 16)),
        ("INPUT1", "INT32", (-1, 16)),
    }
    with connected("grpc", server) as other:
        ask(other.transport(), call_of("gated", row(1.0))).answer()
    (told,) = endpoint.call("ModelStatistics", pb.ModelStatisticsRequest(name="gated")).model_stats
    assert told.inference_count >= 1
    assert told.inference_stats.success.ns > 0


@pytest.mark.parametrize(
    ("rpc", "fields"),
    [
        ("ModelMetadata", {"name": "nothing"}),
        ("ModelConfig", {"name": "simple", "version": "7"}),
        ("ModelStatistics", {"name": "nothing"}),
        ("SystemSharedMemoryStatus", {"name": "nothing"}),
    ],
)
def test_errors(both, rpc, fields):
    told = []
    for endpoint in both:
        with pytest.raises(YaisError) as caught:
            endpoint.call(rpc, getattr(pb, f"{rpc}Request")(**fields))
        told.append((type(caught.value), str(caught.value)))
    assert told[0] == told[1]
    assert told[0][0] in {NotFound, InvalidArgument}


def test_shared_memory(endpoint):
    with SharedRegion.create(128) as region:
        request = pb.SystemSharedMemoryRegisterRequest(name="r 1", key=region.name, offset=64, byte_size=32)
        endpoint.call("SystemSharedMemoryRegister", request)
        for name in ("", "r 1"):
            status = endpoint.call("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest(name=name))
            (told,) = status.regions.values()
            assert (told.name, told.offset, told.byte_size) == ("r 1", 64, 32)
        endpoint.call("SystemSharedMemoryUnregister", pb.SystemSharedMemoryUnregisterRequest(name="r 1"))
        status = endpoint.call("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest())
        assert not status.regions


def test_load_and_unload(protocol, tmp_path):
    write(tmp_path, "a model", identity("FP32"), "max_batch_size: 8")
    options = {"control": ControlMode.EXPLICIT, "http": HttpOptions("127.0.0.1", 0)}
    with (
        serving_models(tmp_path, **options) as server,
        connected(protocol, server) as endpoint,
    ):

        def ready(name):
            return endpoint.call("ModelReady", pb.ModelReadyRequest(name=name)).ready

        assert not ready("a model")
        endpoint.call("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="a model"))
        assert ready("a model")
        changed = pb.RepositoryModelLoadRequest(model_name="a model")
        changed.parameters["config"].string_param = '{"max_batch_size": 4}'
        changed.parameters["file:1/model.onnx"].bytes_param = identity("FP32").SerializeToString()
        endpoint.call("RepositoryModelLoad", changed)
        config = endpoint.call("ModelConfig", pb.ModelConfigRequest(name="a model")).config
        assert config.max_batch_size == 4
        unload = pb.RepositoryModelUnloadRequest(model_name="a model")
        unload.parameters["unload_dependents"].bool_param = True
        endpoint.call("RepositoryModelUnload", unload)
        assert not ready("a model")
        with pytest.raises(YaisError, match="nothing"):
            endpoint.call("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="nothing"))


def test_parameters_over_http():
    request = pb.RepositoryModelUnloadRequest(repository_name="r", model_name="m/n")
    request.parameters["unload_dependents"].bool_param = True
    request.parameters["count"].int64_param = 3
    request.parameters["file:x"].bytes_param = b"\0x"
    method, path, body = route_of("RepositoryModelUnload").request(request)
    assert (method, path) == ("POST", "/v2/repository/r/models/m%2Fn/unload")
    assert json.loads(body) == {"parameters": {"unload_dependents": True, "count": 3, "file:x": "AHg="}}


def test_what_http_has_not(server):
    with connected("http", server) as endpoint:  # noqa: SIM117
        with pytest.raises(Unimplemented, match="got RPC 'ModelInfer', expected over HTTP one of ServerLive"):
            endpoint.call("ModelInfer", pb.ModelInferRequest())


def test_a_call_in_a_callback_would_wait_for_itself_over_http_only(protocol, endpoint):
    transport = endpoint.transport()
    told, ended = [], threading.Event()

    def done(*_outcome):
        try:
            told.append(endpoint.call("ServerLive", pb.ServerLiveRequest()).live)
        except FailedPrecondition as error:
            told.append(error)
        ended.set()

    transport.send(transport.encode(call_of("gated", row(1.0))), done)
    assert ended.wait(SOON)
    if protocol == "grpc":
        assert told == [True]
    else:
        assert "callback must not wait" in str(told[0])


@pytest.mark.parametrize(
    "address", ["", "localhost", "localhost:", ":8000", "localhost:0", "localhost:99999", "a b:80", "::1:80"]
)
def test_addresses_that_are_none_over_http(address):
    with pytest.raises(InvalidArgument, match=r"expected 'host:port' for HTTP"):
        connect(Connection(address), "http")


def test_an_ipv6_address(tmp_path):
    options = {"http": HttpOptions("::1", 0), "grpc_address": "::1"}
    with serving_models(**options) as server:
        for protocol, port in (("grpc", server.port), ("http", server.http_port)):
            with connect(Connection(f"[::1]:{port}"), protocol) as endpoint:
                assert endpoint.call("ServerLive", pb.ServerLiveRequest()).live


@pytest.mark.parametrize("body", [b"{", b"{}", b"[1]", b'[{"name": 5}]', b"\xff"])
def test_answers_that_are_none_over_http(body):
    with pytest.raises(Internal, match="got an answer that is no RepositoryIndexResponse"):
        route_of("RepositoryIndex").response(pb.RepositoryIndexResponse(), HttpReply(200, {}, body))


def test_fields_that_later_servers_have_over_http():
    reply = HttpReply(200, {}, b'[{"name": "m", "new": {"a": 1}}]')
    index = route_of("RepositoryIndex").response(pb.RepositoryIndexResponse(), reply)
    assert [model.name for model in index.models] == ["m"]
