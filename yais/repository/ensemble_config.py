"""What a configuration says of an ensemble."""

from __future__ import annotations

from yais.inference.ensemble_plan import Step
from yais.protocol.model_config_pb2 import ModelConfig

__all__ = ["ensemble_steps"]


def ensemble_steps(config: ModelConfig) -> tuple[Step, ...]:
    """Return the steps of a checked ensemble, in their order."""
    return tuple(
        Step(
            step.model_name,
            str(step.model_version) if step.model_version > 0 else "",
            dict(step.input_map),
            dict(step.output_map),
        )
        for step in config.ensemble_scheduling.step
    )
