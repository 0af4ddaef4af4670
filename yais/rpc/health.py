"""Health: what a server says of itself through `grpc.health.v1`, by grpcio's own servicer."""

from __future__ import annotations

import threading

from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from yais.rpc.servicers import ServicerHost

__all__ = ["LIVE", "STARTED", "Health"]

LIVE = "live"
"""Service name under which a server says whether it is to be left running; in its drain, too."""

STARTED = "started"
"""Service name under which a server says whether its start is over, successful or not."""


class Health:
    """Reports whether a server, or a service of it, takes calls. Thread-safe.

    The empty service name stands for the whole server. Until something is reported it is not serving, and the
    start, `STARTED`, not over: it is once the whole server serves. `LIVE` is reported from the beginning.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shutting_down = False
        self._serving: dict[str, bool] = {}
        self._servicer = health.HealthServicer(experimental_non_blocking=True)
        for service in ("", STARTED, LIVE):
            self._set(service, serving=service == LIVE)

    def __repr__(self) -> str:
        return f"<Health {'serving' if self.serving() else 'not serving'}>"

    def mount(self, host: ServicerHost) -> None:
        """Add the service to a host."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, host)

    def serving(self, service: str = "") -> bool:
        """Whether `service` is reported to take calls; False for an unknown one."""
        return self._serving.get(service, False)

    def report(self, *, serving: bool, service: str = "") -> None:
        """Report that `service` takes calls, or that it does not. Watchers are told.

        Once the server is shutting down this has no effect.
        """
        with self._lock:
            if self._shutting_down:
                return
            self._set(service, serving=serving)
            if serving and not service:
                self._set(STARTED, serving=True)

    def enter_shutdown(self) -> None:
        """Report, for good, that nothing takes calls any more. `LIVE` and `STARTED` stay as they are."""
        with self._lock:
            self._shutting_down = True
            for service in self._serving.keys() - {LIVE, STARTED}:
                self._set(service, serving=False)

    def _set(self, service: str, *, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse
        self._serving[service] = serving
        self._servicer.set(service, status.SERVING if serving else status.NOT_SERVING)
