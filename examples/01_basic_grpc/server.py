"""The smallest yais service: `python examples/01_basic_grpc/server.py [--port 50051]`."""

import argparse

from echo_pb2 import DESCRIPTOR, EchoReply, EchoRequest

import yais


class Echo(yais.Context[EchoRequest, EchoReply, yais.Resources]):
    def execute(self, request: EchoRequest) -> EchoReply:
        return EchoReply(text=request.text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=50051)
    address = f"0.0.0.0:{parser.parse_args().port}"

    service = yais.Service(DESCRIPTOR.services_by_name["Echo"])
    service.register("Say", Echo, contexts=100)  # at most 100 in flight: the count is the policy
    server = yais.Server(address)
    server.add(service)
    server.run(started=lambda: print(f"echo listens on port {server.port}; Ctrl-C ends it", flush=True))


if __name__ == "__main__":
    main()
