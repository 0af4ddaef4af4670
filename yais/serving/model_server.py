"""The gRPC service of some models: KServe v2, health, metrics; start, drain and stop."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from yais.memory.fallbacks import fallbacks
from yais.memory.tracked import MemoryTracker
from yais.protocol import kserve_pb2
from yais.protocol.infer_request import decode_infer_request
from yais.repository.loader import ConfigDefaults
from yais.repository.repository import ControlMode, ModelEntry
from yais.rpc.server import Server
from yais.rpc.service import Service
from yais.rpc.tls import Tls
from yais.rpc.transport import Transport
from yais.serving.access import AccessOptions
from yais.serving.cuda_shared_memory import CudaSharedMemory
from yais.serving.http.server import HttpOptions
from yais.serving.infer import InferContext, encode_response
from yais.serving.log_settings import LogOptions, LogSettings
from yais.serving.metadata import (
    ModelConfigContext,
    ModelMetadataContext,
    ModelReadyContext,
    ServerLiveContext,
    ServerMetadataContext,
    ServerReadyContext,
)
from yais.serving.metrics import MetricsOptions, ModelCollector
from yais.serving.model_control import (
    RepositoryIndexContext,
    RepositoryModelLoadContext,
    RepositoryModelUnloadContext,
)
from yais.serving.resources import Models, ServingResources
from yais.serving.shared_memory import SystemSharedMemory
from yais.serving.statistics import ModelStatisticsContext
from yais.serving.trace_settings import TraceOptions, Tracer
from yais.telemetry.memory import MemoryCollector
from yais.telemetry.metrics import MetricsServer

__all__ = ["ModelServer", "ServerOptions"]


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How to serve.

    Attributes
    ----------
    repositories
        Directories of models.
    grpc_address, grpc_port
        Where to listen for gRPC; port 0 takes a free one.
    metrics_address, metrics_port
        Where to listen for Prometheus; a port of None not at all.
    name
        Of the server, as clients see it; programs written for Triton look for "triton".
    strict_readiness
        Whether the server is only ready while every model is.
    infer_contexts
        Inference requests in flight at most; more wait in gRPC core.
    grace
        Seconds that requests in flight may take when the server stops.
    drain_delay
        Seconds between reporting not ready and refusing requests.
    control, poll_seconds, load, load_threads
        Which models are loaded, and when; see `ModelRepository`.
    defaults
        What is done to the configurations of all models.
    cache_size
        Bytes of the response cache; 0 for none.
    rate_limit
        How many there are of the resources that models share, by name, or name and device; None does not
        limit models.
    http
        How to serve HTTP; None does not.
    tls
        Certificates of gRPC; None for none.
    access
        Who may do what.
    allow_client_shm
        Whether clients may have the server use shared memory; None if all its addresses are of this machine.
    header_forward_pattern
        Regular expression; gRPC metadata that matches it becomes parameters of inference requests.
    compression
        Of inference responses over gRPC: "none", "low", "medium" or "high".
    transport
        How connections of gRPC are kept.
    trace, logging, metrics
        What is traced, logged and counted.
    """

    repositories: tuple[Path, ...] = ()
    grpc_address: str = "0.0.0.0"
    grpc_port: int = 8001
    metrics_address: str = "0.0.0.0"
    metrics_port: int | None = 8002
    name: str = "triton"
    strict_readiness: bool = True
    infer_contexts: int = 1024
    grace: float = 30.0
    drain_delay: float = 0.0
    control: ControlMode = ControlMode.NONE
    poll_seconds: float = 15.0
    load: tuple[str, ...] = ()
    load_threads: int = 4
    defaults: ConfigDefaults = field(default_factory=ConfigDefaults)
    cache_size: int = 0
    rate_limit: Mapping[str | tuple[str, str], int] | None = None
    http: HttpOptions | None = None
    tls: Tls | None = None
    access: AccessOptions = field(default_factory=AccessOptions)
    allow_client_shm: bool | None = None
    header_forward_pattern: str = ""
    compression: str = "none"
    transport: Transport = field(default_factory=Transport)
    trace: TraceOptions = field(default_factory=TraceOptions)
    logging: LogOptions = field(default_factory=LogOptions)
    metrics: MetricsOptions = field(default_factory=MetricsOptions)


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
        self._memory = memory
        allowed = _local(options) if options.allow_client_shm is None else options.allow_client_shm
        self._resources = ServingResources(
            models,
            name=options.name,
            strict_readiness=options.strict_readiness,
            system_memory=SystemSharedMemory(allowed=allowed),
            cuda_memory=CudaSharedMemory(allowed=allowed),
            tracer=Tracer(options.trace, models.find),
            logging=LogSettings(options.logging),
        )
        self._server = Server(
            _address(options.grpc_address, options.grpc_port),
            resources=self._resources,
            max_message_bytes=None,
            grace=options.grace,
            drain_delay=options.drain_delay,
        )
        self._server.add(_service(options.infer_contexts))
        self._metrics: MetricsServer | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._server!r}, {self.models!r}>"

    @property
    def port(self) -> int:
        """The gRPC port, once started."""
        return self._server.port

    @property
    def metrics_port(self) -> int | None:
        """The port of the metrics, once started; None when there are none."""
        return self._metrics.port if self._metrics else None

    @property
    def in_flight(self) -> int:
        """Requests being served now, of every kind."""
        return self._server.in_flight

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
                    [ModelCollector(self.models), MemoryCollector(self._memory.statistics, fallbacks)],
                    address=options.metrics_address,
                    port=options.metrics_port,
                )
            self.models.load_all(progress)
        except BaseException:
            self.stop()
            raise
        self._resources.loaded = True
        self._report_health()
        # Models come and go.
        self._server.every(1.0, self._report_health)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain and stop. Only on the main thread, after `start`.

        Raises
        ------
        RuntimeError
            Called on another thread; then it has stopped, too.
        """
        try:
            self._server.run()
        finally:
            self.stop()

    def stop(self) -> bool:
        """Drain and stop; return whether every request in flight ended in time. Idempotent."""
        clean = self._server.stop()
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        return clean

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


def _local(options: ServerOptions) -> bool:
    """Return whether only this machine can reach the server."""
    hosts = [options.grpc_address, *([options.http.address] if options.http is not None else ())]
    return all(host == "localhost" or _is_loopback(host) for host in hosts)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _address(host: str, port: int) -> str:
    if not 0 <= port < 65536:  # gRPC takes it, and listens elsewhere
        raise ValueError(f"got port {port}, expected 0 to 65535")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _service(infer_contexts: int) -> Service:
    service = Service(kserve_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"])
    service.register(
        "ModelInfer",
        InferContext,
        contexts=infer_contexts,
        deserialize=decode_infer_request,
        serialize=encode_response,
    )
    for context in (
        ServerLiveContext,
        ServerReadyContext,
        ModelReadyContext,
        ServerMetadataContext,
        ModelMetadataContext,
        ModelConfigContext,
        ModelStatisticsContext,
        RepositoryIndexContext,
        RepositoryModelLoadContext,
        RepositoryModelUnloadContext,
    ):
        # The class is named for the RPC it serves.
        service.register(context.__name__.removesuffix("Context"), context, contexts=16)
    return service
