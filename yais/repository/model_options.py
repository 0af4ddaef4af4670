"""What a completed configuration says of how a model is served."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yais.engines.engine import Engine
from yais.errors import InvalidArgument
from yais.inference.layout import Signature
from yais.inference.loading import engine_profiles
from yais.inference.model_options import ModelOptions
from yais.inference.rate_limiter import RateNeeds
from yais.inference.reshape import Reshapes
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.inference.scheduling.queue_policy import QueuePolicy, TimeoutAction
from yais.protocol import model_config_pb2
from yais.protocol.model_config_pb2 import ModelConfig, ModelQueuePolicy
from yais.repository.instances import group_places
from yais.repository.sequence_config import sequence_policy, sequence_tensors
from yais.repository.slo_config import slo_policy
from yais.repository.tensors import spec_of
from yais.repository.warm_up_config import warm_up_samples

__all__ = ["options", "signature"]


def signature(config: ModelConfig, engine: Engine | None = None) -> Signature:
    """Return what a completed configuration says of inputs and outputs, and the engine of their sizes."""
    plain = [spec_of(each) for each in (*config.input, *config.output) if not each.HasField("reshape")]
    bounds = engine_profiles(engine, plain, batching=bool(config.max_batch_size)) if engine else {}
    return Signature(
        profiles=bounds,
        name=config.name,
        inputs=tuple(spec_of(tensor) for tensor in config.input),
        outputs=tuple(spec_of(tensor) for tensor in config.output),
        max_batch=config.max_batch_size,
        optional=frozenset(tensor.name for tensor in config.input if tensor.optional),
    )


def options(config: ModelConfig, directory: Path = Path()) -> ModelOptions:
    """Return what a completed configuration says of scheduling.

    Parameters
    ----------
    directory
        Of the model, with the files that the configuration names.

    Raises
    ------
    InvalidArgument
        Something is impossible, or a file cannot be read.
    """
    instances = sum(len(group_places(group)) for group in config.instance_group)
    sequences, tensors = None, None
    if config.HasField("sequence_batching"):
        sequences, tensors = sequence_policy(config, instances), sequence_tensors(config, directory)
    batching = _batching(config) if config.HasField("dynamic_batching") else None
    slo = slo_policy(config, batching, instances)
    own = [spec.name for spec in tensors.inputs] if tensors else []
    return ModelOptions(
        batching=None if slo else batching,
        instances=instances,
        sequences=sequences,
        sequence_tensors=tensors,
        slo=slo,
        reshapes=_reshapes(config),
        cache=config.response_cache.enable,
        rate=_rate(config),
        warm_up=warm_up_samples(config, directory, own),
    )


def _batching(config: ModelConfig) -> BatchingPolicy:
    batching = config.dynamic_batching
    try:
        return BatchingPolicy(
            max_batch=config.max_batch_size,
            preferred=tuple(batching.preferred_batch_size),
            max_delay=batching.max_queue_delay_microseconds * 1000,
            preserve_ordering=batching.preserve_ordering,
            priority_levels=batching.priority_levels,
            default_priority=batching.default_priority_level,
            default_queue_policy=_queue_policy(batching.default_queue_policy),
            queue_policies={
                level: _queue_policy(policy) for level, policy in batching.priority_queue_policy.items()
            },
        )
    except ValueError as error:
        raise InvalidArgument(f"dynamic_batching of model '{config.name}': {error}") from None


def _queue_policy(policy: ModelQueuePolicy) -> QueuePolicy:
    delay = policy.timeout_action == model_config_pb2.ModelQueuePolicy.DELAY
    return QueuePolicy(
        timeout_action=TimeoutAction.DELAY if delay else TimeoutAction.REJECT,
        default_timeout=policy.default_timeout_microseconds * 1000,
        allow_timeout_override=policy.allow_timeout_override,
        max_size=policy.max_queue_size,
    )


def _reshapes(config: ModelConfig) -> Reshapes | None:
    inputs, outputs = _shapes(config.input), _shapes(config.output)
    if not any(shape is not None for shape in (*inputs, *outputs)):
        return None
    return Reshapes(inputs, outputs)


def _shapes(tensors: Sequence[Any]) -> tuple[tuple[int, ...] | None, ...]:
    return tuple(tuple(tensor.reshape.shape) if tensor.HasField("reshape") else None for tensor in tensors)


def _rate(config: ModelConfig) -> tuple[RateNeeds, ...]:
    """Return what each instance needs, in the order of `places`; nothing if no group says anything."""
    if not any(group.HasField("rate_limiter") for group in config.instance_group):
        return ()
    return tuple(
        RateNeeds(
            {resource.name: resource.count for resource in group.rate_limiter.resources},
            group.rate_limiter.priority,
            # `global` is a word of Python's
            frozenset(each.name for each in group.rate_limiter.resources if getattr(each, "global")),
            "" if gpu is None else str(gpu),
        )
        for group in config.instance_group
        for gpu in group_places(group)
    )
