"""What the probes of Kubernetes ask the health service for: started, ready and live are told apart."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc
from onnx_models import identity, write
from serving_models import SOON, Wire, eventually, one_process, serving_models

from yais.repository.repository import ModelEntry
from yais.serving.server import InferenceServer, ServerOptions

STARTED, READY, LIVE = "started", "", "live"


def probe(wire: Wire, service: str) -> bool:
    """Ask as kubelet does."""
    request = health_pb2.HealthCheckRequest(service=service)
    reply = health_pb2_grpc.HealthStub(wire.channel).Check(request, timeout=SOON)
    return reply.status == health_pb2.HealthCheckResponse.SERVING


def probed(port: int) -> tuple[bool, bool, bool]:
    with Wire(port) as wire:
        return probe(wire, STARTED), probe(wire, READY), probe(wire, LIVE)


def options(repository: Path, **more: Any) -> ServerOptions:
    return ServerOptions((repository,), "127.0.0.1", grpc_port=0, metrics_port=None, **more)


def test_while_models_load_it_is_live_only(tmp_path: Path) -> None:
    write(tmp_path, "model", identity("FP32"))
    seen = []

    def look(_entry: ModelEntry) -> None:
        seen.append(probed(server.port))

    server = InferenceServer(options(tmp_path))
    try:
        server.start(look)
        assert set(seen) == {(False, False, True)}
        assert probed(server.port) == (True, True, True)
    finally:
        server.stop()


def test_a_model_that_does_not_load_lets_nobody_restart_the_server(tmp_path: Path) -> None:
    write(tmp_path, "model", b"no model")
    with serving_models(tmp_path) as server:
        assert probed(server.port) == (True, False, True)


def test_in_its_drain_it_is_live(tmp_path: Path) -> None:
    write(tmp_path, "model", identity("FP32"))
    server = InferenceServer(options(tmp_path, drain_delay=SOON))
    server.start()
    stopping = threading.Thread(target=server.stop)
    with Wire(server.port) as wire:
        assert probe(wire, READY)
        stopping.start()
        try:
            eventually(lambda: not probe(wire, READY))
            assert probe(wire, LIVE) and probe(wire, STARTED)
        finally:
            server._doors.hurry()
            stopping.join(SOON)
    assert not stopping.is_alive()


@one_process
def test_who_watches_is_told_of_changes_only(tmp_path: Path) -> None:
    write(tmp_path, "model", identity("FP32"))
    status = health_pb2.HealthCheckResponse
    with serving_models(tmp_path) as server, Wire(server.port) as wire:
        watch = health_pb2_grpc.HealthStub(wire.channel).Watch
        told = watch(health_pb2.HealthCheckRequest(service=READY), timeout=SOON)
        assert next(told).status == status.SERVING
        for _ in range(3):
            server._doors.report_health()
        server._resources.loaded = False
        server._doors.report_health()
        assert next(told).status == status.NOT_SERVING
        told.cancel()


@one_process
def test_only_another_process_helps_who_lost_the_device(tmp_path: Path) -> None:
    write(tmp_path, "model", identity("FP32"))
    with serving_models(tmp_path) as server, Wire(server.port) as wire:
        assert probed(server.port) == (True, True, True)
        server.repository.find("model").model.sites[0].lost = "as if"
        eventually(lambda: not probe(wire, LIVE))
        assert not probe(wire, READY) and probe(wire, STARTED)
