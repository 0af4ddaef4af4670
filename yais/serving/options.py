"""How to serve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from yais.lane import Device
from yais.repository.control import ControlMode
from yais.repository.loader import ConfigDefaults
from yais.rpc.tls import Tls
from yais.rpc.transport import Transport
from yais.serving.access import AccessOptions
from yais.serving.http.options import HttpOptions
from yais.serving.log_settings import LogOptions
from yais.serving.metrics import MetricsOptions
from yais.serving.trace_settings import TraceOptions

__all__ = ["UNIX", "ServerOptions"]

UNIX = ("unix:", "unix-abstract:")
"""How addresses begin that are sockets without a port."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How to serve.

    Attributes
    ----------
    repositories
        Directories of models.
    grpc_address, grpc_port
        Where to listen for gRPC; port 0 takes a free one. An address "unix:PATH" is a socket without a port.
    metrics_address, metrics_port
        Where to listen for Prometheus; a port of None not at all.
    frontends
        Processes that listen and decode, beside one that has the models; 0 for one process that does all. See
        `yais.serving.frontends.supervisor.Supervisor`.
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
    gpu_executions
        Batches at once on each GPU that has models: its execution tokens.
    gpu_lanes
        Batches whose data is on the way to a GPU, in it or on the way back; None for twice as many.
    gpus
        Makes the device of a GPU; see `yais.inference.sites.Sites`.
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
    frontends: int = 0
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
    gpu_executions: int = 2
    gpu_lanes: int | None = None
    gpus: Callable[[int], Device] | None = None
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
