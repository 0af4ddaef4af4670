"""Collects single calls into batches and sends each batch to one of several backends. See README.md."""

from __future__ import annotations

import argparse

from batcher import Batcher

import yais
from yais.rpc.client import Channels, ClientStreaming

SERVICE = "yais.examples.batching.Compute"


class Backends(yais.Resources):
    def __init__(self, addresses: list[str], max_batch: int, window: float) -> None:
        # Streams are balanced one by one: a batch lands on one backend, the next batch on another.
        self.channels = Channels(addresses, balancing="round_robin")
        batched: ClientStreaming[bytes, bytes] = ClientStreaming(
            self.channels, f"/{SERVICE}/BatchedCompute", max_unsent=max_batch
        )
        self.batcher = Batcher(batched, max_batch, window)


class Compute(yais.Context[bytes, bytes, Backends]):
    def execute(self, request: bytes) -> yais.Future[bytes]:
        return self.resources.batcher.submit(request, self.deadline)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=50049)
    parser.add_argument("--backends", nargs="+", default=["127.0.0.1:50051"], metavar="HOST:PORT")
    parser.add_argument("--max-batch", type=int, default=8)
    parser.add_argument("--window", type=float, default=0.002, help="seconds to wait for a full batch")
    parser.add_argument("--batches", type=int, default=32, help="full batches in flight at most")
    arguments = parser.parse_args()

    # Messages stay bytes: the front serves any service whose RPCs are shaped like these.
    service = yais.Service(SERVICE)
    contexts = arguments.max_batch * arguments.batches
    service.register("Compute", Compute, contexts=contexts, deserialize=bytes, serialize=bytes)
    backends = Backends(arguments.backends, arguments.max_batch, arguments.window)
    server = yais.Server(f"0.0.0.0:{arguments.port}", resources=backends)
    server.add(service)
    server.run(started=lambda: print(f"front listens on port {server.port}; Ctrl-C ends it", flush=True))


if __name__ == "__main__":
    main()
