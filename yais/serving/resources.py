"""What the contexts of the inference service share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from yais.core.clock import Deadline
from yais.inference.servable import Servable
from yais.repository.repository import LoadedModel, ModelEntry
from yais.rpc.resources import Resources
from yais.serving.cuda_shared_memory import CudaSharedMemory
from yais.serving.header_forwarding import Forward
from yais.serving.log_settings import LogSettings
from yais.serving.shared_memory import SystemSharedMemory
from yais.serving.tracer import Tracer

__all__ = ["Models", "ServingResources"]


class Models(Protocol):
    """What a server serves: a `ModelRepository`, or the models of a manager."""

    @property
    def entries(self) -> Sequence[ModelEntry]:
        """All models, by name."""

    @property
    def ready(self) -> bool:
        """Whether every model is ready."""

    def load_all(self, progress: Callable[[ModelEntry], None] | None = None) -> None:
        """Load what is not loaded yet; see `ModelRepository.load_all`."""

    def find(self, name: str, version: str = "") -> LoadedModel:
        """Return a model that takes requests; see `ModelRepository.find`."""


class ServingResources(Resources):
    """The models, and what the server says of itself.

    Parameters
    ----------
    models
        The models.
    name
        Of the server, as clients see it.
    strict_readiness
        Whether the server is only ready while every model is.
    system_memory, cuda_memory
        The shared memory of clients.
    tracer
        Traces requests, as far as its settings say.
    logging
        What is logged.
    forward
        Takes the headers of a call that become parameters of its inference requests; None if none do.
    stopping
        Says whether the server is on its way out.
    drain
        Lets end what is served by other ways than gRPC, see `Resources.drain`.

    Attributes
    ----------
    loaded
        Whether the models were given the chance to load.
    """

    def __init__(
        self,
        models: Models,
        *,
        name: str,
        strict_readiness: bool,
        system_memory: SystemSharedMemory,
        cuda_memory: CudaSharedMemory,
        tracer: Tracer,
        logging: LogSettings,
        forward: Forward | None = None,
        stopping: Callable[[], bool] = lambda: False,
        drain: Callable[[Deadline, threading.Event], bool] = lambda _deadline, _hurried: True,
    ) -> None:
        self.models = models
        self.name = name
        self.strict_readiness = strict_readiness
        self.system_memory = system_memory
        self.cuda_memory = cuda_memory
        self.tracer = tracer
        self.logging = logging
        self.forward = forward
        self.loaded = False
        self._stopping = stopping
        self._drain = drain

    def find_model(self, name: str, version: str = "") -> Servable:
        """Return a model that takes requests; see `FindModel`."""
        return self.models.find(name, version).model

    @property
    def ready(self) -> bool:
        """Whether the server takes inference requests."""
        return self.loaded and not self._stopping() and (self.models.ready or not self.strict_readiness)

    def drain(self, deadline: Deadline, hurried: threading.Event) -> bool:
        """Let end what is served by other ways than gRPC."""
        return self._drain(deadline, hurried)

    def close(self) -> None:
        """Leave the models to whose they are, and let go of the rest."""
        self.system_memory.unregister("")
        self.cuda_memory.unregister("")
        self.tracer.close()
