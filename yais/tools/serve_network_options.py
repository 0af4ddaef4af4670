"""Options of `yais serve` that say where it listens, and how connections are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from yais.rpc.transport import Transport
from yais.serving.http.options import HttpOptions
from yais.tools.option_groups import grouped
from yais.tools.seconds import Seconds
from yais.tools.serve_values import pattern

__all__ = ["NETWORK_OPTIONS", "network_options"]

_NEVER = 2**31 - 1  # gRPC's, in milliseconds
_PORT = click.IntRange(0, 65535)
_MILLISECONDS = click.IntRange(1, _NEVER)
_FINITE_MILLISECONDS = click.IntRange(1, _NEVER - 1000)  # what `Transport` takes at most

_KEPT = Transport()
_HTTP = HttpOptions()

_server = grouped("Server")
_grpc = grouped("gRPC")
_http = grouped("HTTP")

_SERVER = (
    _server(
        "--frontends",
        type=click.IntRange(0, 1024),
        default=0,
        show_default=True,
        help="Processes that listen and decode, beside one with the models; 0 for one that does all.",
    ),
    _server(
        "--id",
        "name",
        envvar="YAIS_SERVE_ID",
        default="triton",
        show_default=True,
        help="Name clients are told.",
    ),
    _server(
        "--strict-readiness",
        type=bool,
        default=True,
        show_default=True,
        help="Report ready only if every model is.",
    ),
    _server(
        "--exit-timeout-secs",
        type=Seconds(),
        default=30.0,
        show_default=True,
        help="Seconds that requests in flight may take when the server stops.",
    ),
    _server(
        "--drain-delay-secs",
        type=Seconds(),
        default=0.0,
        show_default=True,
        help="Seconds between reporting not ready and refusing requests.",
    ),
)

_ADDRESSES = (
    _grpc(
        "--grpc-address",
        default="0.0.0.0",
        show_default=True,
        help="Where to listen for gRPC; unix:PATH is a socket without a port.",
    ),
    _grpc(
        "--grpc-port", type=_PORT, default=8001, show_default=True, help="Port for gRPC; 0 takes a free one."
    ),
    _http("--allow-http", type=bool, default=True, show_default=True, help="Whether to serve HTTP."),
    _http("--http-address", default=_HTTP.address, show_default=True, help="Where to listen for HTTP."),
    _http(
        "--http-port",
        type=_PORT,
        default=_HTTP.port,
        show_default=True,
        help="Port for HTTP; 0 takes a free one.",
    ),
    _http(
        "--reuse-http-port",
        type=bool,
        default=_HTTP.reuse_port,
        show_default=True,
        help="Whether several servers may listen on the port.",
    ),
    _http(
        "--http-max-input-size",
        type=click.IntRange(min=0),
        default=_HTTP.max_input_bytes,
        show_default=True,
        help="Bytes of a request at most, decompressed; 0 for no limit.",
    ),
    _http(
        "--http-header-forward-pattern",
        type=pattern,
        default="",
        metavar="REGEX",
        help="Headers whose names match become parameters of inference requests.",
    ),
)

_TUNING = (
    _grpc(
        "--grpc-header-forward-pattern",
        type=pattern,
        default="",
        metavar="REGEX",
        help="Metadata whose names match become parameters of inference requests.",
    ),
    _grpc(
        "--grpc-infer-response-compression-level",
        type=click.Choice(["none", "low", "medium", "high"]),
        default="none",
        show_default=True,
        help="How answers are compressed for clients that accept it.",
    ),
    _grpc(
        "--grpc-keepalive-time",
        type=_MILLISECONDS,
        default=round(1000 * (_KEPT.keepalive or 0)),
        show_default=True,
        help=f"Milliseconds of silence before a client is asked for a sign of life; {_NEVER} for never.",
    ),
    _grpc(
        "--grpc-keepalive-timeout",
        type=_FINITE_MILLISECONDS,
        default=round(1000 * _KEPT.keepalive_timeout),
        show_default=True,
        help="Milliseconds it has to answer.",
    ),
    _grpc(
        "--grpc-keepalive-permit-without-calls",
        type=bool,
        default=_KEPT.keepalive_without_calls,
        show_default=True,
        help="Whether clients without calls are asked, too.",
    ),
    _grpc(
        "--grpc-http2-min-recv-ping-interval-without-data",
        type=_FINITE_MILLISECONDS,
        default=round(1000 * _KEPT.min_ping_interval),
        show_default=True,
        help="Milliseconds between the pings of a client, at least.",
    ),
    _grpc(
        "--grpc-http2-max-ping-strikes",
        type=click.IntRange(0, _NEVER - 1),
        default=_KEPT.max_ping_strikes,
        show_default=True,
        help="Pings that come sooner before the connection is closed; 0 for any number.",
    ),
    _grpc(
        "--grpc-max-connection-age",
        type=_MILLISECONDS,
        help="Milliseconds after which a connection takes no new calls.",
    ),
    _grpc(
        "--grpc-max-connection-age-grace",
        type=_MILLISECONDS,
        help="Milliseconds that calls then have to end.",
    ),
    _grpc(
        "--reuse-grpc-port",
        type=bool,
        default=_KEPT.reuse_port,
        show_default=True,
        help="Whether several servers may listen on the port.",
    ),
)

NETWORK_OPTIONS = (*_SERVER, *_ADDRESSES[:2], *_TUNING, *_ADDRESSES[2:])


def network_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `ServerOptions` that they are for; HTTP is still without TLS."""
    return {
        "frontends": given["frontends"],
        "name": given["name"],
        "strict_readiness": given["strict_readiness"],
        "grace": given["exit_timeout_secs"],
        "drain_delay": given["drain_delay_secs"],
        "grpc_address": given["grpc_address"],
        "grpc_port": given["grpc_port"],
        "header_forward_pattern": given["grpc_header_forward_pattern"],
        "compression": given["grpc_infer_response_compression_level"],
        "transport": _transport(given),
        "http": _http_options(given) if given["allow_http"] else None,
    }


def _http_options(given: Mapping[str, Any]) -> HttpOptions:
    return HttpOptions(
        address=given["http_address"],
        port=given["http_port"],
        max_input_bytes=given["http_max_input_size"],
        header_forward_pattern=given["http_header_forward_pattern"],
        reuse_port=given["reuse_http_port"],
    )


def _transport(given: Mapping[str, Any]) -> Transport:
    return Transport(
        keepalive=_seconds(given["grpc_keepalive_time"]),
        keepalive_timeout=given["grpc_keepalive_timeout"] / 1000,
        keepalive_without_calls=given["grpc_keepalive_permit_without_calls"],
        min_ping_interval=given["grpc_http2_min_recv_ping_interval_without_data"] / 1000,
        max_ping_strikes=given["grpc_http2_max_ping_strikes"] or None,
        max_connection_age=_seconds(given["grpc_max_connection_age"]),
        max_connection_age_grace=_seconds(given["grpc_max_connection_age_grace"]),
        reuse_port=given["reuse_grpc_port"],
    )


def _seconds(milliseconds: int | None) -> float | None:
    """Return None for what is as good as never, too."""
    return None if milliseconds is None or milliseconds > _NEVER - 1000 else milliseconds / 1000
