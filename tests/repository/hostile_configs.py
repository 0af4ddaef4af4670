"""Reads configurations with numbers that nobody can want, within little memory and time.

A program of its own, since it limits its process: `python hostile_configs.py EXAMPLES`.
"""

from __future__ import annotations

import re
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor as Field
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from yais.core.tensor import DataType, TensorSpec
from yais.errors import YaisError
from yais.inference.model_options import adapters_of, orders_of, queue_of
from yais.inference.warm_up import zeros
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.backends import backend_of
from yais.repository.config import complete, engine_tensors, ensemble_steps, options, parse_config, signature
from yais.repository.devices import Devices
from yais.repository.fields import REFUSED
from yais.repository.instances import places
from yais.repository.onnx_config import onnx_options
from yais.repository.platforms import is_ensemble

MEMORY = 2 << 30  # bytes more than there are at the start
CPU = 100  # seconds

LIMITS = {
    Field.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    Field.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    Field.CPPTYPE_UINT32: (0, 2**32 - 1),
    Field.CPPTYPE_UINT64: (0, 2**64 - 1),
}

NAMES = ("X", "Y", "Z")
TEXTS = (
    *NAMES,
    "",
    "1",
    "9" * 5000,
    "1e-7",
    "true",
    "a\0b",
    "../x",
    "/dev/zero",
    "onnxruntime",
    "python",
    "tensorrt",
)
KEYS = (
    *NAMES,
    "intra_op_thread_count",
    "worker_process",
    "yais.slo_batching.latency_ms",
    "yais.slo_batching.percentile",
)

TENSORS = """
    input { name: "X" data_type: TYPE_FP32 dims: 4 }
    output { name: "Y" data_type: TYPE_FP32 dims: 4 }
"""

BASES = (
    "",
    """
    max_batch_size: 8
    instance_group { count: 2 }
    dynamic_batching { preferred_batch_size: 4 max_queue_delay_microseconds: 100 priority_levels: 2
      default_priority_level: 1 priority_queue_policy { key: 1 value { max_queue_size: 4 } } }
    parameters { key: "intra_op_thread_count" value { string_value: "1" } }
    """
    + TENSORS,
    """
    max_batch_size: 8 dynamic_batching { }
    parameters { key: "yais.slo_batching.latency_ms" value { string_value: "10" } }
    """
    + TENSORS,
    """
    max_batch_size: 8
    model_warmup { name: "w" batch_size: 2 count: 3
      inputs { key: "X" value { data_type: TYPE_FP32 dims: 4 random_data: true } } }
    instance_group { count: 2 rate_limiter { priority: 2 resources { name: "R" count: 4 } } }
    """
    + TENSORS,
    """
    max_batch_size: 4
    sequence_batching {
      oldest { max_candidate_sequences: 8 }
      state { input_name: "U" output_name: "V" data_type: TYPE_STRING dims: 4 }
      state { input_name: "S" output_name: "T" data_type: TYPE_FP32 dims: 4
        initial_state { name: "z" data_type: TYPE_FP32 dims: 4 zero_data: true } }
    }
    """
    + TENSORS,
    """
    max_batch_size: 4 instance_group { count: 2 }
    sequence_batching { direct { minimum_slot_utilization: 0.5 } }
    """
    + TENSORS,
    """
    backend: "python" instance_group { count: 2 }
    parameters { key: "worker_process" value { string_value: "true" } }
    """
    + TENSORS,
    """
    ensemble_scheduling { step { model_name: "a" input_map { key: "X" value: "X" }
      output_map { key: "Y" value: "Y" } } }
    """
    + TENSORS,
)


@dataclass
class Engine:
    """A model that is what its configuration says."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def scalars(field):
    """Return values of a field that holds no message: plain ones mostly, or nothing would get far."""
    if field.cpp_type in LIMITS:
        least, most = LIMITS[field.cpp_type]
        return st.sampled_from([1, 1, 2, 4, 8]) | st.sampled_from([least, 0, 2**20, most // 2, most])
    if field.cpp_type == Field.CPPTYPE_ENUM:
        return st.sampled_from([*field.enum_type.values_by_number, 99])
    if field.cpp_type == Field.CPPTYPE_BOOL:
        return st.booleans()
    if field.cpp_type == Field.CPPTYPE_FLOAT:
        return st.sampled_from([0.0, 0.5, 1.0, -1.0, 1e38, float("nan"), float("inf")])
    return st.sampled_from(NAMES) | st.sampled_from(TEXTS)


@st.composite
def changed(draw, text):
    """Change some fields of a configuration, wherever they are, but for those that are refused by name."""
    config = text_format.Parse(text, ModelConfig())
    for _ in range(draw(st.integers(1, 4))):
        change(draw, config)
    return config


def change(draw, message, prefix=""):
    """Set one field of a message, or one within it."""
    fields = [each for each in message.DESCRIPTOR.fields if prefix + each.name not in REFUSED]
    if not fields:
        return
    # What is there is what has an effect.
    there = [field for field, _ in message.ListFields() if field in fields] or fields
    field = draw(st.sampled_from(there) | st.sampled_from(fields))
    place, inner = getattr(message, field.name), f"{prefix}{field.name}."
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        chosen = abs(draw(scalars(key))) if key.cpp_type in LIMITS else draw(st.sampled_from(KEYS))
        if value.message_type is None:
            place[chosen] = draw(scalars(value))
        else:
            change(draw, place[chosen], inner)
    elif field.message_type is not None and field.is_repeated:
        number = draw(st.integers(0, len(place)))
        change(draw, place[number] if number < len(place) else place.add(), inner)
    elif field.message_type is not None:
        place.SetInParent()
        change(draw, place, inner)
    elif field.is_repeated:
        place.extend(draw(st.lists(scalars(field), min_size=1, max_size=3)))
    else:
        setattr(message, field.name, draw(scalars(field)))


def serve(config: str | ModelConfig) -> str:
    """Do what a load does, but for running the model."""
    directory = Path("/nowhere")
    config = parse_config(config, "m")
    if is_ensemble(config):
        complete(config)
        ensemble_steps(config)
        return "ensemble"
    backend = backend_of(config)
    places(config, backend.placement, Devices.here())
    inputs, outputs = engine_tensors(config, directory)
    batching = (TensorSpec("X", DataType.FP32, (-1, 4)),)
    complete(config, Engine(inputs or batching, outputs or batching), directory=directory)
    engine_tensors(config, directory)
    if backend.name == "onnxruntime":
        onnx_options(config)
    given, described = options(config, directory), signature(config)
    queue_of(given, "m")
    orders_of(given)
    adapters_of(given, described)
    zeros(described, described.max_batch if given.slo is not None else 1)
    return "served"


def main(examples: int) -> None:
    """Fail with the configuration that is not refused as it should be, or takes too much."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))
    found = {"served": 0, "ensemble": 0, "refused": 0}

    def run(config):
        try:
            end = serve(config)
        except YaisError:
            end = "refused"
        found[end] += 1

    for text in BASES:
        assert serve(text) in {"served", "ensemble"}
        for number in re.finditer(r"(?<=: )\d+", text):
            for extreme in ("0", "-1", "1000000000", *(str(most) for _, most in LIMITS.values())):
                run(text[: number.start()] + extreme + text[number.end() :])

    @seed(1)
    @settings(max_examples=examples, deadline=2000, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(BASES).flatmap(changed))
    def check(config):
        run(config)

    check()
    print(found)


if __name__ == "__main__":
    main(int(sys.argv[1]))
