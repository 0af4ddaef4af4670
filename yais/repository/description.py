"""Configurations of models that have no file to say it."""

from __future__ import annotations

from typing import Any

from yais.core.tensor import TensorSpec
from yais.inference.model import Model
from yais.protocol import model_config_pb2
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.tensors import TYPES

__all__ = ["described"]


def described(model: Model) -> ModelConfig:
    """Return the configuration that a model in memory would have."""
    signature = model.signature
    config = ModelConfig(name=signature.name, backend="yais", max_batch_size=signature.max_batch)
    config.version_policy.latest.num_versions = 1
    _describe(config.input, signature.inputs)
    _describe(config.output, signature.outputs)
    config.instance_group.add(
        name=signature.name,
        count=model.options.instances,
        kind=model_config_pb2.ModelInstanceGroup.KIND_CPU,
    )
    batching = model.options.batching
    if batching is not None:
        config.dynamic_batching.preferred_batch_size.extend(batching.preferred or (batching.max_batch,))
        config.dynamic_batching.max_queue_delay_microseconds = batching.max_delay // 1000
    if model.decoupled:
        config.model_transaction_policy.decoupled = True
    return config


def _describe(tensors: Any, specs: tuple[TensorSpec, ...]) -> None:
    for spec in specs:
        tensors.add(name=spec.name, data_type=TYPES[spec.datatype], dims=spec.shape)
