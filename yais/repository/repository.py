"""The model repository: loads models from directories and finds them by name and version."""

from __future__ import annotations

import enum
import logging
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from yais.core.timer import Timer
from yais.engines.engine import Engine
from yais.errors import InvalidArgument, NotFound, Unavailable, status_of
from yais.inference.model import Model
from yais.inference.tokens import Tokens
from yais.lane import Lanes
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.backends import backend_of
from yais.repository.config import complete, options, read_config, signature
from yais.repository.directory import ModelDirectory, find_models

__all__ = ["LoadedModel", "ModelEntry", "ModelRepository", "ModelState"]

_log = logging.getLogger("yais.repository")


class ModelState(enum.StrEnum):
    """Where a version of a model stands."""

    LOADING = "LOADING"
    READY = "READY"
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
    """

    model: Model
    config: ModelConfig
    labels: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """What is known of a model.

    Attributes
    ----------
    version
        The one that was or is being loaded; empty when none was found.
    reason
        Why it is not ready.
    seconds
        What loading took.
    """

    name: str
    version: str
    state: ModelState
    reason: str = ""
    loaded: LoadedModel | None = None
    seconds: float = 0.0


class ModelRepository:
    """The models of one or more directories. `find` may be called from any thread.

    Parameters
    ----------
    roots
        Directories of model directories.
    lanes, tokens
        What models run with.
    timer
        For their schedulers.
    """

    def __init__(self, roots: Iterable[Path], *, lanes: Lanes, tokens: Tokens, timer: Timer) -> None:
        self._roots = list(roots)
        self._lanes = lanes
        self._tokens = tokens
        self._timer = timer
        self._entries: dict[str, ModelEntry] = {}
        self._ready: dict[tuple[str, str], LoadedModel] = {}  # by name and version, the latest also as ""

    def __repr__(self) -> str:
        ready = sum(entry.state is ModelState.READY for entry in self.entries)
        return f"<ModelRepository: {ready} of {len(self.entries)} models ready>"

    @property
    def entries(self) -> list[ModelEntry]:
        """All models, by name."""
        return [self._entries[name] for name in sorted(self._entries)]

    @property
    def ready(self) -> bool:
        """Whether every model is ready."""
        return all(entry.state is ModelState.READY for entry in self._entries.values())

    def load_all(self, progress: Callable[[ModelEntry], None] | None = None) -> None:
        """Load the latest version of every model. One that cannot be loaded keeps no other from it.

        Parameters
        ----------
        progress
            Told each model's entry when it begins to load and when it has ended.

        Raises
        ------
        NotFound
            A root is no directory.
        InvalidArgument
            Two roots have a model of the same name.
        """
        report = progress or (lambda _entry: None)
        for directory in find_models(self._roots):
            self._load(directory, report)

    def find(self, name: str, version: str = "") -> LoadedModel:
        """Return a model that takes requests.

        Parameters
        ----------
        version
            Empty for the latest.

        Raises
        ------
        InvalidArgument
            The version is no positive number.
        NotFound
            There is no such model or version.
        Unavailable
            There is, and it is not ready.
        """
        loaded = self._ready.get((name, version))
        return loaded if loaded is not None else self._missing(name, version)

    def close(self, timeout: float) -> bool:
        """Unload every model, waiting up to `timeout` seconds for each to finish; return whether all did."""
        self._ready.clear()
        return all(
            [  # noqa: C419 - close every one
                entry.loaded.model.close(timeout)
                for entry in self._entries.values()
                if entry.loaded is not None
            ]
        )

    def _load(self, directory: ModelDirectory, report: Callable[[ModelEntry], None]) -> None:
        name = directory.name
        start = time.monotonic()
        version = ""
        try:
            version = str(directory.latest_version())
            self._entries[name] = ModelEntry(name, version, ModelState.LOADING)
            report(self._entries[name])
            loaded = self._build(directory, int(version))
        except Exception as error:
            reason = status_of(error)[1]
            _log.error("failed to load '%s' version %s: %s", name, version or "?", reason)
            entry = ModelEntry(name, version, ModelState.UNAVAILABLE, reason)
        else:
            seconds = time.monotonic() - start
            entry = ModelEntry(name, version, ModelState.READY, loaded=loaded, seconds=seconds)
            self._ready[name, ""] = self._ready[name, version] = loaded
        self._entries[name] = entry
        report(entry)

    def _build(self, directory: ModelDirectory, version: int) -> LoadedModel:
        config = read_config(directory.config, directory.name)
        backend = backend_of(config)
        path = directory.file(version, config.default_model_filename or backend.filename)
        engine = backend.load(config, str(version), path)
        try:
            loaded = self._loaded(directory, version, config, engine)
        except BaseException:
            engine.close()
            raise
        if backend.warms_up:
            _warm_up(loaded.model)
        return loaded

    def _loaded(
        self, directory: ModelDirectory, version: int, config: ModelConfig, engine: Engine
    ) -> LoadedModel:
        complete(config, engine)
        engine.select([tensor.name for tensor in config.input], [tensor.name for tensor in config.output])
        labels = {
            output.name: directory.labels(output.label_filename)
            for output in config.output
            if output.label_filename
        }
        model = Model(
            signature(config),
            str(version),
            engine,
            options(config),
            lanes=self._lanes,
            tokens=self._tokens,
            timer=self._timer,
        )
        return LoadedModel(model, config, labels)

    def _missing(self, name: str, version: str) -> LoadedModel:
        number = _version_number(version)
        loaded = self._ready.get((name, str(number) if number else ""))
        if loaded is not None:  # the version was written in another way, such as "01"
            return loaded
        entry = self._entries.get(name)
        prefix = f"Request for unknown model: '{name}'"
        if entry is None:
            raise NotFound(f"{prefix} is not found")
        if number is None:
            raise NotFound(f"{prefix} has no available versions")
        if entry.version != str(number):
            raise NotFound(f"{prefix} version {number} is not found")
        raise Unavailable(f"{prefix} version {number} is not at ready state")


def _warm_up(model: Model) -> None:
    try:
        model.warm_up()
    except Exception as error:
        # Zeros are not good input for every model; then the first requests tell how long it takes.
        _log.info("model '%s' does not take zeros: %s", model.name, error)


_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,1000}\s*")  # int itself takes underscores, and has a limit


def _version_number(version: str) -> int | None:
    if not version:
        return None
    if not _NUMBER.fullmatch(version):
        raise InvalidArgument(
            f"failed to get model version from specified version string '{version}' (details: stol), "
            "version should be an integral value > 0"
        )
    number = int(version)
    if number <= 0:
        raise InvalidArgument(
            f"invalid model version specified '{version}' , version should be an integral value > 0"
        )
    return number
