"""Metrics over HTTP, by prometheus-client's own server."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.registry import Collector

__all__ = ["MetricsServer"]


class MetricsServer:
    """Answers Prometheus at `http://address:port/metrics`.

    Parameters
    ----------
    collectors
        What to ask for metrics, each time anew.

    Raises
    ------
    OSError
        The address cannot be bound.

    Attributes
    ----------
    port
        Where it listens: the one given, or a free one for 0.
    """

    def __init__(self, collectors: list[Collector], *, address: str, port: int) -> None:
        registry = CollectorRegistry()
        for collector in collectors:
            registry.register(collector)
        try:
            self._server, self._thread = start_http_server(port, addr=address, registry=registry)
        except OSError as error:
            raise OSError(f"cannot offer metrics on {address}:{port}: {error.strerror}") from None
        self.port = int(self._server.server_port)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5.0)
