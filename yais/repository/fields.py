"""The fields of model configurations: which are honoured, and which are refused and why.

Every field is in one of the two tables; nothing is ignored in silence. Fields are named as one writes them,
without the places in lists and the keys in maps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.message import Message

from yais.errors import InvalidArgument
from yais.protocol.model_config_pb2 import ModelConfig

__all__ = ["HONOURED", "REFUSED", "check_fields"]

_TREE = {
    "": "name platform backend max_batch_size default_model_filename metric_tags",
    "version_policy": "latest latest.num_versions all specific specific.versions",
    "input": "name data_type format dims optional reshape reshape.shape",
    "output": "name data_type dims label_filename reshape reshape.shape",
    "instance_group": "name count kind gpus profile",
    "instance_group.rate_limiter": "priority resources resources.name resources.count resources.global",
    "optimization": "graph graph.level",
    "optimization.input_pinned_memory": "enable",
    "optimization.output_pinned_memory": "enable",
    "optimization.cuda": "graphs",
    "optimization.execution_accelerators": "",
    "optimization.execution_accelerators.gpu_execution_accelerator": "name parameters",
    "optimization.execution_accelerators.cpu_execution_accelerator": "name parameters",
    "dynamic_batching": (
        "preferred_batch_size max_queue_delay_microseconds preserve_ordering priority_levels "
        "default_priority_level"
    ),
    "dynamic_batching.default_queue_policy": (
        "timeout_action default_timeout_microseconds allow_timeout_override max_queue_size"
    ),
    "dynamic_batching.priority_queue_policy": (
        "timeout_action default_timeout_microseconds allow_timeout_override max_queue_size"
    ),
    "sequence_batching": "max_sequence_idle_microseconds",
    "sequence_batching.direct": "max_queue_delay_microseconds minimum_slot_utilization",
    "sequence_batching.oldest": (
        "max_candidate_sequences preferred_batch_size max_queue_delay_microseconds preserve_ordering"
    ),
    "sequence_batching.control_input": "name",
    "sequence_batching.control_input.control": (
        "kind int32_false_true fp32_false_true bool_false_true data_type"
    ),
    "sequence_batching.state": "input_name output_name data_type dims",
    "sequence_batching.state.initial_state": "name data_type dims zero_data data_file",
    "ensemble_scheduling": "max_inflight_requests",
    "ensemble_scheduling.step": "model_name model_version input_map output_map",
    "parameters": "string_value",
    "model_warmup": "name batch_size count",
    "model_warmup.inputs": "data_type dims zero_data random_data input_data_file",
    "model_transaction_policy": "decoupled",
    "response_cache": "enable",
}

HONOURED = frozenset(
    name
    for parent, children in _TREE.items()
    for name in (parent, *(f"{parent}.{child}".lstrip(".") for child in children.split()))
    if name
)
"""What a configuration may say."""

REFUSED = {
    "runtime": "each backend has one runtime here",
    "input.is_shape_tensor": "shape tensors are TensorRT's",
    "input.allow_ragged_batch": "requests of different shapes run in different batches",
    "input.is_non_linear_format_io": "non-linear formats are TensorRT's",
    "output.is_shape_tensor": "shape tensors are TensorRT's",
    "output.is_non_linear_format_io": "non-linear formats are TensorRT's",
    "batch_input": "it describes ragged batches, which there are none of",
    "batch_output": "it describes ragged batches, which there are none of",
    "instance_group.secondary_devices": "there is no backend for such devices",
    "instance_group.passive": "every instance takes requests",
    "instance_group.host_policy": "where threads and memory lie is said to the server",
    "optimization.priority": "models are equals; requests have 'dynamic_batching.priority_levels'",
    "optimization.cuda.busy_wait_events": "threads wait for events asleep, so that others have the CPU",
    "optimization.cuda.graph_spec": "graphs are made of the batches that come, after a warm-up",
    "optimization.cuda.output_copy_stream": "each lane has a stream, so copies run beside the others' work",
    "optimization.gather_kernel_buffer_threshold": "batches are not gathered by a kernel on the GPU",
    "optimization.eager_batching": "an instance is given a batch when it is free to run it",
    "sequence_batching.iterative_sequence": "a model does not queue requests; it may answer several times",
    "sequence_batching.state.use_same_buffer_for_input_output": (
        "the two are different memory, so that a batch that fails changes nothing"
    ),
    "sequence_batching.state.use_growable_memory": "states are in the host's memory, which grows as needed",
    "ensemble_scheduling.step.model_namespace": "model names are unique over all repositories",
    "cc_model_filenames": "a model has one file for all devices",
    "model_operations": "there is no backend that takes libraries of operators",
    "model_repository_agents": "there are no repository agents",
    "model_metrics": "histograms have the buckets of the server, for all models",
}
"""What a configuration may not say, with all that is below it, and why."""


def check_fields(config: ModelConfig) -> None:
    """Check that every field that is set is honoured, and that names and numbers of enumerations are some.

    Raises
    ------
    InvalidArgument
        One is not; the message names it and says why.
    """
    for name, field, values in _fields(config):
        if name in REFUSED:
            raise InvalidArgument(
                f"model '{config.name}' is configured with '{name}', which yais does not support: "
                f"{REFUSED[name]}"
            )
        for value in values:
            if isinstance(value, str) and "\0" in value:
                raise InvalidArgument(
                    f"got a NUL in '{name}' of model '{config.name}', expected text without"
                )
            if field.enum_type is not None and value not in field.enum_type.values_by_number:
                expected = ", ".join(field.enum_type.values_by_name)
                raise InvalidArgument(
                    f"got {value} for '{name}' of model '{config.name}', expected one of {expected}"
                )


def _fields(message: Message, prefix: str = "") -> Iterator[tuple[str, Any, list[Any]]]:
    """Give every field that is set, in the message and those within it: name, descriptor and values.

    Keys of maps are among the values.
    """
    for field, value in message.ListFields():
        name = prefix + field.name
        if isinstance(value, Mapping):
            values = [*value.keys(), *value.values()]
        else:
            values = list(value) if field.is_repeated else [value]
        yield name, field, values
        for child in values:
            if isinstance(child, Message):
                yield from _fields(child, f"{name}.")
