"""Configuration of Envoy, of version 3 of its API."""

from __future__ import annotations

from typing import Any

from yais.lb.balancer import Balancer
from yais.lb.envoy_cluster import cluster
from yais.lb.route import Route

__all__ = ["envoy_config"]

_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = "envoy.extensions.filters.http.router.v3.Router"


def envoy_config(balancer: Balancer) -> dict[str, Any]:
    """Return `envoy.config.bootstrap.v3.Bootstrap` as JSON has it: a listener, a cluster for each pool."""
    return {
        "admin": {"address": _address(balancer.admin_address, balancer.admin_port)},
        "static_resources": {
            "listeners": [
                {
                    "name": "grpc",
                    "address": _address(balancer.address, balancer.port),
                    "filter_chains": [{"filters": [_connection_manager(balancer)]}],
                }
            ],
            "clusters": [cluster(balancer, pool) for pool in balancer.pools],
        },
    }


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _connection_manager(balancer: Balancer) -> dict[str, Any]:
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"type.googleapis.com/{_MANAGER}",
            "stat_prefix": "grpc",
            "codec_type": "HTTP2",
            # A stream may be silent for as long as it likes; clients that have vanished do not answer pings.
            "stream_idle_timeout": "0s",
            "http2_protocol_options": {
                "connection_keepalive": {"interval": "30s", "timeout": "10s"},
                "max_concurrent_streams": 2**31 - 1,  # the circuit breaker counts, not the connection
            },
            "http_filters": [
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": f"type.googleapis.com/{_ROUTER}"},
                }
            ],
            "route_config": {
                "name": "grpc",
                "virtual_hosts": [
                    {
                        "name": "grpc",
                        "domains": ["*"],
                        "routes": _routes(balancer),
                        "retry_policy": _retries(balancer),
                    }
                ],
            },
        },
    }


def _routes(balancer: Balancer) -> list[dict[str, Any]]:
    named = [
        {"match": _match(balancer, route), "route": _action(route.pool)} for route in balancer.ordered_routes
    ]
    return [*named, {"match": {"prefix": "/", "grpc": {}}, "route": _action(balancer.pools[0].name)}]


def _match(balancer: Balancer, route: Route) -> dict[str, Any]:
    match: dict[str, Any] = {"path": f"/{route.method}"} if route.method else {"prefix": "/"}
    match["grpc"] = {}
    if route.model:
        match["headers"] = [{"name": balancer.model_header, "string_match": {"exact": route.model}}]
    return match


def _action(pool: str) -> dict[str, Any]:
    return {
        "cluster": pool,
        # Envoy's 15 s would end streams and long requests; what holds is the client's own deadline.
        "timeout": "0s",
        "max_stream_duration": {"grpc_timeout_header_max": "0s"},
    }


def _retries(balancer: Balancer) -> dict[str, Any]:
    """Return when to try again: only what no server has begun to handle.

    Not `unavailable`: a server also says so of what it had begun.
    """
    return {
        "retry_on": "connect-failure,refused-stream,reset-before-request",
        "num_retries": balancer.retries,
        "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3"
                    ".PreviousHostsPredicate"
                },
            }
        ],
        # The one that failed has the fewest requests, so it is picked again: of two, in 3 of 4 cases.
        "host_selection_retry_max_attempts": 30,
    }
