"""Configurations of models that have no file to say it."""

from __future__ import annotations

from typing import Any

from yais.core.tensor import TensorSpec
from yais.inference.model import Model
from yais.inference.model_options import ModelOptions
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.inference.scheduling.queue_policy import QueuePolicy, TimeoutAction
from yais.inference.servable import Servable
from yais.protocol import model_config_pb2
from yais.protocol.model_config_pb2 import ModelConfig, ModelDynamicBatching, ModelQueuePolicy
from yais.repository.tensors import TYPES

__all__ = ["described"]


def described(model: Servable) -> ModelConfig:
    """Return the configuration that a model in memory would have."""
    signature = model.signature
    config = ModelConfig(name=signature.name, backend="yais", max_batch_size=signature.max_batch)
    config.version_policy.latest.num_versions = 1
    _describe(config.input, signature.inputs)
    _describe(config.output, signature.outputs)
    if isinstance(model, Model):
        _describe_options(config, model.options)
    if model.decoupled:
        config.model_transaction_policy.decoupled = True
    return config


def _describe_options(config: ModelConfig, options: ModelOptions) -> None:
    kind = model_config_pb2.ModelInstanceGroup.KIND_CPU
    config.instance_group.add(name=config.name, count=options.instances, kind=kind)
    batching = options.slo.batching if options.slo is not None else options.batching
    if batching is not None:
        _describe_batching(config.dynamic_batching, batching)


def _describe(tensors: Any, specs: tuple[TensorSpec, ...]) -> None:
    for spec in specs:
        tensors.add(name=spec.name, data_type=TYPES[spec.datatype], dims=spec.shape)


def _describe_batching(described: ModelDynamicBatching, batching: BatchingPolicy) -> None:
    described.preferred_batch_size.extend(batching.preferred or (batching.max_batch,))
    described.max_queue_delay_microseconds = batching.max_delay // 1000
    described.preserve_ordering = batching.preserve_ordering
    described.priority_levels = batching.priority_levels
    described.default_priority_level = batching.default_priority
    if batching.default_queue_policy != QueuePolicy():
        _describe_queue(described.default_queue_policy, batching.default_queue_policy)
    for level, policy in batching.queue_policies.items():
        _describe_queue(described.priority_queue_policy[level], policy)


def _describe_queue(described: ModelQueuePolicy, policy: QueuePolicy) -> None:
    described.SetInParent()
    if policy.timeout_action is TimeoutAction.DELAY:
        described.timeout_action = ModelQueuePolicy.DELAY
    described.default_timeout_microseconds = policy.default_timeout // 1000
    described.allow_timeout_override = policy.allow_timeout_override
    described.max_queue_size = policy.max_size
