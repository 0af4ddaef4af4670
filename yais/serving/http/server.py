"""The HTTP server: an ASGI application on a thread of its own."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client.registry import CollectorRegistry

from yais.rpc.tls import Tls
from yais.serving.access import AccessOptions
from yais.serving.resources import ServingResources

__all__ = ["HttpOptions", "HttpServer"]


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How to serve HTTP.

    Attributes
    ----------
    address, port
        Where to listen; port 0 takes a free one.
    max_input_bytes
        Of a body, as it is once it is decompressed; 0 for no limit.
    max_requests
        Inference requests served at once; more wait.
    tls
        Certificates; None for none.
    header_forward_pattern
        Regular expression; request headers that match it become parameters of inference requests.
    """

    address: str = "0.0.0.0"
    port: int = 8000
    max_input_bytes: int = 1 << 30
    max_requests: int = 1024
    tls: Tls | None = None
    header_forward_pattern: str = ""


class HttpServer:
    """Serves the inference service over HTTP.

    Attributes
    ----------
    port
        Where it listens.

    Raises
    ------
    OSError
        The address cannot be bound.
    """

    port: int

    def __init__(
        self,
        resources: ServingResources,
        options: HttpOptions,
        access: AccessOptions,
        registry: CollectorRegistry,
    ) -> None:
        raise NotImplementedError

    def stop(self, grace: float) -> bool:
        """Refuse new requests, let those in flight end; return whether they did within `grace` seconds."""
        raise NotImplementedError
