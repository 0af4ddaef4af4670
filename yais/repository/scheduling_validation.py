"""What a configuration may not say of scheduling. The texts are Triton's where it has one."""

from __future__ import annotations

from yais.errors import InvalidArgument
from yais.protocol.model_config_pb2 import ModelConfig, ModelDynamicBatching, ModelQueuePolicy
from yais.repository.sequence_validation import check_sequences
from yais.repository.slo_config import check_slo

__all__ = ["check_scheduling"]


def check_scheduling(config: ModelConfig) -> None:
    """Check what a configuration says of batching, ensembles and the cache. Raises InvalidArgument."""
    if config.HasField("dynamic_batching"):
        _check_sizes(config)
        _check_levels(config)
        if config.dynamic_batching.preserve_ordering:
            _check_order(config)
    if config.HasField("sequence_batching"):
        check_sequences(config)
    if config.HasField("ensemble_scheduling"):
        _check_ensemble(config)
    elif config.platform == "ensemble":
        raise InvalidArgument(
            f"ensemble scheduling must be set for ensemble {config.name} whose platform is ensemble"
        )
    check_slo(config)
    _check_cache(config)


def _check_sizes(config: ModelConfig) -> None:
    name = config.name
    if config.max_batch_size < 1:
        raise InvalidArgument(
            f"dynamic batching needs a batch dimension: got max_batch_size {config.max_batch_size} for "
            f"'{name}', expected at least 1"
        )
    for size in config.dynamic_batching.preferred_batch_size:
        if size <= 0:
            raise InvalidArgument(f"dynamic batching preferred size must be positive for '{name}'")
        if size > config.max_batch_size:
            raise InvalidArgument(f"dynamic batching preferred size must be <= max batch size for '{name}'")


def _check_levels(config: ModelConfig) -> None:
    batching = config.dynamic_batching
    levels = batching.priority_levels
    if not levels:
        _check_no_levels(config.name, batching)
        return
    if not 1 <= batching.default_priority_level <= levels:
        raise InvalidArgument(f"default priority level must be in range [1, {levels}] for '{config.name}'")
    for level in batching.priority_queue_policy:
        if not 1 <= level <= levels:
            raise InvalidArgument(
                f"priority queue policy must have priority level in range [1, {levels}] for '{config.name}'"
            )


def _check_no_levels(name: str, batching: ModelDynamicBatching) -> None:
    for field, value in (
        ("default_priority_level", batching.default_priority_level),
        ("priority_queue_policy", batching.priority_queue_policy),
    ):
        if value:
            raise InvalidArgument(f"model '{name}' is configured with '{field}' but has no 'priority_levels'")


def _check_order(config: ModelConfig) -> None:
    batching = config.dynamic_batching
    if batching.priority_levels > 1:
        raise InvalidArgument(
            f"Only one priority level is allowed when 'preserve_ordering' is true for '{config.name}'"
        )
    for policy in (batching.default_queue_policy, *batching.priority_queue_policy.values()):
        times_out = policy.default_timeout_microseconds or policy.allow_timeout_override
        if times_out and policy.timeout_action == ModelQueuePolicy.DELAY:
            raise InvalidArgument(
                "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for "
                f"'{config.name}'"
            )


def _check_ensemble(config: ModelConfig) -> None:
    name, ensemble = config.name, config.ensemble_scheduling
    if config.platform not in {"", "ensemble"}:
        raise InvalidArgument(
            f"ensemble scheduling cannot be set for model '{name}' whose platform is not ensemble"
        )
    if config.backend:
        raise InvalidArgument(
            f"Ensemble model '{name}' must have platform type 'ensemble' and empty backend type"
        )
    if config.instance_group:
        raise InvalidArgument(f"instance group should not be specified for ensemble '{name}'")
    if config.HasField("optimization"):
        raise InvalidArgument(f"optimization should not be specified for ensemble '{name}'")
    if config.model_warmup:
        raise InvalidArgument(f"model_warmup can not be specified for ensemble '{name}'")
    for field, tensors in (("input", config.input), ("output", config.output)):
        if not tensors:
            raise InvalidArgument(f"must specify '{field}' for ensemble '{name}'")
        if any(tensor.HasField("reshape") for tensor in tensors):
            raise InvalidArgument(f"'reshape' can not be specified for ensemble '{name}'")
    if config.model_transaction_policy.decoupled or config.default_model_filename or config.parameters:
        raise InvalidArgument(
            f"ensemble '{name}' got model_transaction_policy, default_model_filename or parameters, which "
            "only its steps' models have"
        )
    if not ensemble.step:
        raise InvalidArgument(f"must specify 'step' for ensemble '{name}'")
    for index, step in enumerate(ensemble.step):
        for field in ("model_name", "input_map", "output_map"):
            if not getattr(step, field):
                raise InvalidArgument(f"must specify '{field}' in step {index} of ensemble '{name}'")
        if step.model_version < 0 and step.model_version != -1:
            raise InvalidArgument(
                f"got model_version {step.model_version} in step {index} of ensemble '{name}', expected 1 or "
                "more, or -1 for the latest"
            )


def _check_cache(config: ModelConfig) -> None:
    if not config.response_cache.enable:
        return
    what = None
    if config.HasField("sequence_batching"):
        what = "with sequence batching scheduler"
    elif config.model_transaction_policy.decoupled:
        what = "with 'decoupled' transaction policy"
    if what:
        raise InvalidArgument(
            f"Response Cache does not currently support model {config.name} {what}. Please disable the "
            "response cache."
        )
