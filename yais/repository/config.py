"""Model configurations: `config.pbtxt` read and checked, and filled in from the model itself.

A configuration is kept as Triton's own message, since clients ask for it. What Triton accepts and yais
does not do is refused by name (`yais.repository.fields`); nothing is ignored in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from google.protobuf import json_format, text_format

from yais.errors import InvalidArgument
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.completion import DEFAULT_MAX_BATCH_SIZE, complete
from yais.repository.directory import ModelDirectory
from yais.repository.engine_tensors import engine_tensors
from yais.repository.ensemble_config import ensemble_steps
from yais.repository.model_options import options, signature
from yais.repository.overrides import apply_overrides
from yais.repository.platforms import detect_backend
from yais.repository.validation import check, check_engine_fields

__all__ = [
    "DEFAULT_MAX_BATCH_SIZE",
    "complete",
    "engine_tensors",
    "ensemble_steps",
    "load_override_config",
    "options",
    "parse_config",
    "read_config",
    "signature",
]


def read_config(path: Path, name: str, overrides: Sequence[str] = ()) -> ModelConfig:
    """Read a configuration; an absent file gives an empty one.

    Where it does not say which backend the model has, the files in the directories of its versions do:
    `model.py`, and no `model.onnx`, makes a Python model, `model.plan` one of TensorRT.

    Parameters
    ----------
    path
        Of the config.pbtxt.
    name
        Of the model's directory.
    overrides
        Fields to set instead, each as "path=value"; see `apply_overrides`.

    Raises
    ------
    InvalidArgument
        It cannot be read, says something impossible, or something yais does not support.
    """
    config = ModelConfig()
    if path.exists():
        try:
            text_format.Parse(path.read_text(encoding="utf-8"), config)
        except (text_format.ParseError, OSError, UnicodeDecodeError) as error:
            raise InvalidArgument(f"failed to read text proto from {path}: {error}") from None
    config = parse_config(config, name, overrides)
    _detect(config, path.parent)
    return config


def parse_config(source: str | ModelConfig, name: str, overrides: Sequence[str] = ()) -> ModelConfig:
    """Return a checked configuration.

    Parameters
    ----------
    source
        As in a config.pbtxt, or as a message, which is left alone.
    name
        Of the model.
    overrides
        See `read_config`.

    Raises
    ------
    InvalidArgument
        It cannot be read, says something impossible, or something yais does not support.
    """
    config = ModelConfig()
    if isinstance(source, ModelConfig):
        config.CopyFrom(source)
    else:
        try:
            text_format.Parse(source, config)
        except text_format.ParseError as error:
            raise InvalidArgument(f"failed to read the configuration of '{name}': {error}") from None
    _check_name(config.name or name, name)
    config.name = name
    apply_overrides(config, overrides)
    _check_name(config.name, name)
    check(config)
    return config


def _check_name(said: str, name: str) -> None:
    if said != name:
        raise InvalidArgument(
            f"unexpected directory name '{name}' for model '{said}', directory name must equal model name"
        )


def load_override_config(
    text: str, name: str, overrides: Sequence[str] = (), directory: Path | None = None
) -> ModelConfig:
    """Return the configuration that a request to load a model brings as JSON, checked.

    Numbers may be written as text (kserve-v2.md, row 11), and fields as in config.pbtxt or in camelCase.

    Parameters
    ----------
    text
        The JSON.
    name, overrides
        See `read_config`.
    directory
        Of the model: its files say the backend if the configuration does not.

    Raises
    ------
    InvalidArgument
        It cannot be read, says something impossible, or something yais does not support.
    """
    config = ModelConfig()
    what = f"got a 'config' for '{name}' that is no model configuration"
    try:
        json_format.Parse(text, config)
    except json_format.ParseError as error:
        raise InvalidArgument(f"{what}: {str(error).splitlines()[0]}") from None
    if not text.lstrip().startswith("{"):  # an empty list or text passes for an empty message
        raise InvalidArgument(f"{what}: expected a JSON object")
    config = parse_config(config, name, overrides)
    if directory is not None:
        _detect(config, directory)
    return config


def _detect(config: ModelConfig, directory: Path) -> None:
    if directory.is_dir():
        versions = ModelDirectory(directory).versions()
        names = {file.name for version in versions for file in (directory / str(version)).iterdir()}
        detect_backend(config, names)
    check_engine_fields(config, detected=True)
