"""What a configuration says of sequences. The texts of most errors are Triton's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yais.core.tensor import DataType
from yais.errors import InvalidArgument
from yais.inference.scheduling.sequence import SequencePolicy, Strategy
from yais.inference.sequence_tensors import Control, ControlKind, SequenceTensors
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.sequence_states import sequence_states
from yais.repository.tensors import DATATYPES

__all__ = ["sequence_options"]

_MAX_IDLE = 1_000_000  # us, as in Triton

_ID_TYPES = {DataType.UINT64, DataType.INT64, DataType.UINT32, DataType.INT32, DataType.BYTES}


def sequence_options(config: ModelConfig, directory: Path) -> tuple[SequencePolicy, SequenceTensors]:
    """Return how the sequences of a model are batched, and what the model is told of them.

    Parameters
    ----------
    config
        With `sequence_batching`. What is not said has Triton's defaults.
    directory
        Of the model: initial states are read from its `initial_state`.

    Raises
    ------
    InvalidArgument
        The configuration says something impossible, or something that yais does not support.
    """
    batching = config.sequence_batching
    if batching.iterative_sequence:
        raise InvalidArgument(
            f"model '{config.name}' is configured with 'sequence_batching.iterative_sequence', which yais "
            "does not support: a model cannot have its requests scheduled again"
        )
    if config.model_transaction_policy.decoupled and config.max_batch_size > 1:
        raise InvalidArgument(
            f"got max_batch_size {config.max_batch_size} for '{config.name}', expected 0 or 1: a decoupled "
            "model with sequence batching answers one request at a time"
        )
    tensors = SequenceTensors(_controls(config), sequence_states(config, directory))
    _check_names(config, tensors)
    return _policy(config), tensors


def _policy(config: ModelConfig) -> SequencePolicy:
    batching = config.sequence_batching
    direct, oldest = batching.direct, batching.oldest
    is_oldest = batching.HasField("oldest")
    most = config.max_batch_size
    if oldest.max_candidate_sequences < 0:
        raise InvalidArgument(
            f"got max_candidate_sequences {oldest.max_candidate_sequences} for '{config.name}', expected "
            "1 or more, or 0 for the largest batch"
        )
    for size in oldest.preferred_batch_size:
        if size <= 0:
            raise InvalidArgument(
                f"sequence batching preferred batch size must be positive for {config.name}"
            )
        if size > most:
            raise InvalidArgument(
                f"sequence batching preferred batch size must be <= max batch size for {config.name}"
            )
    if not 0 <= direct.minimum_slot_utilization <= 1:
        raise InvalidArgument(
            f"sequence batching minimum slot utilization must be in range (0.0, 1.0] for {config.name}"
        )
    delay = oldest.max_queue_delay_microseconds if is_oldest else direct.max_queue_delay_microseconds
    return SequencePolicy(
        max_batch=most,
        instances=sum(group.count or 1 for group in config.instance_group) or 1,
        strategy=Strategy.OLDEST if is_oldest else Strategy.DIRECT,
        max_idle=(batching.max_sequence_idle_microseconds or _MAX_IDLE) * 1000,
        max_delay=delay * 1000,
        min_utilization=direct.minimum_slot_utilization,
        candidates=oldest.max_candidate_sequences,
        preferred=tuple(oldest.preferred_batch_size),
        preserve_ordering=oldest.preserve_ordering,
    )


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
        names = [tensor.name for tensor in given] + [spec.name for spec in added]
        for name in names:
            if names.count(name) > 1:
                raise InvalidArgument(
                    f"{kind} '{name}' of model '{config.name}' is configured more than once: as a tensor, a "
                    "sequence batching control or a state"
                )
    states = [state.output_name for state in tensors.states]
    for name in states:
        if states.count(name) > 1:
            raise InvalidArgument(
                f"state output '{name}' of model '{config.name}' is configured more than once"
            )
