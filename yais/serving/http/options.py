"""How to serve HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from yais.rpc.tls import Tls

__all__ = ["HttpOptions"]


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
    reuse_port
        Whether other processes may listen on the same port, if they say so too: connections are spread over
        them.
    """

    address: str = "0.0.0.0"
    port: int = 8000
    max_input_bytes: int = 1 << 30
    max_requests: int = 1024
    tls: Tls | None = None
    header_forward_pattern: str = ""
    reuse_port: bool = False
