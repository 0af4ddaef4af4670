"""What a configuration may not say of batches of sequences. Most texts are Triton's."""

from __future__ import annotations

from yais.errors import InvalidArgument
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.instances import least_instances
from yais.repository.limits import MAX_SLOTS
from yais.repository.tensors import says_shapes

__all__ = ["check_sequences"]


def check_sequences(config: ModelConfig) -> None:
    """Check what a configuration with `sequence_batching` says of batches. Raises InvalidArgument."""
    model, largest, batching = config.name, config.max_batch_size, config.sequence_batching
    if config.model_transaction_policy.decoupled and largest > 1:
        raise InvalidArgument(
            f"got max_batch_size {largest} for '{model}', expected 0 or 1: a decoupled model with sequence "
            "batching answers one request at a time"
        )
    if not 0 <= batching.direct.minimum_slot_utilization <= 1:
        raise InvalidArgument(
            f"sequence batching minimum slot utilization must be in range (0.0, 1.0] for {model}"
        )
    candidates = batching.oldest.max_candidate_sequences
    if candidates < 0:
        raise InvalidArgument(
            f"got max_candidate_sequences {candidates} for '{model}', expected 1 or more, or 0 for the "
            "largest batch"
        )
    for size in batching.oldest.preferred_batch_size:
        if size <= 0:
            raise InvalidArgument(f"sequence batching preferred batch size must be positive for {model}")
        if size > largest and says_shapes(config):
            raise InvalidArgument(
                f"sequence batching preferred batch size must be <= max batch size for {model}"
            )
    slots = (candidates or max(largest, 1)) * least_instances(config)
    if slots > MAX_SLOTS:
        raise InvalidArgument(
            f"got {slots} sequences at once for '{model}', by max_candidate_sequences or max_batch_size and "
            f"the instances, expected at most {MAX_SLOTS}"
        )
