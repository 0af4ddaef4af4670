"""What gRPC lets one set on a server's connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Transport"]

_COMPRESSIONS = {None: 0, "deflate": 1, "gzip": 2}  # numbers of grpc_compression_algorithm
_FOREVER = 2**31 - 1  # gRPC's "never", in milliseconds

_SECONDS = (
    "keepalive",
    "keepalive_timeout",
    "min_ping_interval",
    "max_connection_idle",
    "max_connection_age",
    "max_connection_age_grace",
    "handshake_timeout",
)
_COUNTS = (
    "max_ping_strikes",
    "max_connections",
    "max_concurrent_streams",
    "max_waiting_calls",
    "max_waiting_time",
    "max_metadata_bytes",
)
_OPTIONAL = {
    "keepalive",
    "max_ping_strikes",
    "max_connection_idle",
    "max_connection_age",
    "max_connection_age_grace",
    "max_connections",
    "max_concurrent_streams",
}


@dataclass(frozen=True, kw_only=True)
class Transport:
    """How a server treats its connections. Times are in seconds, gRPC's channel arguments in parentheses.

    Parameters
    ----------
    keepalive
        Silence after which a peer that has calls in flight is asked for a sign of life; None never asks
        (`grpc.keepalive_time_ms`). A peer that vanishes without a word would keep its contexts for two
        hours, gRPC's own default.
    keepalive_timeout
        Time that a peer has to answer; then its connection is closed (`grpc.keepalive_timeout_ms`, whose
        default this is, and `grpc.http2.ping_timeout_ms`, by whose default it would take a minute).
    keepalive_without_calls
        Whether connections without calls are asked too, and may themselves ask as often as those with calls
        (`grpc.keepalive_permit_without_calls`).
    min_ping_interval
        A client that asks for signs of life more often than this is told off (`max_ping_strikes`). gRPC's
        default; clients whose `grpc.keepalive_time_ms` is shorter need a lower one
        (`grpc.http2.min_ping_interval_without_data_ms`).
    max_ping_strikes
        How often a client may do so before its connection is closed with ENHANCE_YOUR_CALM; None lets it.
        gRPC's default (`grpc.http2.max_ping_strikes`).
    max_connection_idle
        A connection without calls for so long is closed; None keeps it (`grpc.max_connection_idle_ms`).
    max_connection_age
        A connection this old takes no new calls, so that clients connect again and a load balancer spreads
        them anew; gRPC varies it by a tenth. None lets connections live (`grpc.max_connection_age_ms`).
    max_connection_age_grace
        Time that the calls of such a connection have to end; None waits for them
        (`grpc.max_connection_age_grace_ms`).
    max_connections
        Connections at once to one address; further ones are closed. None takes all
        (`grpc.max_allowed_incoming_connections`).
    handshake_timeout
        Time from connecting until TLS and HTTP/2 are agreed. gRPC's default
        (`grpc.server_handshake_timeout_ms`).
    max_concurrent_streams
        Calls at once on one connection, further ones wait in the client; None takes all
        (`grpc.max_concurrent_streams`).
    max_waiting_calls
        Calls of one RPC that have arrived and wait for a context; one more is refused, with
        RESOURCE_EXHAUSTED. More than there are contexts (or 64) wait in gRPC core, in addition, and so do all
        where an executor has several threads; core says CANCELLED. The default is where gRPC refuses all,
        too; from 1000 on it would by itself cancel some at random. grpcio 1.66 has no such limit
        (`grpc.server.max_pending_requests` and its `_hard_limit`).
    max_waiting_time
        Whole seconds that a call waits for a context at most; then it is refused, with UNAVAILABLE, or by
        core with CANCELLED. gRPC's default (`grpc.server_max_unrequested_time_in_server`).
    max_metadata_bytes
        Size of the metadata of a request; a call with more ends with RESOURCE_EXHAUSTED. The default is
        where gRPC refuses all, too; from 8 KiB on it would by itself refuse some at random
        (`grpc.max_metadata_size` and `grpc.absolute_max_metadata_size`).
    compression
        How replies are compressed for clients that accept it, "gzip" or "deflate"; None sends them as they
        are. A context may choose for itself (`grpc.default_compression_algorithm`).
    reuse_port
        Whether other processes may listen on the same address, if they say so too: the kernel spreads
        connections over them. Off, since two servers that share calls by accident surprise more than it
        helps (`grpc.so_reuseport`).

    Raises
    ------
    TypeError, ValueError
        A value is not what is described here.

    Examples
    --------
    >>> server = Server("0.0.0.0:50051", transport=Transport(max_connection_age=300.0, compression="gzip"))
    """

    keepalive: float | None = 60.0
    keepalive_timeout: float = 20.0
    keepalive_without_calls: bool = False
    min_ping_interval: float = 300.0
    max_ping_strikes: int | None = 2
    max_connection_idle: float | None = None
    max_connection_age: float | None = None
    max_connection_age_grace: float | None = None
    max_connections: int | None = None
    handshake_timeout: float = 120.0
    max_concurrent_streams: int | None = None
    max_waiting_calls: int = 3000
    max_waiting_time: int = 30
    max_metadata_bytes: int = 16 << 10
    compression: Literal["gzip", "deflate"] | None = None
    reuse_port: bool = False

    def __post_init__(self) -> None:
        if self.compression not in _COMPRESSIONS:
            raise ValueError(f"got compression={self.compression!r}, expected 'gzip', 'deflate' or None")
        for name in _SECONDS:
            self._check(name, "seconds", (int, float), 0.001, _FOREVER / 1000 - 1)
        for name in _COUNTS:
            self._check(name, "a whole number", int, 1, _FOREVER - 1)
        for name in ("keepalive_without_calls", "reuse_port"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise TypeError(f"got {name}={value!r}, expected True or False")

    def arguments(self) -> dict[str, Any]:
        """Return gRPC's channel arguments."""
        timeout = _milliseconds(self.keepalive_timeout)
        arguments = {
            "grpc.keepalive_time_ms": _milliseconds(self.keepalive) or _FOREVER,
            "grpc.keepalive_timeout_ms": timeout,
            "grpc.http2.ping_timeout_ms": timeout,  # alone, the one above does not close a silent connection
            "grpc.keepalive_permit_without_calls": int(self.keepalive_without_calls),
            "grpc.http2.min_ping_interval_without_data_ms": _milliseconds(self.min_ping_interval),
            "grpc.http2.max_ping_strikes": self.max_ping_strikes or 0,  # which is any number
            "grpc.max_connection_idle_ms": _milliseconds(self.max_connection_idle),
            "grpc.max_connection_age_ms": _milliseconds(self.max_connection_age),
            "grpc.max_connection_age_grace_ms": _milliseconds(self.max_connection_age_grace),
            "grpc.max_allowed_incoming_connections": self.max_connections,
            "grpc.server_handshake_timeout_ms": _milliseconds(self.handshake_timeout),
            "grpc.max_concurrent_streams": self.max_concurrent_streams,
            # Of those that wait already when a call arrives: up to the first it is let in, from the second
            # on it never is.
            "grpc.server.max_pending_requests": self.max_waiting_calls - 1,
            "grpc.server.max_pending_requests_hard_limit": self.max_waiting_calls,
            "grpc.server_max_unrequested_time_in_server": self.max_waiting_time,
            "grpc.max_metadata_size": self.max_metadata_bytes,
            "grpc.absolute_max_metadata_size": self.max_metadata_bytes,
            "grpc.default_compression_algorithm": _COMPRESSIONS[self.compression],
            "grpc.so_reuseport": int(self.reuse_port),
        }
        return {name: value for name, value in arguments.items() if value is not None}

    def _check(self, name: str, what: str, kind: Any, least: float, most: float) -> None:
        value = getattr(self, name)
        if value is None and name in _OPTIONAL:
            return
        expected = f"expected {what}{' or None' if name in _OPTIONAL else ''}"
        if isinstance(value, bool) or not isinstance(value, kind):
            raise TypeError(f"got {name}={value!r}, {expected}")
        if not least <= value <= most:  # neither is NaN
            raise ValueError(f"got {name}={value!r}, {expected}, from {least} to {most:.0f}")


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
