"""Kinds of engines: what loads which files.

Packages add kinds by entry points of the group "yais.engines".
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType

from yais.core.tensor import TensorSpec
from yais.engines.engine import Engine

__all__ = ["GROUP", "EngineKind", "EngineSettings", "broken_kinds", "engine_kinds"]

_log = logging.getLogger("yais.engines")

GROUP = "yais.engines"
"""Entry points of this group name an `EngineKind`; the name of the entry point is the kind's."""

_BUILT_IN = {"tensorrt": "yais.engines.tensorrt_kind:KIND", "pytorch": "yais.engines.torch_kind:KIND"}

_TAKEN = frozenset({"onnxruntime", "onnxruntime_onnx", "python", "ensemble", "yais"})  # and no kinds

_reading = threading.RLock()  # once, also where threads ask at once; a package that is read may ask, too


@dataclass(frozen=True)
class EngineSettings:
    """What a model's configuration says to its engine.

    Attributes
    ----------
    name, version
        Of the model.
    gpu
        That the engine is for; None for the CPUs, or for wherever it likes.
    instances
        How many batches run in the engine at once, at most.
    max_batch
        The largest batch; 0 for a model without a batch dimension, or where nothing says.
    parameters
        The model's own, without those that yais itself takes.
    inputs, outputs
        The tensors as far as they are configured, with the batch dimension.
    profiles
        The optimization profiles that the instances may use, by name or number; none for any.
    graphs
        Whether CUDA graphs are asked for.
    """

    name: str
    version: str = "1"
    gpu: int | None = None
    instances: int = 1
    max_batch: int = 0
    parameters: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    profiles: tuple[str, ...] = ()
    graphs: bool = False


@dataclass(frozen=True)
class EngineKind:
    """Makes engines of one kind of files.

    Attributes
    ----------
    name
        The backend that configurations name.
    platform
        The platform that configurations name.
    filename
        Of a model's file in the directory of a version, unless its configuration names another.
    suffixes
        Of files that `InferenceManager.register` loads by this kind, such as ".plan".
    load
        Makes an engine of a file, or of a directory; once for each GPU that has instances. Raises
        InvalidArgument if the file or a setting is wrong, and FailedPrecondition if the process lacks
        something to run it.
    cpu_instances
        Instances on the CPUs, where the configuration says none.
    uses_cpus, uses_gpus
        Where instances may be.
    warms_up
        Whether the model may be run on zeros before there are requests.
    parameters
        Those it knows; None takes any.
    alternatives
        Other names that a model's file may have where there is none of `filename`.
    """

    name: str
    platform: str
    filename: str
    suffixes: tuple[str, ...]
    load: Callable[[Path, EngineSettings], Engine]
    cpu_instances: int = 1
    uses_cpus: bool = True
    uses_gpus: bool = False
    warms_up: bool = True
    parameters: tuple[str, ...] | None = None
    alternatives: tuple[str, ...] = ()


def engine_kinds() -> Mapping[str, EngineKind]:
    """Return the kinds by name: those of yais, then those of installed packages. Read once. Thread-safe.

    What the entry points name is imported. One that cannot be used is logged as a warning and left out; see
    `broken_kinds`.
    """
    with _reading:
        return _read()[0]


def broken_kinds() -> Mapping[str, str]:
    """Return why kinds of installed packages cannot be used, by the names of their entry points."""
    with _reading:
        return _read()[1]


@functools.cache
def _read() -> tuple[Mapping[str, EngineKind], Mapping[str, str]]:
    kinds: dict[str, EngineKind] = {}
    broken: dict[str, str] = {}
    for entry in _entries():
        try:
            kind = entry.load()
            _check(entry.name, kind, kinds)
        except Exception as error:  # a package's code may raise anything
            reason = f"{type(error).__name__}: {error}"
            _log.warning("no engines of kind '%s', from %s: %s", entry.name, entry.value, reason)
            broken.setdefault(entry.name, f"{entry.value} cannot be used: {reason}")
        else:
            kinds[kind.name] = kind
    return MappingProxyType(kinds), MappingProxyType(broken)


def _entries() -> Iterator[EntryPoint]:
    for name, value in _BUILT_IN.items():
        yield EntryPoint(name, value, GROUP)
    yield from sorted(entry_points(group=GROUP))


def _check(name: str, kind: object, known: Mapping[str, EngineKind]) -> None:
    if not isinstance(kind, EngineKind):
        raise TypeError(f"got {kind!r}, expected an EngineKind")
    if kind.name != name:
        raise ValueError(f"got an entry point '{name}' for the kind '{kind.name}', expected the same name")
    if not (kind.uses_cpus or kind.uses_gpus):
        raise ValueError(f"got a kind '{name}' for neither CPUs nor GPUs, expected at least one")
    taken = _TAKEN.union(*({other.name, other.platform} for other in known.values()))
    for said in (kind.name, kind.platform):
        if said in taken:
            raise ValueError(f"there is a backend or platform '{said}' already, expected another name")
