"""An inference service with messages of its own. See README.md."""

from __future__ import annotations

import argparse
from pathlib import Path

from contexts import Compute, Status
from inference_service_pb2 import DESCRIPTOR
from resources import DIGITS, InferenceResources

import yais
from yais.telemetry.metrics import MetricsServer


def make_server(
    address: str, resources: InferenceResources, calls: yais.Metrics, *, grace: float = 30.0
) -> yais.Server:
    service = yais.Service(DESCRIPTOR.services_by_name["Inference"])
    service.register("Compute", Compute, contexts=100)
    # On a thread of its own, and so answered while the other is busy.
    service.register("Status", Status, contexts=10, executor="status")
    server = yais.Server(
        address, resources=resources, interceptors=[calls], max_message_bytes=10 << 20, grace=grace
    )
    server.add_executor("status")
    server.add(service)
    return server


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=DIGITS / "1/model.onnx")
    parser.add_argument("--contexts", type=int, default=1, help="executions at once")
    parser.add_argument("--buffers", type=int, default=0, help="requests in memory; 0: contexts + 2")
    parser.add_argument("--window", type=int, default=0, help="us that a request waits for others")
    parser.add_argument("--grace", type=float, default=30.0, help="seconds for calls in flight at the end")
    parser.add_argument("--port", type=int, default=50051)
    parser.add_argument("--metrics", type=int, default=50078, help="port for Prometheus")
    arguments = parser.parse_args()

    resources = InferenceResources(
        arguments.model,
        contexts=arguments.contexts,
        buffers=arguments.buffers or arguments.contexts + 2,
        window=arguments.window,
    )
    calls = yais.Metrics()
    server = make_server(f"0.0.0.0:{arguments.port}", resources, calls, grace=arguments.grace)
    metrics = MetricsServer([calls, resources.collector], address="0.0.0.0", port=arguments.metrics)
    server.run(
        started=lambda: print(
            f"inference listens on port {server.port}, metrics on {metrics.port}; Ctrl-C ends it", flush=True
        )
    )
    metrics.close()


if __name__ == "__main__":
    main()
