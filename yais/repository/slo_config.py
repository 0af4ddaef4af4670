"""Latency objectives: what a configuration says of them.

Triton has no field for them, so they are parameters, which Triton leaves to the backend:

    parameters { key: "yais.slo_batching.latency_ms" value { string_value: "10" } }
"""

from __future__ import annotations

import dataclasses
import math

from yais.errors import InvalidArgument
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.inference.scheduling.slo import SloPolicy
from yais.protocol.model_config_pb2 import ModelConfig

__all__ = ["OWN_PREFIX", "SLO_KEYS", "check_slo", "slo_policy"]

OWN_PREFIX = "yais."
"""What the parameters begin with that are meant for yais and not for the backend."""

_LATENCY = "yais.slo_batching.latency_ms"
_PERCENTILE = "yais.slo_batching.percentile"
_DELAY = "yais.slo_batching.max_delay_ms"

SLO_KEYS = (_LATENCY, _PERCENTILE, _DELAY)
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
    for descriptor, _ in config.dynamic_batching.ListFields():
        if descriptor.name not in {"preferred_batch_size", "max_queue_delay_microseconds"}:
            raise InvalidArgument(
                f"model '{config.name}' is configured with '{_LATENCY}', for which "
                f"'dynamic_batching.{descriptor.name}' means nothing: expected one of the two"
            )
    _number(config, _LATENCY, 0.0, math.inf)
    _number(config, _PERCENTILE, 1.0, 100.0)
    _number(config, _DELAY, 0.0, math.inf)


def slo_policy(config: ModelConfig, batching: BatchingPolicy | None, instances: int) -> SloPolicy | None:
    """Return the objective of a completed configuration; None if it has none.

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
    latency = _number(config, _LATENCY, 0.0, math.inf)
    if latency is None:
        return None
    if batching is None:
        raise InvalidArgument(
            f"model '{config.name}' is configured with '{_LATENCY}' but not with dynamic_batching, "
            "expected both"
        )
    policy = SloPolicy(batching, max(1, round(latency * 1e6)), instances=instances)
    percentile, delay = _number(config, _PERCENTILE, 1.0, 100.0), _number(config, _DELAY, 0.0, math.inf)
    if percentile is not None:
        policy = dataclasses.replace(policy, percentile=percentile)
    if delay is not None:
        policy = dataclasses.replace(policy, max_delay=round(delay * 1e6))
    return policy


def _number(config: ModelConfig, key: str, least: float, most: float) -> float | None:
    if key not in config.parameters:
        return None
    text = config.parameters[key].string_value
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    above = key == _LATENCY  # 0 ms is no objective
    if math.isinf(number) or not least <= number <= most or (above and number == least):
        expected = f"a number from {least:g} to {most:g}" if most < math.inf else "milliseconds "
        expected += "" if most < math.inf else ("above 0" if above else "from 0")
        raise InvalidArgument(f"got '{text}' for parameter '{key}' of '{config.name}', expected {expected}")
    return number
