"""What a configuration says of sequences. The texts of most errors are Triton's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yais.core.tensor import DataType
from yais.errors import InvalidArgument
from yais.inference.scheduling.sequence import SequencePolicy, Strategy
from yais.inference.sequence_tensors import Control, ControlKind, SequenceTensors
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.names import repeated
from yais.repository.sequence_states import sequence_states
from yais.repository.tensors import DATATYPES

__all__ = ["MAX_IDLE", "sequence_policy", "sequence_tensors"]

MAX_IDLE = 1_000_000
"""Microseconds without a request after which a sequence is given up, as in Triton."""

_ID_TYPES = {DataType.UINT64, DataType.INT64, DataType.UINT32, DataType.INT32, DataType.BYTES}


def sequence_policy(config: ModelConfig, instances: int) -> SequencePolicy:
    """Return how the sequences of a model are batched; the configuration has been checked and completed."""
    batching = config.sequence_batching
    direct, oldest = batching.direct, batching.oldest
    is_oldest = batching.HasField("oldest")
    delay = oldest.max_queue_delay_microseconds if is_oldest else direct.max_queue_delay_microseconds
    return SequencePolicy(
        max_batch=config.max_batch_size,
        instances=instances,
        strategy=Strategy.OLDEST if is_oldest else Strategy.DIRECT,
        max_idle=(batching.max_sequence_idle_microseconds or MAX_IDLE) * 1000,
        max_delay=delay * 1000,
        min_utilization=direct.minimum_slot_utilization,
        candidates=oldest.max_candidate_sequences,
        preferred=tuple(oldest.preferred_batch_size),
        preserve_ordering=oldest.preserve_ordering,
    )


def sequence_tensors(config: ModelConfig, directory: Path) -> SequenceTensors:
    """Return what a model is told of its sequences, and keeps for them.

    Parameters
    ----------
    directory
        Of the model: initial states are read from its `initial_state`.

    Raises
    ------
    InvalidArgument
        A control or a state is impossible, or a file cannot be read.
    """
    tensors = SequenceTensors(_controls(config), sequence_states(config, directory))
    _check_names(config, tensors)
    return tensors


def _controls(config: ModelConfig) -> tuple[Control, ...]:
    model = config.name
    controls: list[Control] = []
    for given in config.sequence_batching.control_input:
        if not given.name:
            raise InvalidArgument(f"sequence batching control tensor must have a name for {model}")
        if any(control.name == given.name for control in controls) or len(given.control) > 1:
            raise InvalidArgument(
                f"sequence batching control tensor '{given.name}' is specified for multiple control kinds "
                f"for {model}"
            )
        if not given.control:
            raise InvalidArgument(
                f"sequence batching control tensor '{given.name}' must have a control for {model}"
            )
        control = _control(given.name, given.control[0], model)
        if any(other.kind is control.kind for other in controls):
            raise InvalidArgument(
                f"sequence batching specifies multiple {control.kind.value} tensors for {model}"
            )
        controls.append(control)
    return tuple(controls)


def _control(name: str, control: Any, model: str) -> Control:
    kind = ControlKind(type(control).Kind.Name(control.kind))
    values = {
        field: list(getattr(control, field))
        for field in ("int32_false_true", "fp32_false_true", "bool_false_true")
        if getattr(control, field)
    }
    where = f"for {kind.value} for {model}"
    if kind is ControlKind.CORRID:
        if values:
            raise InvalidArgument(
                "sequence batching must not specify either 'int32_false_true', 'fp32_false_true' or "
                f"'bool_false_true' {where}"
            )
        datatype = DATATYPES.get(control.data_type)
        if datatype not in _ID_TYPES or datatype is None:
            raise InvalidArgument(
                f"unexpected data type for control {kind.value} for {model}. Allowed data types are "
                "TYPE_UINT64, TYPE_INT64, TYPE_UINT32, TYPE_INT32 and TYPE_STRING"
            )
        return Control(name, kind, datatype)
    if not values:
        raise InvalidArgument(
            "sequence batching must specify either 'int32_false_true', 'fp32_false_true' or "
            f"'bool_false_true' {where}"
        )
    if len(values) > 1:
        both = " and ".join(f"'{field}'" for field in values)
        raise InvalidArgument(f"sequence batching specifies both {both} {where}")
    ((field, false_true),) = values.items()
    if len(false_true) != 2:
        raise InvalidArgument(f"sequence batching control '{field}' must have exactly 2 entries {where}")
    datatype = DataType(field.removesuffix("_false_true").upper())
    return Control(name, kind, datatype, *false_true)


def _check_names(config: ModelConfig, tensors: SequenceTensors) -> None:
    """Check that no two inputs of the engine, and no two of its outputs, have one name."""
    for kind, given, added in (
        ("input", config.input, tensors.inputs),
        ("output", config.output, tensors.outputs),
    ):
        name = repeated([*(tensor.name for tensor in given), *(spec.name for spec in added)])
        if name is not None:
            raise InvalidArgument(
                f"{kind} '{name}' of model '{config.name}' is configured more than once: as a tensor, a "
                "sequence batching control or a state"
            )
    name = repeated([state.output_name for state in tensors.states])
    if name is not None:
        raise InvalidArgument(f"state output '{name}' of model '{config.name}' is configured more than once")
