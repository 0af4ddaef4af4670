"""A pool of servers as a cluster of Envoy's."""

from __future__ import annotations

from typing import Any

from yais.lb.balancer import Balancer
from yais.lb.pool import Pool
from yais.lb.server_address import ServerAddress

__all__ = ["cluster"]

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def cluster(balancer: Balancer, pool: Pool) -> dict[str, Any]:
    """Return `envoy.config.cluster.v3.Cluster` as JSON has it."""
    named = not all(server.numeric for server in pool.servers)
    return {
        "name": pool.name,
        "type": "STRICT_DNS" if named else "STATIC",
        **({"dns_lookup_family": "ALL"} if named else {}),
        "connect_timeout": _seconds(balancer.connect_timeout),
        "lb_policy": "LEAST_REQUEST",
        # With Envoy's 50 % a pool of which less than half is healthy would send to those that are not.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0.0}},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"type.googleapis.com/{_HTTP_OPTIONS}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        # Not pings of HTTP/2, as towards clients: to gRPC's servers, one in less than five minutes is abuse.
        "upstream_connection_options": {
            "tcp_keepalive": {"keepalive_time": 30, "keepalive_interval": 10, "keepalive_probes": 3}
        },
        "health_checks": [_health_check(balancer)],
        "circuit_breakers": {"thresholds": [_thresholds(balancer.max_requests * len(pool.servers))]},
        "outlier_detection": _outliers(),
        "load_assignment": {
            "cluster_name": pool.name,
            "endpoints": [{"lb_endpoints": [_endpoint(server) for server in pool.servers]}],
        },
    }


def _endpoint(server: ServerAddress) -> dict[str, Any]:
    address = {"address": server.host, "port_value": server.port}
    return {"endpoint": {"address": {"socket_address": address}}}


def _health_check(balancer: Balancer) -> dict[str, Any]:
    interval = _seconds(balancer.health_interval)
    return {
        "timeout": _seconds(balancer.health_timeout),
        "interval": interval,
        "no_traffic_interval": interval,  # 60 s otherwise
        "unhealthy_threshold": 2,  # of what does not answer; NOT_SERVING counts at once
        "healthy_threshold": 1,
        "grpc_health_check": {"service_name": balancer.health_service} if balancer.health_service else {},
    }


def _thresholds(requests: int) -> dict[str, Any]:
    return {
        "max_requests": requests,
        "max_pending_requests": requests,  # while a connection is made
        "max_retries": requests,  # only what no server has begun is tried again: there can be no storm of it
    }


def _outliers() -> dict[str, Any]:
    """Return when a server is left out for a while: when it is not reached, five times in a row.

    Statuses do not count: a model that fails is no reason to leave the server of others out.
    """
    return {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 5,
        "interval": "1s",
        "base_ejection_time": "5s",
        "max_ejection_percent": 50,
        **{
            f"enforcing_{what}": 0
            for what in (
                "consecutive_5xx",
                "consecutive_gateway_failure",
                "success_rate",
                "local_origin_success_rate",
            )
        },
    }


def _seconds(seconds: float) -> str:
    """Return a duration as JSON has it in protobuf."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
