"""Tensors as a configuration writes them."""

from __future__ import annotations

from typing import Any

from yais.core.tensor import DataType, TensorSpec
from yais.protocol import model_config_pb2
from yais.protocol.model_config_pb2 import ModelConfig

__all__ = ["DATATYPES", "TYPES", "says_shapes", "spec_of"]

TYPES = {
    DataType(name.removeprefix("TYPE_")): number
    for name, number in model_config_pb2.DataType.items()
    if name not in {"TYPE_INVALID", "TYPE_STRING"}
} | {DataType.BYTES: model_config_pb2.TYPE_STRING}
"""Numbers of data types in configurations."""

DATATYPES = {number: datatype for datatype, number in TYPES.items()}
"""Data types by these numbers."""


def spec_of(tensor: Any) -> TensorSpec:
    """Return what a configuration says of an input or output, without a batch dimension."""
    return TensorSpec(tensor.name, DATATYPES[tensor.data_type], tuple(tensor.dims))


def says_shapes(config: ModelConfig) -> bool:
    """Return whether a configuration itself says if the model has batches; else the model says it."""
    return bool(config.input or config.output or config.max_batch_size)
