"""Metrics over HTTP, for Prometheus."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.registry import Collector

from yais.telemetry.openmetrics import metrics_page

__all__ = ["MetricsServer", "registry_of"]


def registry_of(collectors: Iterable[Collector]) -> CollectorRegistry:
    """Return a registry of collectors, each of which is asked anew every time. Thread-safe if they are."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return registry


class MetricsServer:
    """Answers Prometheus at `http://address:port/metrics`; see `metrics_page` for how.

    Parameters
    ----------
    collectors
        What to ask for metrics, each time anew; or a registry of them.

    Raises
    ------
    OSError
        The address cannot be bound.

    Attributes
    ----------
    port
        Where it listens: the one given, or a free one for 0.
    """

    def __init__(
        self, collectors: Iterable[Collector] | CollectorRegistry, *, address: str, port: int
    ) -> None:
        registry = collectors if isinstance(collectors, CollectorRegistry) else registry_of(collectors)
        try:
            self._server, self._thread = start_http_server(port, addr=address, registry=registry)
        except OSError as error:
            raise OSError(f"cannot offer metrics on {address}:{port}: {error.strerror}") from None
        self._server.set_app(partial(_answer, registry))  # in the place of prometheus-client's
        self.port = int(self._server.server_port)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5.0)


def _answer(
    registry: CollectorRegistry,
    request: Mapping[str, str],
    start: Callable[[str, list[tuple[str, str]]], object],
) -> list[bytes]:
    """Answer a request; a WSGI application."""
    if request["REQUEST_METHOD"] != "GET":
        start("405 Method Not Allowed", [("Allow", "GET")])
        return []
    text, kind = metrics_page(registry, request.get("HTTP_ACCEPT", ""))
    body = text.encode()
    headers = [("Content-Type", kind)]
    if "gzip" in request.get("HTTP_ACCEPT_ENCODING", ""):
        body = gzip.compress(body, compresslevel=1)
        headers.append(("Content-Encoding", "gzip"))
    start("200 OK", headers)
    return [body]
