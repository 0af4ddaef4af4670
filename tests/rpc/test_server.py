"""Making servers and services: addresses, arguments, status lines."""

from __future__ import annotations

import grpc
import pytest
from echo_pb2 import DESCRIPTOR, EchoReply, EchoRequest
from echoing import SOON, Client, Held, echo_service, echoing
from grpc_reflection.v1alpha import reflection_pb2

import yais

ECHO = DESCRIPTOR.services_by_name["Echo"]


class Echo(yais.Context[EchoRequest, EchoReply, yais.Resources]):
    def execute(self, request):
        return EchoReply(text=request.text)


def test_several_addresses(tmp_path):
    socket = f"unix:{tmp_path}/echo.sock"
    server = yais.Server("127.0.0.1:0", socket, "localhost:0")
    server.add(echo_service(Echo, contexts=1))
    with server:
        assert len(server.ports) == 3
        assert server.port == server.ports[0]
        for target in (f"127.0.0.1:{server.ports[0]}", socket, f"localhost:{server.ports[2]}"):
            with grpc.insecure_channel(target) as channel:
                assert Client(channel, server).say(target) == target


def test_the_peer_on_a_unix_socket(tmp_path):
    class Peer(yais.Context[EchoRequest, EchoReply, yais.Resources]):
        def execute(self, request):
            return EchoReply(text=self.peer)

    address = f"unix:{tmp_path}/echo.sock"
    server = yais.Server(address)
    server.add(echo_service(Peer))
    with server, grpc.insecure_channel(address) as channel:
        assert Client(channel, server).say("").startswith("unix:")


def test_several_services():
    other = yais.Service(reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"])
    server = yais.Server("127.0.0.1:0", reflection=False)
    server.add(echo_service(Echo))
    server.add(other)
    with server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        assert Client(channel, server).say("x") == "x"


@pytest.mark.parametrize("address", ["no port", "127.0.0.1:notanumber", "no.such.host.invalid:0", ""])
def test_an_address_that_is_none(address):
    server = yais.Server(address)
    with pytest.raises(OSError, match=f"cannot listen on '{address}': is the address in use?"):
        server.start()


def test_two_servers_cannot_share_a_port():
    with echoing(Echo) as client:
        second = yais.Server(f"127.0.0.1:{client.server.port}")
        with pytest.raises(OSError, match="cannot listen on"):
            second.start()
        assert client.say("still here") == "still here"


def test_options_are_passed_to_grpc():
    with echoing(Echo, options=[("grpc.max_receive_message_length", 10)]) as client:
        assert client.status("x" * 20)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


# Status lines


def test_the_status_line_of_a_server():
    held = Held.fresh()
    server = yais.Server("127.0.0.1:0", threads=2)
    server.add(echo_service(held, contexts=3))
    assert repr(server) == "<Server not started on -: 0 of 0 contexts busy>"
    assert server.ports == []
    with server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = Client(channel, server).begin("hold")
        held.started.wait("hold")
        assert repr(server) == f"<Server running on {server.port}: 1 of 6 contexts busy>"
        held.finish("hold")
        assert call.result(SOON).text == "hold"
    assert repr(server) == f"<Server stopped on {server.port}: 0 of 6 contexts busy>"


def test_the_status_line_of_a_service():
    service = yais.Service(ECHO)
    assert repr(service) == "<Service yais.examples.echo.Echo: nothing registered>"
    service.register("Say", Echo)
    assert repr(service) == "<Service yais.examples.echo.Echo: Say>"
    assert service.name == "yais.examples.echo.Echo"


def test_the_status_line_of_health():
    with echoing(Echo) as client:
        assert repr(client.server.health) == "<Health serving>"


# Arguments


def test_no_address():
    with pytest.raises(ValueError, match=r"got no address, expected at least one such as '0\.0\.0\.0:50051'"):
        yais.Server()


@pytest.mark.parametrize("threads", [0, -1])
def test_too_few_threads(threads):
    with pytest.raises(ValueError, match=f"got threads={threads}, expected at least 1"):
        yais.Server("127.0.0.1:0", threads=threads)


def test_a_service_added_twice():
    server = yais.Server("127.0.0.1:0")
    server.add(yais.Service(ECHO))
    with pytest.raises(ValueError, match=r"service yais\.examples\.echo\.Echo is added already"):
        server.add(yais.Service(ECHO))


def test_adding_to_a_running_server():
    with echoing(Echo) as client:
        with pytest.raises(RuntimeError, match="started already"):
            client.server.add(yais.Service(ECHO))
        with pytest.raises(RuntimeError, match="started already"):
            client.server.add_servicer(lambda servicer, server: None, None)


def test_registering_what_is_not_in_the_service():
    with pytest.raises(ValueError, match=r"got rpc 'Shout', expected one of yais\.examples\.echo\.Echo: Say"):
        yais.Service(ECHO).register("Shout", Echo)


def test_registering_twice():
    service = echo_service(Echo)
    with pytest.raises(ValueError, match=r"yais\.examples\.echo\.Echo\.Say is registered already"):
        service.register("Say", Echo)


@pytest.mark.parametrize(
    "context", [Echo(), object, "Echo", None], ids=["instance", "object", "name", "None"]
)
def test_registering_what_is_no_context(context):
    with pytest.raises(TypeError, match="expected a subclass of Context, ServerStreamingContext"):
        yais.Service(ECHO).register("Say", context)


def test_registering_a_unary_context_for_a_streaming_rpc():
    service = yais.Service(reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"])
    with pytest.raises(
        ValueError, match=r"got Echo, a Context, .* expected a .*StreamingContext .* for a stream of requests"
    ):
        service.register("ServerReflectionInfo", Echo)


@pytest.mark.parametrize("contexts", [0, -5])
def test_registering_too_few_contexts(contexts):
    with pytest.raises(ValueError, match=f"got contexts={contexts}, expected at least 1"):
        echo_service(Echo, contexts=contexts)


def test_a_registration_that_failed_leaves_nothing_behind():
    service = yais.Service(ECHO)
    with pytest.raises(ValueError, match="contexts=0"):
        service.register("Say", Echo, contexts=0)
    service.register("Say", Echo)
    assert list(service.methods) == ["Say"]


def test_there_is_no_port_before_the_start():
    with pytest.raises(RuntimeError, match="the server has no port before it is started"):
        _ = yais.Server("127.0.0.1:0").port
