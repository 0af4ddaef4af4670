"""Stands in front of a service, and changes its requests on the way. See README.md."""

from __future__ import annotations

import argparse

from forward import Forward, Target
from middleman_pb2 import InferRequest

import yais

SERVICE = "yais.examples.middleman.Inference"


class Infer(Forward):
    rpc = "Infer"

    def preprocess(self, request: bytes) -> bytes:
        message = InferRequest.FromString(request)
        message.text = message.text.casefold()
        return message.SerializeToString()


class Status(Forward):
    rpc = "Status"


def make_server(address: str, target: str) -> yais.Server:
    service = yais.Service(SERVICE)
    service.register("Infer", Infer, contexts=300, deserialize=bytes, serialize=bytes)
    # On a thread of its own, so that whoever asks for it need not wait until 300 texts are prepared.
    service.register("Status", Status, contexts=10, executor="status", deserialize=bytes, serialize=bytes)
    server = yais.Server(address, resources=Target(target, SERVICE, "Infer", "Status"))
    server.add_executor("status")
    server.add(service)
    return server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=50049)
    parser.add_argument("--target", default="localhost:50051")
    arguments = parser.parse_args()

    server = make_server(f"0.0.0.0:{arguments.port}", arguments.target)
    server.run(started=lambda: print(f"middleman listens on port {server.port}; Ctrl-C ends it", flush=True))


if __name__ == "__main__":
    main()
