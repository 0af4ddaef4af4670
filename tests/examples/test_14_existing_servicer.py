"""The example of a mounted servicer: the same object under grpcio's server and under yais."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from programs import client, lines, module, server

greeter = module("14_existing_servicer", "greeter")
pb = module("14_existing_servicer", "greeter_pb2")
generated = module("14_existing_servicer", "greeter_pb2_grpc")


def test_the_client_is_greeted_by_the_servicer_and_taken_leave_of_by_the_context():
    with server("14_existing_servicer/server.py") as port:
        assert lines("14_existing_servicer/client.py", "--port", port, "--name", "Ada") == [
            "Hello, Ada!",
            "Hello, Ada! (1)",
            "Hello, Ada! (2)",
            "Hello, Ada! (3)",
            "Goodbye, Ada.",
        ]
        nameless = client("14_existing_servicer/client.py", "--port", port, "--name", "")
        assert (nameless.returncode, nameless.stderr) == (1, "INVALID_ARGUMENT: got no name\n")


def answers(port: int) -> list[object]:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = generated.GreeterStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.SayHello(pb.HelloRequest(), timeout=20.0)
        often = stub.SayHelloOften(pb.HelloRequest(name="Ada", times=5), timeout=20.0)
        return [
            stub.SayHello(pb.HelloRequest(name="Ada"), timeout=20.0).text,
            [reply.text for reply in often],
            refused.value.code(),
            refused.value.details(),
        ]


def test_grpcios_own_server_answers_the_same_with_that_servicer():
    plain = grpc.server(ThreadPoolExecutor(2))
    generated.add_GreeterServicer_to_server(greeter.Greeter(), plain)
    plain_port = plain.add_insecure_port("127.0.0.1:0")
    plain.start()
    try:
        with server("14_existing_servicer/server.py") as port:
            assert answers(port) == answers(plain_port)
    finally:
        plain.stop(None).wait(10.0)
