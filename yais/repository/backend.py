"""A backend: what a kind of models is called, where it runs, and what loads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from yais.engines.engine import Engine
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.instances import Placement

__all__ = ["Backend", "LoadEngine"]


class LoadEngine(Protocol):
    """Makes the engine of a model."""

    def __call__(
        self, config: ModelConfig, version: str, path: Path, *, auto_complete: bool = True
    ) -> Engine:
        """Load a file.

        A file with a pipeline gives a `PythonPipeline`, which has to be served with the models it calls.

        Parameters
        ----------
        config
            Checked. A Python model may fill it in, if `auto_complete`.
        version
            Of the model.
        path
            Of the file.

        Raises
        ------
        YaisError
            It cannot be loaded, or not as the configuration says.
        """


@dataclass(frozen=True, slots=True)
class Backend:
    """A kind of model.

    Attributes
    ----------
    name, platform
        What configurations call it.
    filename
        Of the model's file, unless its configuration names another.
    placement
        Where its instances may be.
    warms_up
        Whether the model may be run before there are requests, without being told what with.
    load
        Makes the engine.
    """

    name: str
    platform: str
    filename: str
    placement: Placement
    warms_up: bool
    load: LoadEngine
