"""The defaults that a configuration does not say, as Triton fills them in (kserve-v2.md, row 53)."""

from __future__ import annotations

from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.backends import backend_of
from yais.repository.devices import Devices
from yais.repository.instances import instance_groups
from yais.repository.platforms import is_ensemble
from yais.repository.sequence_config import MAX_IDLE

__all__ = ["normalise"]


def normalise(config: ModelConfig, devices: Devices) -> None:
    """Fill in the defaults of a checked configuration. What is there already stays.

    Raises
    ------
    InvalidArgument
        An instance group wants a GPU that is not there.
    """
    policy = config.version_policy
    if policy.WhichOneof("policy_choice") in {None, "latest"}:
        policy.latest.num_versions = policy.latest.num_versions or 1
    if config.HasField("dynamic_batching") and not config.dynamic_batching.preferred_batch_size:
        config.dynamic_batching.preferred_batch_size.append(config.max_batch_size)
    _normalise_sequences(config)
    if is_ensemble(config):
        config.platform = "ensemble"
        return
    backend = backend_of(config)
    config.platform, config.backend = backend.platform, backend.name
    config.default_model_filename = config.default_model_filename or backend.filename
    for memory in ("input_pinned_memory", "output_pinned_memory"):
        if not config.optimization.HasField(memory):
            getattr(config.optimization, memory).enable = True
    groups = instance_groups(config, backend.placement, devices)
    del config.instance_group[:]
    config.instance_group.extend(groups)


def _normalise_sequences(config: ModelConfig) -> None:
    if not config.HasField("sequence_batching"):
        return
    batching = config.sequence_batching
    batching.max_sequence_idle_microseconds = batching.max_sequence_idle_microseconds or MAX_IDLE
    if batching.HasField("oldest") and not batching.oldest.preferred_batch_size and config.max_batch_size:
        batching.oldest.preferred_batch_size.append(config.max_batch_size)
