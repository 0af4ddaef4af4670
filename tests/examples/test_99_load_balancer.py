"""The servers of the load balancer's example; with a balancer it is in tests/operations."""

from __future__ import annotations

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from programs import TIMEOUT
from shell_programs import script

LAUNCH = "examples/99_load_balancer/launch_services.sh"
ENOUGH = 300
"""Calls that take far longer than a second signal takes to be sent, and to end a server that is draining."""


def test_ctrl_c_drains_the_servers():
    with script(LAUNCH, 1, "--grpc-port", 0, "--drain-delay-secs", 600) as services:
        port = services.line(r"Started GRPCInferenceService at .*:(\d+)$")[1]
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            health = HealthStub(channel)
            statuses = health.Watch(HealthCheckRequest(), timeout=TIMEOUT)
            assert next(statuses).status == HealthCheckResponse.SERVING
            services.interrupt()
            assert next(statuses).status == HealthCheckResponse.NOT_SERVING
            for _ in range(ENOUGH):
                health.Check(HealthCheckRequest(), timeout=TIMEOUT)
        services.interrupt()  # the second does not wait
        assert services.process.wait(TIMEOUT) == 0
