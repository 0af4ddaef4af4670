"""A server that only this machine can reach: on a unix socket."""

from __future__ import annotations

import grpc
import pytest

from yais.protocol import kserve_pb2 as pb
from yais.serving.http.options import HttpOptions
from yais.serving.options import ServerOptions
from yais.serving.server import InferenceServer

SOON = 20.0
STATUS = "/inference.GRPCInferenceService/SystemSharedMemoryRegister"


def registered(address: str) -> grpc.StatusCode:
    """Return the status of registering a region that is not there."""
    with grpc.insecure_channel(address) as channel:
        register = channel.unary_unary(STATUS)
        request = pb.SystemSharedMemoryRegisterRequest(name="r", key="/yais_not_there", byte_size=4)
        with pytest.raises(grpc.RpcError) as caught:
            register(request.SerializeToString(), timeout=SOON, wait_for_ready=True)
        return caught.value.code()


def options(tmp_path, address: str, http: str | None = None) -> ServerOptions:
    (tmp_path / "models").mkdir()
    return ServerOptions(
        (tmp_path / "models",),
        grpc_address=address,
        grpc_port=0,
        metrics_port=None,
        http=None if http is None else HttpOptions(http, 0),
    )


def test_clients_on_a_unix_socket_may_share_memory(tmp_path):
    address = f"unix:{tmp_path}/grpc"
    with InferenceServer(options(tmp_path, address)) as server:
        assert server.address == address
        assert registered(address) is grpc.StatusCode.INTERNAL  # allowed, and not there


@pytest.mark.parametrize("http", [None, "127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_clients_may_share_memory_where_every_address_is_local(tmp_path, host, http):
    with InferenceServer(options(tmp_path, host, http)) as server:
        local = "0.0.0.0" not in {host, http}
        expected = grpc.StatusCode.INTERNAL if local else grpc.StatusCode.UNIMPLEMENTED
        assert registered(f"127.0.0.1:{server.port}") is expected
        assert server.address == f"{host}:{server.port}"
