"""What a repository knows of a version of a model."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from yais.inference.servable import Servable
from yais.protocol.model_config_pb2 import ModelConfig

__all__ = ["UNLOADED", "LoadedModel", "ModelEntry", "ModelState"]

UNLOADED = "unloaded"
"""Reason of a version that is not ready because it need not be; Triton's word."""


class ModelState(enum.StrEnum):
    """Where a version of a model stands."""

    UNKNOWN = "UNKNOWN"
    """It is a directory that nobody has asked to load."""
    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    """It takes no requests any more, and those in flight have not ended yet."""
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A version of a model that takes requests.

    Attributes
    ----------
    config
        Completed and normalised.
    labels
        For each output with a label file, its lines.
    composed
        Whether it runs other models of the repository.
    key
        Tells it from all others, without keeping it in memory.
    """

    model: Servable
    config: ModelConfig
    labels: dict[str, list[str]] = field(default_factory=dict)
    composed: bool = False
    key: object = field(default_factory=object)


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """What is known of a version of a model.

    Attributes
    ----------
    version
        Empty when there is none to name: none was found, or none was asked for.
    reason
        Why it is not ready; or for one that is, why the newer files of the model could not be loaded.
    loaded
        What takes the requests, if it is ready.
    seconds
        What loading took.
    """

    name: str
    version: str
    state: ModelState
    reason: str = ""
    loaded: LoadedModel | None = None
    seconds: float = 0.0

    @property
    def ready(self) -> bool:
        """Whether it answers requests."""
        return self.state is ModelState.READY and not (self.loaded is not None and self.loaded.model.lost)

    @property
    def as_wanted(self) -> bool:
        """Whether it is loaded, or need not be."""
        return (
            self.state in {ModelState.READY, ModelState.UNKNOWN, ModelState.UNLOADING}
            or self.reason == UNLOADED
        )
