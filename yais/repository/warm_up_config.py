"""Warm-up samples: what a configuration says of them, and their files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from yais.core.tensor import DataType
from yais.engines.engine import Array
from yais.errors import InvalidArgument
from yais.inference.warm_up import WarmUpInput, WarmUpSample
from yais.protocol.model_config_pb2 import ModelConfig
from yais.protocol.tensor_codec import decode_bytes
from yais.repository.limits import MAX_BYTES, MAX_RUNS, byte_size
from yais.repository.model_files import read_model_file
from yais.repository.tensors import DATATYPES

__all__ = ["warm_up_samples"]


def warm_up_samples(
    config: ModelConfig, directory: Path, own: Collection[str] = ()
) -> tuple[WarmUpSample, ...]:
    """Return the samples that a model is to be warmed up with.

    Parameters
    ----------
    directory
        Of the model: files are read from its `warmup`.
    own
        Inputs of the engine that requests do not have. Triton's samples name them, and they are left out.

    Raises
    ------
    InvalidArgument
        A sample is incomplete or too large, or a file cannot be read or lies elsewhere.
    """
    samples = []
    for index, sample in enumerate(config.model_warmup):
        name = sample.name or str(index)
        which = f"warm-up sample '{name}' of model '{config.name}'"
        if sample.count > MAX_RUNS:
            raise InvalidArgument(f"{which} got count {sample.count}, expected at most {MAX_RUNS}")
        # 0 is what is not said: one item, once.
        batch, count = sample.batch_size or 1, sample.count or 1
        given = {key: tensor for key, tensor in sample.inputs.items() if key not in own}
        _check(which, given, batch)
        inputs = {
            key: WarmUpInput(
                DATATYPES[tensor.data_type],
                tuple(tensor.dims),
                _data(f"{which}, input '{key}'", tensor, directory / "warmup"),
            )
            for key, tensor in given.items()
        }
        samples.append(WarmUpSample(name, inputs, batch, count))
    return tuple(samples)


def _check(which: str, given: Mapping[str, Any], batch: int) -> None:
    size = 0
    for name, tensor in given.items():
        if tensor.data_type not in DATATYPES:
            raise InvalidArgument(f"{which}, input '{name}' must specify 'data_type'")
        if any(dim < 0 for dim in tensor.dims):
            raise InvalidArgument(
                f"{which}: warmup setting expects all variable-size dimensions are specified for input "
                f"'{name}', got dims {list(tensor.dims)}"
            )
        size += batch * byte_size(DATATYPES[tensor.data_type], tensor.dims)
    if size > MAX_BYTES:
        raise InvalidArgument(f"{which} has {size} bytes of inputs, expected at most {MAX_BYTES}")


def _data(which: str, tensor: Any, folder: Path) -> Literal["zero", "random"] | bytes | Array:
    chosen = tensor.WhichOneof("input_data_type")
    if chosen is None or not getattr(tensor, chosen):
        raise InvalidArgument(f"{which} must specify 'zero_data', 'random_data' or 'input_data_file'")
    if chosen != "input_data_file":
        return "zero" if chosen == "zero_data" else "random"
    data = read_model_file(which, folder, tensor.input_data_file)
    if DATATYPES[tensor.data_type] is not DataType.BYTES:
        return data
    try:
        return decode_bytes(data)
    except InvalidArgument as error:
        raise InvalidArgument(f"{which}, file '{tensor.input_data_file}': {error}") from None
