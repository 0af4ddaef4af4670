"""What a load balancer is to do, whichever it is."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from yais.errors import InvalidArgument
from yais.lb.pool import GENERAL, Pool
from yais.lb.route import MODEL_HEADER, Route
from yais.lb.server_address import is_address

__all__ = ["MAX_REQUESTS", "Balancer"]

MAX_REQUESTS = 950
"""Requests in flight to one server at most.

A server has 1,024 contexts for inference (`ServerOptions.infer_contexts`); what comes on top waits in it,
unseen. 1,024 is also how many requests Envoy lets through to a cluster if nothing is said; it refuses the
next one. 950 is less than either, with room for metadata and streams, so that a refusal is a decision and
comes early. It is as many as TensorRT Laboratory's siege had outstanding, for the same reason.
"""

_HEADER = re.compile(r"[a-z0-9][a-z0-9_.\-]*")
_MOST_REQUESTS = 1_000_000  # so that those of all servers of a pool are a number that Envoy takes
_SERVICE = re.compile(r"[\w.\-/]{0,100}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Balancer:
    """A load balancer in front of pools of servers.

    Attributes
    ----------
    pools
        The servers; what no route names goes to the first pool, whose name is `GENERAL`.
    routes
        What goes to other pools: the first that fits, those of models before those of methods.
    address, port
        Where it listens for gRPC without TLS. Port 0 takes a free one (Envoy only).
    admin_address, admin_port
        Where it tells about itself.
    model_header
        The header that routes of models look at.
    max_requests
        Requests in flight to each server at most; see `MAX_REQUESTS`.
    connect_timeout
        Seconds to connect to a server.
    health_interval
        Seconds between looks at a server's health. One that drains is left out after about as long.
    health_timeout
        Seconds that an answer about health may take. A server with 950 requests of 1 ms in flight on a busy
        machine took up to 0.4; if all were left out because all are busy, there would be none.
    health_service
        Name to ask about; "" for the server as a whole.
    retries
        How often a request is tried again that no server has begun to handle.

    Raises
    ------
    InvalidArgument
        A value is not as above, pools share a name, or a route names a pool that is not there.
    """

    pools: tuple[Pool, ...]
    routes: tuple[Route, ...] = ()
    address: str = "0.0.0.0"
    port: int = 50050
    admin_address: str = "127.0.0.1"
    admin_port: int = 9901
    model_header: str = MODEL_HEADER
    max_requests: int = MAX_REQUESTS
    connect_timeout: float = 0.25
    health_interval: float = 1.0
    health_timeout: float = 1.0
    health_service: str = ""
    retries: int = 2

    def __post_init__(self) -> None:
        names = [pool.name for pool in self.pools]
        if names[:1] != [GENERAL] or len(set(names)) < len(names):
            raise InvalidArgument(f"got pools {names}, expected {GENERAL!r} first, and each name once")
        for route in self.routes:
            if route.pool not in names:
                raise InvalidArgument(f"got a route to pool {route.pool!r}, expected one of {names}")
        self._check_addresses()
        if not _HEADER.fullmatch(self.model_header):
            raise InvalidArgument(
                f"got model header {self.model_header!r}, expected a name in lower case like {MODEL_HEADER}"
            )
        if not _SERVICE.fullmatch(self.health_service):
            raise InvalidArgument(
                f"got health service {self.health_service!r}, expected up to 100 letters, digits, and . _ - /"
            )
        self._check_numbers()

    @property
    def ordered_routes(self) -> tuple[Route, ...]:
        """The routes as they are looked at: of models, then of methods."""
        return tuple(sorted(self.routes, key=lambda route: not route.model))

    def _check_addresses(self) -> None:
        for host in (self.address, self.admin_address):
            if not is_address(host):
                raise InvalidArgument(f"got address {host!r}, expected a numeric one such as 0.0.0.0")
        for port in (self.port, self.admin_port):
            if not 0 <= port < 65536:
                raise InvalidArgument(f"got port {port}, expected 0 to 65535")

    def _check_numbers(self) -> None:
        for name in ("connect_timeout", "health_interval", "health_timeout"):
            seconds = getattr(self, name)
            if not (math.isfinite(seconds) and 0.001 <= seconds <= 3600):
                raise InvalidArgument(f"got {name}={seconds!r}, expected seconds from 0.001 to 3600")
        if not 1 <= self.max_requests <= _MOST_REQUESTS:
            raise InvalidArgument(f"got max_requests={self.max_requests}, expected 1 to {_MOST_REQUESTS}")
        if not 0 <= self.retries <= 10:
            raise InvalidArgument(f"got retries={self.retries}, expected 0 to 10")
