"""A service of several processes: this is one of them. Argument: the port that they share."""

from __future__ import annotations

import os
import sys

from prometheus_client import Counter
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

import yais
from yais.rpc.transport import Transport
from yais.telemetry.metrics import MetricsServer, registry_of

ORDERS = Counter("shop_orders", "Orders taken.")


class Order(yais.Context[bytes, bytes, yais.Resources]):
    """Takes an order; answers with the process that took it."""

    def execute(self, request: bytes) -> bytes:
        """Answer the request."""
        ORDERS.inc()
        return str(os.getpid()).encode()


def main() -> None:
    """Serve until SIGTERM; say where the metrics are."""
    service = yais.Service("shop.Orders")
    service.register("Order", Order, contexts=4, deserialize=bytes, serialize=bytes)
    calls = yais.Metrics()
    transport = Transport(reuse_port=True)
    server = yais.Server(f"127.0.0.1:{sys.argv[1]}", interceptors=[calls], transport=transport)
    server.add(service)
    registry = registry_of([calls])
    MultiProcessCollector(registry)
    metrics = MetricsServer(registry, address="127.0.0.1", port=0)
    server.start()
    server.run(started=lambda: print(server.port, metrics.port, flush=True))
    metrics.close()
    mark_process_dead(os.getpid())


if __name__ == "__main__":
    main()
