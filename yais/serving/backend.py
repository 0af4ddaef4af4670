"""What is behind the front doors: models, their resources, and the metrics of them."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable, Iterable

from prometheus_client.registry import Collector

from yais.core.clock import Deadline
from yais.core.gpus import open_nvml
from yais.memory.cuda.device import cuda_usage
from yais.memory.fallbacks import fallbacks
from yais.memory.tracked import MemoryTracker
from yais.serving.cuda_shared_memory import CudaSharedMemory
from yais.serving.exemplars import Exemplars
from yais.serving.gpu_metrics import GpuCollector, PinnedMemoryCollector
from yais.serving.header_forwarding import forwarded
from yais.serving.host_metrics import HostCollector
from yais.serving.log_settings import LogSettings
from yais.serving.metrics import MetricsOptions, ModelCollector
from yais.serving.nv_metrics import NvModelCollector
from yais.serving.options import UNIX, ServerOptions
from yais.serving.resources import Models, ServingResources
from yais.serving.shared_memory import SystemSharedMemory
from yais.serving.tracer import Tracer
from yais.telemetry.exposition import exposition
from yais.telemetry.memory import MemoryCollector
from yais.telemetry.metrics import MetricsServer, registry_of

__all__ = ["Backend"]


class Backend:
    """Models and what serving them needs, but for what listens to clients.

    Parameters
    ----------
    models
        What to serve. Closing them is left to whose they are.
    options
        How; the repositories, and where to listen for requests, are not looked at.
    memory
        What the models have of host memory, for the metrics. That of GPUs is the process's: `cuda_usage`.
    stopping, drain
        See `FrontResources`.
    collectors
        Of further metrics.

    Attributes
    ----------
    resources
        What contexts use. Who opens the front doors closes them.
    """

    def __init__(
        self,
        models: Models,
        options: ServerOptions,
        *,
        memory: MemoryTracker,
        stopping: Callable[[], bool],
        drain: Callable[[Deadline, threading.Event], bool] = lambda _deadline, _hurried: True,
        collectors: Iterable[Collector] = (),
    ) -> None:
        self._options = options
        allowed = _local(options) if options.allow_client_shm is None else options.allow_client_shm
        self.resources = ServingResources(
            models,
            name=options.name,
            strict_readiness=options.strict_readiness,
            system_memory=SystemSharedMemory(allowed=allowed),
            cuda_memory=CudaSharedMemory(allowed=allowed),
            tracer=Tracer(options.trace, models.find),
            logging=LogSettings(options.logging),
            stopping=stopping,
            drain=drain,
            forward=forwarded(
                grpc=options.header_forward_pattern,
                http=options.http.header_forward_pattern if options.http is not None else "",
            ),
        )
        exemplars = self.resources.tracer.exemplars
        self._registry = registry_of([*_collectors(models, options.metrics, memory, exemplars), *collectors])
        self._metrics: MetricsServer | None = None

    def __repr__(self) -> str:
        return f"<Backend of {self.resources.models!r}>"

    @property
    def metrics_port(self) -> int | None:
        """The port of the metrics, once they are offered; None when there are none."""
        return self._metrics.port if self._metrics else None

    def metrics(self) -> str:
        """Return all metrics of now as Prometheus' text. Thread-safe."""
        return exposition(self._registry)

    def open_metrics(self) -> None:
        """Offer the metrics, if the options say so. Raises OSError if the address cannot be bound."""
        options = self._options
        if options.metrics_port is not None:
            self._metrics = MetricsServer(
                self._registry, address=options.metrics_address, port=options.metrics_port
            )

    def close_metrics(self) -> None:
        """Offer the metrics no longer. Idempotent."""
        metrics, self._metrics = self._metrics, None
        if metrics is not None:
            metrics.close()


def _collectors(
    models: Models, options: MetricsOptions, memory: MemoryTracker, exemplars: Exemplars
) -> list[Collector]:
    """Return what tells Prometheus, on whichever port."""
    collectors: list[Collector] = [
        NvModelCollector(models, options),
        ModelCollector(models, exemplars),
        MemoryCollector(lambda: {**memory.statistics(), **cuda_usage()}, fallbacks),
        PinnedMemoryCollector(memory.statistics),
    ]
    if options.cpu:
        collectors.append(HostCollector(options.interval))
    if options.gpu and (nvml := open_nvml()) is not None:
        collectors.append(GpuCollector(nvml, options.interval))
    return collectors


def _local(options: ServerOptions) -> bool:
    """Return whether only this machine can reach the server."""
    hosts = [options.grpc_address, *([options.http.address] if options.http is not None else ())]
    return all(host == "localhost" or host.startswith(UNIX) or _is_loopback(host) for host in hosts)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
