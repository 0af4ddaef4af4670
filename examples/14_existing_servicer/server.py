"""A grpcio servicer and a context in one server. See README.md."""

from __future__ import annotations

import argparse

import yais  # isort: skip - before what imports grpc

from greeter import Greeter
from greeter_pb2 import DESCRIPTOR, GoodbyeReply, GoodbyeRequest
from greeter_pb2_grpc import add_GreeterServicer_to_server


class SayGoodbye(yais.Context[GoodbyeRequest, GoodbyeReply, yais.Resources]):
    def execute(self, request: GoodbyeRequest) -> GoodbyeReply:
        return GoodbyeReply(text=f"Goodbye, {request.name}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=50051)
    address = f"0.0.0.0:{parser.parse_args().port}"

    farewell = yais.Service(DESCRIPTOR.services_by_name["Farewell"])
    farewell.register("SayGoodbye", SayGoodbye)
    server = yais.Server(address)
    server.add(farewell)
    server.add_servicer(add_GreeterServicer_to_server, Greeter())  # unchanged
    server.run(started=lambda: print(f"greeter listens on port {server.port}; Ctrl-C ends it", flush=True))


if __name__ == "__main__":
    main()
