"""What the contexts of the inference service share."""

from __future__ import annotations

from yais.repository.repository import ModelRepository
from yais.rpc.resources import Resources

__all__ = ["ServingResources"]


class ServingResources(Resources):
    """The models, and what the server says of itself.

    Attributes
    ----------
    repository
        The models.
    name
        Of the server, as clients see it.
    strict_readiness
        Whether the server is only ready while every model is.
    loaded
        Whether the models were given the chance to load.
    """

    def __init__(self, repository: ModelRepository, *, name: str, strict_readiness: bool) -> None:
        self.repository = repository
        self.name = name
        self.strict_readiness = strict_readiness
        self.loaded = False

    @property
    def ready(self) -> bool:
        """Whether the server takes inference requests."""
        return self.loaded and (self.repository.ready or not self.strict_readiness)

    def close(self) -> None:
        """Unload the models."""
        self.repository.close(timeout=5.0)
