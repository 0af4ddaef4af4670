"""What the contexts of the inference service share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from yais.inference.servable import Servable
from yais.repository.repository import LoadedModel, ModelEntry
from yais.rpc.resources import Resources
from yais.serving.cuda_shared_memory import CudaSharedMemory
from yais.serving.log_settings import LogSettings
from yais.serving.shared_memory import SystemSharedMemory
from yais.serving.trace_settings import Tracer

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

    Attributes
    ----------
    loaded
        Whether the models were given the chance to load.
    stopping
        Whether the server is on its way out.
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
    ) -> None:
        self.models = models
        self.name = name
        self.strict_readiness = strict_readiness
        self.system_memory = system_memory
        self.cuda_memory = cuda_memory
        self.tracer = tracer
        self.logging = logging
        self.loaded = False
        self.stopping = False

    def find_model(self, name: str, version: str = "") -> Servable:
        """Return a model that takes requests; see `FindModel`."""
        return self.models.find(name, version).model

    @property
    def ready(self) -> bool:
        """Whether the server takes inference requests."""
        return self.loaded and not self.stopping and (self.models.ready or not self.strict_readiness)

    def close(self) -> None:
        """Leave the models to whose they are, and let go of the rest."""
        self.system_memory.unregister("")
        self.cuda_memory.unregister("")
        self.tracer.close()
