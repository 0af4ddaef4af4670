"""The front doors of a server, gRPC and HTTP: opened, drained and closed together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from yais.core.clock import Deadline
from yais.rpc.health import LIVE, STARTED
from yais.rpc.server import Server
from yais.rpc.service import Service
from yais.rpc.transport import Transport
from yais.serving.access import Access
from yais.serving.front_resources import FrontResources
from yais.serving.http.routes import Metrics
from yais.serving.http.server import HttpServer
from yais.serving.options import UNIX, ServerOptions

__all__ = ["FrontDoors", "address_of"]


class FrontDoors:
    """Listens, and serves what is behind it.

    Parameters
    ----------
    options
        Where and how to listen; what else they say is not looked at.
    resources
        What is behind the doors. They are asked once a second how they are, for the health service.
    service
        The RPCs.
    metrics
        Returns what `/metrics` of HTTP shows.
    """

    def __init__(
        self, options: ServerOptions, resources: FrontResources, service: Service, metrics: Metrics
    ) -> None:
        self._options = options
        self._resources = resources
        self._metrics = metrics
        self._server = Server(
            address_of(options.grpc_address, options.grpc_port),
            resources=resources,
            max_message_bytes=None,
            interceptors=Access(options.access).grpc_interceptors(),
            tls=options.tls,
            transport=_transport(options),
            grace=options.grace,
            drain_delay=options.drain_delay,
        )
        self._server.add(service)
        self._http: HttpServer | None = None

    def __repr__(self) -> str:
        return f"<FrontDoors {self._server!r}, {self._http!r}>"

    @property
    def port(self) -> int:
        """The gRPC port, once it listens."""
        return self._server.port

    @property
    def address(self) -> str:
        """The gRPC address with its port, once it listens."""
        return address_of(self._options.grpc_address, self.port)

    @property
    def http_port(self) -> int | None:
        """The HTTP port, once it listens; None when there is none."""
        return self._http.port if self._http else None

    @property
    def in_flight(self) -> int:
        """Requests being served now, of every kind."""
        return self._server.in_flight + (self._http.in_flight if self._http else 0)

    @property
    def requests(self) -> int:
        """RPCs and HTTP requests since the start."""
        rpcs = sum(method.calls for method in self._server.statistics().methods.values())
        return rpcs + (self._http.requests if self._http else 0)

    @property
    def stopping(self) -> bool:
        """Whether it has begun to stop, or has stopped."""
        return self._server.stopping

    def open_grpc(self) -> None:
        """Listen for gRPC; health says that nothing is served yet.

        Raises
        ------
        OSError
            The address cannot be bound.
        """
        self._server.start(serving=False)

    def open_http(self) -> None:
        """Listen for HTTP, if the options say so; raises as `HttpServer` does."""
        if self._options.http is not None:
            self._http = HttpServer(self._resources, self._options.http, self._options.access, self._metrics)

    def watch_health(self) -> None:
        """Report how the resources are, from now on."""
        self.report_health()
        self._server.every(1.0, self.report_health)  # models come and go

    def report_health(self) -> None:
        """Report how the resources are now. From any thread."""
        health, resources = self._server.health, self._resources
        reports = {LIVE: not resources.lost, STARTED: resources.started, "": resources.ready}
        for service, serving in reports.items():
            if health.serving(service) != serving:  # watchers are told of every report
                health.report(serving=serving, service=service)

    def run(self, *, started: Callable[[], object] | None = None) -> None:
        """Serve until SIGTERM or SIGINT, then drain and stop; see `yais.rpc.server.Server.run`."""
        self._server.run(started=started)

    def stop(self) -> bool:
        """Drain and stop; return whether every request in flight ended in time. Idempotent."""
        clean = self._server.stop()
        if self._http is not None:
            self._http.stop(0.0)  # where gRPC has not started there was no drain
        return clean

    def hurry(self) -> None:
        """Let a `stop` that has begun wait no longer. From any thread."""
        self._server.hurry()

    def drain_http(self, deadline: Deadline, hurried: threading.Event) -> bool:
        """Refuse requests over HTTP, and let those in flight end; see `Resources.drain`."""
        return self._http is None or self._http.stop(deadline.remaining() or 0.0, hurried)


def _transport(options: ServerOptions) -> Transport:
    if options.compression == "none":
        return options.transport
    # As gRPC maps its levels to the two algorithms.
    return replace(options.transport, compression="gzip" if options.compression == "low" else "deflate")


def address_of(host: str, port: int) -> str:
    """Return an address as gRPC has it. Raises ValueError if the port is none."""
    if host.startswith(UNIX):
        return host
    if not 0 <= port < 65536:  # gRPC takes it, and listens elsewhere
        raise ValueError(f"got port {port}, expected 0 to 65535")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
