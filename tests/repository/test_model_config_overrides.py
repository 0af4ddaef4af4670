"""Fields of configurations, set on the command line."""

from __future__ import annotations

import pytest
from google.protobuf import text_format

from yais.errors import InvalidArgument
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.config import parse_config, read_config
from yais.repository.overrides import apply_overrides

BEFORE = """
    name: "m" max_batch_size: 4
    input { name: "X" data_type: TYPE_FP32 dims: [ 2, 3 ] }
    instance_group { count: 1 }
    dynamic_batching { preferred_batch_size: [ 2, 4 ] max_queue_delay_microseconds: 5 }
    parameters { key: "a" value { string_value: "1" } }
"""

OVERRIDES = [
    ("max_batch_size=16", "max_batch_size: 16"),
    (
        "dynamic_batching.max_queue_delay_microseconds=100",
        "dynamic_batching { max_queue_delay_microseconds: 100 }",
    ),
    ("dynamic_batching.preserve_ordering=true", "dynamic_batching { preserve_ordering: true }"),
    ("instance_group.0.count=4", "instance_group { count: 4 }"),
    ("instance_group.0.kind=KIND_GPU", "instance_group { kind: KIND_GPU }"),
    ("instance_group.0.gpus=[0, 1]", "instance_group { gpus: 0 gpus: 1 }"),
    ("instance_group.0.gpus.0=3", "instance_group { gpus: 3 }"),
    (
        "parameters.intra_op_thread_count=2",
        "parameters { key: 'intra_op_thread_count' value { string_value: '2' } }",
    ),
    ("parameters.session.a.b=2", "parameters { key: 'session.a.b' value { string_value: '2' } }"),
    ("parameters.a.string_value=x=y", "parameters { key: 'a' value { string_value: 'x=y' } }"),
    ("metric_tags.team.a=blue", "metric_tags { key: 'team.a' value: 'blue' }"),
    ("default_model_filename=12", "default_model_filename: '12'"),
    ("version_policy.all={}", "version_policy { all { } }"),
    ("response_cache.enable=true", "response_cache { enable: true }"),
    ("optimization.graph.level=-1", "optimization { graph { level: -1 } }"),
    (
        "dynamic_batching.priority_queue_policy.2.timeout_action=DELAY",
        "dynamic_batching { priority_queue_policy { key: 2 value { timeout_action: DELAY } } }",
    ),
    (
        'dynamic_batching.priority_queue_policy.2={"max_queue_size": 3}',
        "dynamic_batching { priority_queue_policy { key: 2 value { max_queue_size: 3 } } }",
    ),
    (
        'model_warmup.0={"name": "w", "batch_size": 2}',
        "model_warmup { name: 'w' batch_size: 2 }",
    ),
    (
        "optimization.execution_accelerators.gpu_execution_accelerator.0.parameters.precision_mode=FP16",
        (
            "optimization { execution_accelerators { gpu_execution_accelerator "
            "{ parameters { key: 'precision_mode' value: 'FP16' } } } }"
        ),
    ),
]


@pytest.mark.parametrize(("override", "change"), OVERRIDES)
def test_a_field_is_set_and_nothing_else(override, change):
    config = ModelConfig()
    apply_overrides(config, [override])
    assert config == text_format.Parse(change, ModelConfig())


@pytest.mark.parametrize(
    ("override", "before", "after"),
    [
        ("dynamic_batching={}", "preferred_batch_size: [ 2, 4 ] max_queue_delay_microseconds: 5", ""),
        (
            "dynamic_batching.preferred_batch_size=[4]",
            "preferred_batch_size: [ 2, 4 ]",
            "preferred_batch_size: 4",
        ),
        (
            "dynamic_batching.preferred_batch_size.0=3",
            "preferred_batch_size: [ 2",
            "preferred_batch_size: [ 3",
        ),
        ("dynamic_batching.preferred_batch_size.2=1", "[ 2, 4 ]", "[ 2, 4, 1 ]"),
        ("input.0.dims=[5]", "dims: [ 2, 3 ]", "dims: [ 5 ]"),
        ("input.0.data_type=TYPE_INT8", "TYPE_FP32", "TYPE_INT8"),
        (
            "instance_group.1.count=2",
            "instance_group { count: 1 }",
            "instance_group [ { count: 1 }, { count: 2 } ]",
        ),
        ('instance_group=[{"count": 3}]', "count: 1", "count: 3"),
        ("parameters.a=2", 'string_value: "1"', 'string_value: "2"'),
    ],
)
def test_a_field_is_replaced(override, before, after):
    assert before in BEFORE
    config = text_format.Parse(BEFORE, ModelConfig())
    apply_overrides(config, [override])
    assert config == text_format.Parse(BEFORE.replace(before, after), ModelConfig())


def test_the_last_one_wins(tmp_path):
    path = tmp_path / "config.pbtxt"
    path.write_text("max_batch_size: 4")
    assert read_config(path, "m", ["max_batch_size=8", "max_batch_size=2"]).max_batch_size == 2


def test_the_name_stays():
    for given in ("name=other", "name="):
        with pytest.raises(InvalidArgument, match="unexpected directory name 'm' for model"):
            parse_config("", "m", [given])
    assert parse_config("", "m", ["name=m"]).name == "m"


def test_the_result_is_checked():
    with pytest.raises(InvalidArgument, match="must be non-negative value"):
        parse_config("", "m", ["max_batch_size=-1"])
    with pytest.raises(InvalidArgument, match=r"'runtime', which yais does not support"):
        parse_config("", "m", ["runtime=x"])


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("max_batch_size", "got override 'max_batch_size' for 'm', expected FIELD=VALUE"),
        ("=3", "got override '=3' for 'm', expected FIELD=VALUE"),
        ("max_batch=3", "there is no field 'max_batch', did you mean 'max_batch_size' or "),
        ("zzzzzz=3", "override zzzzzz=3 of model 'm': there is no field 'zzzzzz'"),
        ("dynamic_batching.max_queue_delay=3", "did you mean 'max_queue_delay_microseconds'"),
        ("max_batch_size=many", "Failed to parse max_batch_size field"),
        ("max_batch_size=1.5", "Failed to parse max_batch_size field"),
        ("max_batch_size=", "Failed to parse max_batch_size field"),
        ("max_batch_size.x=3", "'max_batch_size' has no fields, got 'x'"),
        ("instance_group.0.kind=GPU", "Invalid enum value GPU"),
        ("instance_group.2.count=3", "got '2' as the place in 'instance_group', expected 0 to 1"),
        ("instance_group.x.count=3", "got 'x' as the place in 'instance_group', expected 0 to 1"),
        ("input.0.dims.0.x=3", "an element of 'dims' has no fields, got 'x'"),
        ("input.0.dims.0=x", "Failed to parse dims field"),
        ("dynamic_batching=3", "override dynamic_batching=3 of model 'm': "),
        ("dynamic_batching.preserve_ordering=maybe", "Failed to parse preserve_ordering field"),
        ("dynamic_batching.priority_queue_policy.x.max_queue_size=1", "got the key 'x'"),
        (f"dynamic_batching.priority_queue_policy.{'9' * 30}.max_queue_size=1", f"got the key '{'9' * 30}'"),
        (f"dynamic_batching.priority_queue_policy.{2**64}.max_queue_size=1", "alue out of range: "),
        (f"instance_group.{'9' * 5000}.count=1", "as the place in 'instance_group', expected 0 to 1"),
        ("max_batch_size=" + "9" * 5000, "Failed to parse max_batch_size field"),
        ("dynamic_batching=" + "[" * 100_000, "expected a JSON object, such as {}"),
        ("input.0.dims=" + "[" * 100_000, "of model 'm': "),
        *(
            (f"{path}={value}", "expected a JSON object, such as {}")
            for path in ("dynamic_batching", "parameters", "instance_group.0")
            for value in ("[]", '""', "", "null")
        ),
        ("dynamic_batching.priority_queue_policy.1=[]", "expected a JSON object, such as {}"),
        ("metric_tags.\udcff=x", "can't encode character"),
        ("metric_tags.x=\udcff", "can't encode character"),
        ("default_model_filename=\udcff", "Unpaired surrogate"),
        ("instance_group.0=3", "override instance_group.0=3 of model 'm': "),
    ],
)
def test_what_cannot_be_set(override, why):
    config = text_format.Parse(BEFORE, ModelConfig())
    with pytest.raises(InvalidArgument) as caught:
        apply_overrides(config, [override])
    assert why in str(caught.value)
