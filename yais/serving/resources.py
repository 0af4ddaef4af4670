"""What the contexts of the inference service share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from yais.inference.servable import Servable
from yais.repository.repository import LoadedModel, ModelEntry
from yais.rpc.resources import Resources

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

    Attributes
    ----------
    models
        The models.
    name
        Of the server, as clients see it.
    strict_readiness
        Whether the server is only ready while every model is.
    loaded
        Whether the models were given the chance to load.
    """

    def __init__(self, models: Models, *, name: str, strict_readiness: bool) -> None:
        self.models = models
        self.name = name
        self.strict_readiness = strict_readiness
        self.loaded = False

    def find_model(self, name: str, version: str = "") -> Servable:
        """Return a model that takes requests; see `FindModel`."""
        return self.models.find(name, version).model

    @property
    def ready(self) -> bool:
        """Whether the server takes inference requests."""
        return self.loaded and (self.models.ready or not self.strict_readiness)

    def close(self) -> None:
        """Leave the models to whose they are."""
