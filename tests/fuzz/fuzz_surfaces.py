"""What can be attacked, and by which inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from fuzz_grpc import attack_admin, attack_connection, attack_infer, attack_stream
from fuzz_http_infer import attack_binary, attack_headers, attack_json
from fuzz_http_raw import attack_raw
from fuzz_http_routes import attack_routes
from fuzz_target import Target

Attack = Callable[[Target, Random], str]

SURFACES: Mapping[str, Attack] = {
    "infer": attack_infer,
    "stream": attack_stream,
    "admin": attack_admin,
    "connection": attack_connection,
    "json": attack_json,
    "binary": attack_binary,
    "headers": attack_headers,
    "routes": attack_routes,
    "raw": attack_raw,
}
"""By name; each sends one input and returns how it ended; raises AssertionError where that is wrong."""
