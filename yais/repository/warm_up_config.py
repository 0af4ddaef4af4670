"""Warm-up samples: what a configuration says of them, and their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from yais.errors import InvalidArgument
from yais.inference.warm_up import WarmUpInput, WarmUpSample
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.tensors import DATATYPES

__all__ = ["warm_up_samples"]


def warm_up_samples(config: ModelConfig, directory: Path) -> tuple[WarmUpSample, ...]:
    """Return the samples that a model is to be warmed up with.

    Parameters
    ----------
    directory
        Of the model: files are read from its `warmup`.

    Raises
    ------
    InvalidArgument
        A sample is incomplete, or a file cannot be read or lies elsewhere.
    """
    samples = []
    for index, sample in enumerate(config.model_warmup):
        name = sample.name or str(index)
        which = f"warm-up sample '{name}' of model '{config.name}'"
        inputs = {
            key: _input(f"{which}, input '{key}'", given, directory) for key, given in sample.inputs.items()
        }
        # 0 is what is not said: one item, once.
        samples.append(WarmUpSample(name, inputs, sample.batch_size or 1, sample.count or 1))
    return tuple(samples)


def _input(which: str, given: Any, directory: Path) -> WarmUpInput:
    if given.data_type not in DATATYPES:
        raise InvalidArgument(f"{which} must specify 'data_type'")
    for size in given.dims:
        if size < 0:
            raise InvalidArgument(f"{which} got dims {list(given.dims)}, expected sizes from 0")
    chosen = given.WhichOneof("input_data_type")
    if chosen is None or not getattr(given, chosen):
        raise InvalidArgument(f"{which} must specify 'zero_data', 'random_data' or 'input_data_file'")
    data: Literal["zero", "random"] | bytes
    if chosen == "input_data_file":
        data = _contents(which, directory / "warmup", given.input_data_file)
    else:
        data = "zero" if chosen == "zero_data" else "random"
    return WarmUpInput(DATATYPES[given.data_type], tuple(given.dims), data)


def _contents(which: str, folder: Path, name: str) -> bytes:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InvalidArgument(f"{which} got the file '{name}', expected one in {folder}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{which}: cannot read '{name}': {error}") from None
