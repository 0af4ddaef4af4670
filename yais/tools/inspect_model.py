"""Models in directories: their configuration, and what is in the file of a version."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from yais.build.description import ModelDescription
from yais.build.onnx_description import describe_onnx
from yais.build.plan_description import describe_plan
from yais.build.plan_record import Tensor
from yais.engines.tensorrt_kind import KIND
from yais.errors import FailedPrecondition, InvalidArgument, NotFound
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.backends import backend_of
from yais.repository.config import read_config
from yais.repository.directory import ModelDirectory
from yais.repository.platforms import is_ensemble
from yais.repository.tensors import spec_of

__all__ = ["InspectedModel", "inspect_directory", "inspect_file"]


def inspect_file(path: Path, *, load: bool) -> ModelDescription:
    """Return what is in an ONNX file or a plan.

    Raises
    ------
    NotFound, InvalidArgument
        It is not there, or neither.
    FailedPrecondition, MemoryError
        See `describe_plan`.
    """
    if path.suffix == ".onnx":
        return describe_onnx(path)
    if path.suffix in KIND.suffixes:
        return describe_plan(path, load=load)
    if not path.exists():
        raise NotFound(f"{path}: no such file")
    raise InvalidArgument(f"got {path}, expected a .onnx file, a .plan file, or the directory of a model")


@dataclass(frozen=True, slots=True)
class InspectedModel:
    """A model of a repository.

    Attributes
    ----------
    config
        As it is written.
    backend
        That runs it; "ensemble" for one that is made of others.
    versions
        That are there.
    file
        Of the version that is looked at; None if there is none.
    described
        What is in it; None where nothing can tell.
    reason
        Why nothing is said of a file that could be read, were a package installed.
    """

    config: ModelConfig
    backend: str
    versions: tuple[int, ...]
    file: Path | None
    described: ModelDescription | None
    reason: str = ""

    def facts(self) -> dict[str, Any]:
        """Return what the configuration says, besides the tensors, by name."""
        config = self.config
        groups = [json_format.MessageToDict(group) for group in config.instance_group]
        found = {
            "backend": self.backend,
            "versions": list(self.versions),
            "max batch": config.max_batch_size,
            "batching": config.WhichOneof("scheduling_choice"),
            "instances": [" ".join(f"{key}={value}" for key, value in group.items()) for group in groups],
            "parameters": [f"{key}={value.string_value}" for key, value in sorted(config.parameters.items())],
            "file": str(self.file) if self.file else None,
            "file not read": self.reason or None,
        }
        return {name: fact for name, fact in found.items() if fact not in (None, [])}

    def tensors(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the inputs and outputs that the configuration names, without the batch."""
        inputs, outputs = (
            tuple(Tensor(spec.name, spec.datatype.value, spec.shape) for spec in map(spec_of, described))
            for described in (self.config.input, self.config.output)
        )
        return inputs, outputs


def inspect_directory(path: Path, version: int | None, *, load: bool) -> InspectedModel:
    """Return what is in the directory of a model.

    Parameters
    ----------
    version
        To look at; None for the latest.

    Raises
    ------
    NotFound
        The version is not there, or its file.
    YaisError
        The configuration cannot be read; or see `inspect_file`.
    """
    directory = ModelDirectory(path.resolve())
    config = read_config(directory.config, directory.name)
    versions = tuple(directory.versions())
    if version is not None and version not in versions:
        raise NotFound(f"{path} has no version {version}, expected one of {', '.join(map(str, versions))}")
    if is_ensemble(config):
        return InspectedModel(config, "ensemble", versions, None, None)
    if not versions and not directory.config.exists():
        raise NotFound(f"{path} is no directory of a model: it has no config.pbtxt and no version")
    backend = backend_of(config)
    if not versions:
        return InspectedModel(config, backend.name, versions, None, None)
    file = directory.file(version or versions[-1], config.default_model_filename or backend.filename)
    described, reason = None, ""
    if file.suffix == ".onnx" or file.suffix in KIND.suffixes:
        try:
            described = inspect_file(file, load=load)
        except FailedPrecondition as error:
            if load:
                raise
            reason = str(error)
    return InspectedModel(config, backend.name, versions, file, described, reason)
