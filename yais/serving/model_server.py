"""The server of some models: gRPC, HTTP and metrics, started, drained and stopped together."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Self

from prometheus_client.registry import Collector, CollectorRegistry

from yais.core.clock import Deadline
from yais.memory.fallbacks import fallbacks
from yais.memory.tracked import MemoryTracker
from yais.repository.repository import ModelEntry
from yais.rpc.server import Server
from yais.rpc.transport import Transport
from yais.serving.access import Access
from yais.serving.cuda_shared_memory import CudaSharedMemory
from yais.serving.header_forwarding import forwarded
from yais.serving.host_metrics import HostCollector
from yais.serving.http.server import HttpServer
from yais.serving.inference_service import inference_service
from yais.serving.log_settings import LogSettings
from yais.serving.metrics import MetricsOptions, ModelCollector
from yais.serving.nv_metrics import NvModelCollector
from yais.serving.options import ServerOptions
from yais.serving.resources import Models, ServingResources
from yais.serving.shared_memory import SystemSharedMemory
from yais.serving.tracer import Tracer
from yais.telemetry.memory import MemoryCollector
from yais.telemetry.metrics import MetricsServer, registry_of

__all__ = ["ModelServer"]

_UNIX = ("unix:", "unix-abstract:")


class ModelServer:
    """Serves models over KServe v2. Closing them is left to whose they are.

    Parameters
    ----------
    models
        What to serve.
    options
        Where and how; its repositories are not looked at.
    memory
        What the models have of memory, for the metrics.
    """

    def __init__(self, models: Models, options: ServerOptions, *, memory: MemoryTracker) -> None:
        self.options = options
        self.models = models
        allowed = _local(options) if options.allow_client_shm is None else options.allow_client_shm
        self._resources = ServingResources(
            models,
            name=options.name,
            strict_readiness=options.strict_readiness,
            system_memory=SystemSharedMemory(allowed=allowed),
            cuda_memory=CudaSharedMemory(allowed=allowed),
            tracer=Tracer(options.trace, models.find),
            logging=LogSettings(options.logging),
            stopping=lambda: self._server.stopping,
            drain=self._drain_http,
            forward=forwarded(
                grpc=options.header_forward_pattern,
                http=options.http.header_forward_pattern if options.http is not None else "",
            ),
        )
        self._server = Server(
            _address(options.grpc_address, options.grpc_port),
            resources=self._resources,
            max_message_bytes=None,
            interceptors=Access(options.access).grpc_interceptors(),
            tls=options.tls,
            transport=_transport(options),
            grace=options.grace,
            drain_delay=options.drain_delay,
        )
        self._server.add(inference_service(options.infer_contexts))
        self._registry = _registry(models, options.metrics, memory)
        self._http: HttpServer | None = None
        self._metrics: MetricsServer | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._server!r}, {self.models!r}>"

    @property
    def port(self) -> int:
        """The gRPC port, once started."""
        return self._server.port

    @property
    def address(self) -> str:
        """The gRPC address with its port, once started."""
        return _address(self.options.grpc_address, self.port)

    @property
    def http_port(self) -> int | None:
        """The HTTP port, once started; None when there is none."""
        return self._http.port if self._http else None

    @property
    def metrics_port(self) -> int | None:
        """The port of the metrics, once started; None when there are none."""
        return self._metrics.port if self._metrics else None

    @property
    def in_flight(self) -> int:
        """Requests being served now, of every kind."""
        return self._server.in_flight + (self._http.in_flight if self._http else 0)

    def start(self, progress: Callable[[ModelEntry], None] | None = None) -> None:
        """Listen, then load the models, then report ready.

        Health and metadata are answered while models load.

        Parameters
        ----------
        progress
            See `ModelRepository.load_all`.

        Raises
        ------
        OSError
            An address cannot be bound.
        NotFound, InvalidArgument
            See `ModelRepository.load_all`.
        """
        options = self.options
        try:
            self._server.start(serving=False)
        except OSError:
            self.stop()
            raise
        try:
            if options.metrics_port is not None:
                self._metrics = MetricsServer(
                    self._registry, address=options.metrics_address, port=options.metrics_port
                )
            if options.http is not None:
                self._http = HttpServer(self._resources, options.http, options.access, self._registry)
            self.models.load_all(progress)
        except BaseException:
            self.stop()
            raise
        self._resources.loaded = True
        self._report_health()
        # Models come and go.
        self._server.every(1.0, self._report_health)

    def run(self, *, started: Callable[[], object] | None = None) -> None:
        """Serve until SIGTERM or SIGINT, then drain and stop. Only on the main thread, after `start`.

        Parameters
        ----------
        started
            See `yais.rpc.server.Server.run`.

        Raises
        ------
        RuntimeError
            Called on another thread; then it has stopped, too.
        """
        try:
            self._server.run(started=started)
        finally:
            self.stop()

    def stop(self) -> bool:
        """Drain and stop; return whether every request in flight ended in time. Idempotent."""
        clean = self._server.stop()
        if self._http is not None:
            self._http.stop(0.0)  # where gRPC has not started there was no drain
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        return clean

    def _drain_http(self, deadline: Deadline, hurried: threading.Event) -> bool:
        return self._http is None or self._http.stop(deadline.remaining() or 0.0, hurried)

    def _report_health(self) -> None:
        health, ready = self._server.health, self._resources.ready
        if health.serving() != ready:  # watchers are told of every report
            health.report(serving=ready)

    def __enter__(self) -> Self:
        """Start; the `with` block's end stops."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()


def _registry(models: Models, options: MetricsOptions, memory: MemoryTracker) -> CollectorRegistry:
    """Return what is told to Prometheus, on whichever port."""
    collectors: list[Collector] = [
        NvModelCollector(models, options),
        ModelCollector(models),
        MemoryCollector(memory.statistics, fallbacks),
    ]
    if options.cpu:
        collectors.append(HostCollector(options.interval))
    return registry_of(collectors)


def _local(options: ServerOptions) -> bool:
    """Return whether only this machine can reach the server."""
    hosts = [options.grpc_address, *([options.http.address] if options.http is not None else ())]
    return all(host == "localhost" or host.startswith(_UNIX) or _is_loopback(host) for host in hosts)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _transport(options: ServerOptions) -> Transport:
    if options.compression == "none":
        return options.transport
    # As gRPC maps its levels to the two algorithms.
    return replace(options.transport, compression="gzip" if options.compression == "low" else "deflate")


def _address(host: str, port: int) -> str:
    if host.startswith(_UNIX):
        return host
    if not 0 <= port < 65536:  # gRPC takes it, and listens elsewhere
        raise ValueError(f"got port {port}, expected 0 to 65535")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
