"""gRPC's debugging services on our server: off unless asked for, and asked for by name."""

from __future__ import annotations

import sys

import grpc
import pytest
from echo_pb2 import EchoReply, EchoRequest
from echoing import SOON, Client, echo_service
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import yais
from yais.testing import serving

CHANNELZ = "grpc.channelz.v1.Channelz"
CSDS = "envoy.service.status.v3.ClientStatusDiscoveryService"


class Echo(yais.Context[EchoRequest, EchoReply, yais.Resources]):
    def execute(self, request):
        return EchoReply(text=request.text)


def listed(channel: grpc.Channel) -> set[str]:
    """Return the services that reflection lists."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    [answer] = stub.ServerReflectionInfo(iter([request]), timeout=SOON)
    return {service.name for service in answer.list_services_response.service}


def test_off_by_default():
    with serving(echo_service(Echo)) as served:
        assert not {CHANNELZ, CSDS} & listed(served.channel)
        for method in (f"/{CHANNELZ}/GetServers", f"/{CSDS}/FetchClientStatus"):
            with pytest.raises(grpc.RpcError) as caught:
                served.channel.unary_unary(method)(b"", timeout=SOON)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_channelz():
    pytest.importorskip("grpc_channelz.v1.channelz")
    from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc

    with serving(echo_service(Echo), channelz=True) as served:
        assert CHANNELZ in listed(served.channel)
        client = Client(served.channel, served.server)
        for _ in range(3):
            client.say("hello")
        stub = channelz_pb2_grpc.ChannelzStub(served.channel)
        [server] = stub.GetServers(channelz_pb2.GetServersRequest(), timeout=SOON).server
        assert server.data.calls_started >= 3
        request = channelz_pb2.GetServerSocketsRequest(server_id=server.ref.server_id)
        assert len(stub.GetServerSockets(request, timeout=SOON).socket_ref) == 1


def test_servers_without_channelz_are_not_listed():
    pytest.importorskip("grpc_channelz.v1.channelz")
    from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc

    with serving(echo_service(Echo)) as quiet, serving(echo_service(Echo), channelz=True) as served:
        Client(quiet.channel, quiet.server).say("hello")
        stub = channelz_pb2_grpc.ChannelzStub(served.channel)
        assert len(stub.GetServers(channelz_pb2.GetServersRequest(), timeout=SOON).server) == 1


def test_csds():
    pytest.importorskip("grpc_csds")
    from envoy.service.status.v3 import csds_pb2, csds_pb2_grpc

    with serving(echo_service(Echo), csds=True) as served:
        assert CSDS in listed(served.channel)
        stub = csds_pb2_grpc.ClientStatusDiscoveryServiceStub(served.channel)
        request = csds_pb2.ClientStatusRequest()
        assert stub.FetchClientStatus(request, timeout=SOON) == csds_pb2.ClientStatusResponse()
        [answer] = stub.StreamClientStatus(iter([request]), timeout=SOON)
        assert answer == csds_pb2.ClientStatusResponse()


@pytest.mark.parametrize(("option", "module"), [("channelz", "grpc_channelz"), ("csds", "grpc_csds")])
def test_a_missing_package_is_named(option, module, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{module}.* cannot be imported .*pip install 'yais\[admin\]'"):
        yais.Server("127.0.0.1:0", **{option: True})
