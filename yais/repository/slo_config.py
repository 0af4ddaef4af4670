"""Latency objectives: what a configuration says of them.

Triton has no field for them, so they are parameters, which Triton leaves to the backend:

    parameters { key: "yais.slo_batching.latency_ms" value { string_value: "10" } }
"""

from __future__ import annotations

import math

from yais.errors import InvalidArgument
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.inference.scheduling.slo import SloPolicy
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.limits import MAX_BYTES, byte_size
from yais.repository.tensors import DATATYPES, says_shapes

__all__ = ["OWN_PREFIX", "SLO_KEYS", "check_slo", "slo_policy"]

OWN_PREFIX = "yais."
"""What the parameters begin with that are meant for yais and not for the backend."""

_LATENCY = "yais.slo_batching.latency_ms"
_PERCENTILE = "yais.slo_batching.percentile"
_DELAY = "yais.slo_batching.max_delay_ms"

_HOUR = 3_600_000  # ms

_RANGES = {_LATENCY: (0.1, _HOUR), _PERCENTILE: (1, 100), _DELAY: (0, _HOUR)}

SLO_KEYS = tuple(_RANGES)
"""The parameters of a latency objective."""


def check_slo(config: ModelConfig) -> None:
    """Check what a configuration says of a latency objective.

    Raises
    ------
    InvalidArgument
        A number is impossible, a key unknown, or the model is not batched dynamically.
    """
    own = [key for key in config.parameters if key.startswith(OWN_PREFIX)]
    for key in own:
        if key not in SLO_KEYS:
            raise InvalidArgument(
                f"got parameter '{key}' for model '{config.name}', expected one of {', '.join(SLO_KEYS)}"
            )
    if not own:
        return
    if _LATENCY not in own:
        raise InvalidArgument(f"model '{config.name}' is configured with '{own[0]}' but lacks '{_LATENCY}'")
    if config.WhichOneof("scheduling_choice") not in {None, "dynamic_batching"}:
        raise InvalidArgument(
            f"model '{config.name}' is configured with '{_LATENCY}', expected dynamic_batching and no other "
            "scheduler"
        )
    if config.model_transaction_policy.decoupled:
        raise InvalidArgument(
            f"model '{config.name}' is configured with '{_LATENCY}' and is decoupled, expected one that "
            "answers once"
        )
    if not config.max_batch_size and says_shapes(config):
        raise InvalidArgument(
            f"model '{config.name}' is configured with '{_LATENCY}' and max_batch_size 0, expected a model "
            "with batches"
        )
    for descriptor, _ in config.dynamic_batching.ListFields():
        if descriptor.name not in {"preferred_batch_size", "max_queue_delay_microseconds"}:
            raise InvalidArgument(
                f"model '{config.name}' is configured with '{_LATENCY}', for which "
                f"'dynamic_batching.{descriptor.name}' means nothing: expected one of the two"
            )
    for key in own:
        _number(config, key)
    _check_size(config)


def _check_size(config: ModelConfig) -> None:
    """Check the inputs of the largest batch, which is measured when the model is loaded."""
    item = sum(byte_size(DATATYPES[tensor.data_type], tensor.dims) for tensor in config.input)
    if item * config.max_batch_size > MAX_BYTES:
        raise InvalidArgument(
            f"model '{config.name}' is configured with '{_LATENCY}', and its largest batch, which is to be "
            f"measured, has {item * config.max_batch_size} bytes of inputs, expected at most {MAX_BYTES}"
        )


def slo_policy(config: ModelConfig, batching: BatchingPolicy | None, instances: int) -> SloPolicy | None:
    """Return the objective of a checked and completed configuration; None if it has none.

    Parameters
    ----------
    batching
        How requests are batched without it.
    instances
        Batches that may run at once.

    Raises
    ------
    InvalidArgument
        There is an objective, and requests are not batched.
    """
    latency = _number(config, _LATENCY)
    if latency is None:
        return None
    if batching is None:
        raise InvalidArgument(
            f"model '{config.name}' is configured with '{_LATENCY}' but not with dynamic_batching, "
            "expected both"
        )
    percentile, delay = _number(config, _PERCENTILE), _number(config, _DELAY)
    return SloPolicy(
        batching,
        round(latency * 1e6),
        instances=instances,
        max_delay=round((delay or 0.0) * 1e6),
        **({} if percentile is None else {"percentile": percentile}),
    )


def _number(config: ModelConfig, key: str) -> float | None:
    if key not in config.parameters:
        return None
    text = config.parameters[key].string_value
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    least, most = _RANGES[key]
    if not least <= number <= most:
        unit = "a number" if key == _PERCENTILE else "milliseconds"
        raise InvalidArgument(
            f"got '{text}' for parameter '{key}' of '{config.name}', expected {unit} from {least} to {most}"
        )
    return number
