"""Computes square roots, a batch at a time: `python examples/03_batching/backend.py [--port 50051]`."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence

import numpy as np
from batching_pb2 import DESCRIPTOR, ComputeReply, ComputeRequest

import yais


class Backend(yais.Resources):
    def __init__(self, name: str) -> None:
        self.name = name
        self.batches = itertools.count()
        self.worker = yais.ThreadPool(1, name="compute")


class BatchedCompute(yais.BatchingContext[ComputeRequest, ComputeReply, Backend]):
    def execute(self, requests: list[ComputeRequest]) -> yais.Future[Sequence[ComputeReply]]:
        return self.resources.worker.submit(self._compute, requests)

    def _compute(self, requests: list[ComputeRequest]) -> Sequence[ComputeReply]:
        values = np.array([request.value for request in requests])
        if values.min() < 0.0:
            raise yais.InvalidArgument(f"got {values.min()}, expected at least 0")
        backend, batch = self.resources.name, next(self.resources.batches)
        return [
            ComputeReply(root=root, batch_size=len(requests), backend=backend, batch=batch)
            for root in np.sqrt(values)
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=50051)
    parser.add_argument("--name", default="backend", help="told with every answer")
    arguments = parser.parse_args()

    service = yais.Service(DESCRIPTOR.services_by_name["Compute"])
    service.register("BatchedCompute", BatchedCompute, contexts=32)
    server = yais.Server(f"0.0.0.0:{arguments.port}", resources=Backend(arguments.name))
    server.add(service)
    server.run(
        started=lambda: print(f"{arguments.name} listens on port {server.port}; Ctrl-C ends it", flush=True)
    )


if __name__ == "__main__":
    main()
