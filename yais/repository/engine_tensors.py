"""The tensors that the engine of a model has, as its configuration says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yais.core.tensor import TensorSpec
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.sequence_config import sequence_tensors
from yais.repository.tensors import spec_of

__all__ = ["engine_tensors"]

_Specs = tuple[TensorSpec, ...]


def engine_tensors(config: ModelConfig, directory: Path) -> tuple[_Specs, _Specs]:
    """Return the inputs and outputs of the engine, in the order in which it is to take and give them.

    These are the model's, in their reshaped form, then its controls and states; with the batch dimension.

    Parameters
    ----------
    directory
        Of the model.

    Raises
    ------
    InvalidArgument
        The configuration says something impossible of sequences.
    """
    batch = (-1,) if config.max_batch_size else ()
    inputs, outputs = [*map(_reshaped, config.input)], [*map(_reshaped, config.output)]
    if config.HasField("sequence_batching"):
        sequences = sequence_tensors(config, directory)
        inputs.extend(sequences.inputs)
        outputs.extend(sequences.outputs)
    return tuple(_with(batch, spec) for spec in inputs), tuple(_with(batch, spec) for spec in outputs)


def _reshaped(tensor: Any) -> TensorSpec:
    spec = spec_of(tensor)
    if not tensor.HasField("reshape"):
        return spec
    return TensorSpec(spec.name, spec.datatype, tuple(tensor.reshape.shape))


def _with(batch: tuple[int, ...], spec: TensorSpec) -> TensorSpec:
    return TensorSpec(spec.name, spec.datatype, (*batch, *spec.shape))
