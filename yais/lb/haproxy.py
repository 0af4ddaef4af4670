"""Configuration of HAProxy."""

from __future__ import annotations

from yais.errors import InvalidArgument
from yais.lb.balancer import Balancer
from yais.lb.grpc_probe import ANY_STATUS, SERVING, health_question
from yais.lb.pool import Pool

__all__ = ["haproxy_config"]


def haproxy_config(balancer: Balancer) -> str:
    """Return a configuration, for HAProxy 2.6 or newer: the same as `envoy_config`, as far as HAProxy can.

    What differs: more than `max_requests` wait for their turn, a second at most, instead of being refused; a
    DNS name stands for one address, the one that it has at the start.

    Raises
    ------
    InvalidArgument
        A port to listen at is 0: HAProxy takes none by itself.
    """
    if 0 in (balancer.port, balancer.admin_port):
        raise InvalidArgument("got port 0, expected 1 to 65535: HAProxy takes no free port by itself")
    parts = [_GLOBAL, _defaults(balancer), _admin(balancer), _frontend(balancer)]
    parts += [_backend(balancer, pool) for pool in balancer.pools]
    return "\n".join(parts)


_GLOBAL = """\
global
    # Streams of HTTP/2 on one connection: the servers' limit counts, not the connection's (100 by default).
    tune.h2.max-concurrent-streams 4096
    # Tensors are longer than the 64 KiB that may be under way by default.
    tune.h2.initial-window-size 1048576
"""


def _defaults(balancer: Balancer) -> str:
    return f"""\
defaults
    mode http
    balance leastconn
    timeout connect {_milliseconds(balancer.connect_timeout)}
    timeout check {_milliseconds(balancer.health_timeout)}
    timeout queue 1s
    # How long a request or a stream may be silent; connections of peers that have vanished end sooner.
    timeout client 24h
    timeout server 24h
    option clitcpka
    option srvtcpka
    # Only what has not reached a server is tried again, on another one.
    retries {balancer.retries}
    retry-on conn-failure
    option redispatch 1
"""


def _admin(balancer: Balancer) -> str:
    return f"""\
frontend admin
    bind {_bound(balancer.admin_address, balancer.admin_port)}
    http-request use-service prometheus-exporter if {{ path /metrics }}
    stats enable
    stats uri /
"""


def _frontend(balancer: Balancer) -> str:
    lines = ["frontend grpc", f"    bind {_bound(balancer.address, balancer.port)} proto h2"]
    for route in balancer.ordered_routes:
        tests = [f"{{ path /{route.method} }}"] if route.method else []
        tests += [f"{{ req.hdr({balancer.model_header}) -m str {route.model} }}"] if route.model else []
        lines.append(f"    use_backend {route.pool} if {' '.join(tests)}")
    return "\n".join([*lines, f"    default_backend {balancer.pools[0].name}", ""])


def _backend(balancer: Balancer, pool: Pool) -> str:
    interval = _milliseconds(balancer.health_interval)
    options = f"proto h2 check inter {interval} fall 2 rise 1 fastinter 200ms maxconn {balancer.max_requests}"
    lines = [
        f"backend {pool.name}",
        "    # Asks grpc.health.v1, byte by byte, waits for any status, and looks whether it is SERVING.",
        "    option tcp-check",
        f"    tcp-check send-binary {health_question(balancer.health_service).hex()}",
        f"    tcp-check expect rbinary {ANY_STATUS}",
        f"    tcp-check expect min-recv 1 rbinary {SERVING}",
        f"    default-server {options}",
    ]
    for number, server in enumerate(pool.servers):
        lines.append(f"    server {pool.name}-{number} {_bound(server.host, server.port)}")
    return "\n".join([*lines, ""])


def _bound(host: str, port: int) -> str:
    return f"ipv6@[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _milliseconds(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"
