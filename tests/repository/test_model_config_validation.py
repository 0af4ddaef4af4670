"""What a configuration may not say, and what it is told."""

from __future__ import annotations

import pytest

from yais.errors import InvalidArgument
from yais.repository.config import load_override_config, parse_config

TENSOR = "input {{ name: 'X' data_type: TYPE_FP32 {} }}"
BATCHING = "max_batch_size: 8 dynamic_batching {{ {} }}"
ENSEMBLE = """
    {}
    input {{ name: 'X' data_type: TYPE_FP32 dims: 1 }}
    output {{ name: 'Y' data_type: TYPE_FP32 dims: 1 }}
    ensemble_scheduling {{ {} }}
"""
STEP = (
    "step { model_name: 'a' model_version: -1 "
    "input_map { key: 'X' value: 'X' } output_map { key: 'Y' value: 'Y' } }"
)
SLO = "parameters {{ key: 'yais.slo_batching.{}' value {{ string_value: '{}' }} }}"
LATENCY = SLO.format("latency_ms", "10")

WORKERS = "parameters { key: 'worker_process' value { string_value: 'true' } }"

VALID = [
    BATCHING.format("priority_levels: 2 default_priority_level: 2"),
    BATCHING.format("preserve_ordering: true default_queue_policy { timeout_action: DELAY }"),
    BATCHING.format("preserve_ordering: true priority_levels: 1 default_priority_level: 1"),
    TENSOR.format("dims: [ 3, 4, -1 ] format: FORMAT_NHWC"),
    TENSOR.format("dims: [ 2, -1, 6 ] reshape { shape: [ 2, -1, 3, 2 ] }"),
    TENSOR.format("dims: 1 reshape { }"),
    "version_policy { specific { versions: [ 1, 3 ] } }",
    "version_policy { all { } }",
    "version_policy { latest { num_versions: 2 } }",
    "instance_group { kind: KIND_GPU gpus: [ 0, 1 ] }",
    ENSEMBLE.format("platform: 'ensemble'", STEP),
    ENSEMBLE.format("", STEP + "max_inflight_requests: 3"),
    "response_cache { enable: true }",
    ENSEMBLE.format("response_cache { enable: true }", STEP),
    LATENCY,
    LATENCY + TENSOR.format("dims: 1024") + BATCHING.format("").replace("8", "262144"),
    "instance_group { count: 1024 }",
    WORKERS + "instance_group { count: 256 }",
    WORKERS.replace("true", "false") + "instance_group { count: 257 }",
    TENSOR.format("dims: [ 268435456 ]"),
    TENSOR.format("dims: [ -1, 268435456, -1 ]"),
    LATENCY + BATCHING.format("max_queue_delay_microseconds: 10 preferred_batch_size: 4"),
    LATENCY + SLO.format("percentile", "99.9") + SLO.format("max_delay_ms", "0"),
]

INVALID = [
    (
        BATCHING.format("priority_levels: 2"),
        "default priority level must be in range [1, 2] for 'm'",
    ),
    (
        BATCHING.format("priority_levels: 2 default_priority_level: 3"),
        "default priority level must be in range [1, 2] for 'm'",
    ),
    (
        BATCHING.format("priority_levels: 2 default_priority_level: 1 priority_queue_policy { key: 3 }"),
        "priority queue policy must have priority level in range [1, 2] for 'm'",
    ),
    (
        BATCHING.format("priority_levels: 2 default_priority_level: 1 priority_queue_policy { key: 0 }"),
        "priority queue policy must have priority level in range [1, 2] for 'm'",
    ),
    (
        BATCHING.format("default_priority_level: 1"),
        "model 'm' is configured with 'default_priority_level' but has no 'priority_levels'",
    ),
    (
        BATCHING.format("priority_queue_policy { key: 1 }"),
        "model 'm' is configured with 'priority_queue_policy' but has no 'priority_levels'",
    ),
    (
        BATCHING.format("preserve_ordering: true priority_levels: 2 default_priority_level: 1"),
        "Only one priority level is allowed when 'preserve_ordering' is true for 'm'",
    ),
    *(
        (
            BATCHING.format(f"preserve_ordering: true {policy}"),
            "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for 'm'",
        )
        for policy in (
            "default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 1 }",
            "default_queue_policy { timeout_action: DELAY allow_timeout_override: true }",
            (
                "priority_levels: 1 default_priority_level: 1 priority_queue_policy "
                "{ key: 1 value { timeout_action: DELAY default_timeout_microseconds: 1 } }"
            ),
        )
    ),
    (
        TENSOR.format("dims: [ 3, 4 ] format: FORMAT_NCHW"),
        "model 'm', tensor 'X': model input NHWC/NCHW require 3 dims for m, got 2",
    ),
    (
        TENSOR.format("dims: [ 2, 3 ] reshape { shape: [ 5 ] }"),
        "model 'm', tensor 'X' has different size for dims and reshape: got dims [2, 3] and reshape [5]",
    ),
    (
        TENSOR.format("dims: [ 2, 3 ] reshape { }"),
        "model 'm', tensor 'X' has different size for dims and reshape: got dims [2, 3] and reshape []",
    ),
    ("version_policy { specific { } }", "version_policy specific of 'm' names no version"),
    (
        "version_policy { specific { versions: [ 1, 0 ] } }",
        "got version 0 in version_policy of 'm', expected 1 or more",
    ),
    *(
        (
            f"instance_group {{ }} instance_group {{ kind: {kind} gpus: 0 }}",
            f"instance group m_1 of model m has kind {kind} but specifies one or more GPUs",
        )
        for kind in ("KIND_CPU", "KIND_MODEL")
    ),
    (
        "instance_group { name: 'g' gpus: [ 1, 1 ] }",
        "instance group g of model m got gpus [1, 1], expected different numbers from 0",
    ),
    (
        "instance_group { gpus: -1 }",
        "instance group m_0 of model m got gpus [-1], expected different numbers from 0",
    ),
    (
        "instance_group { rate_limiter { resources { count: 1 } } }",
        "instance group m_0 of model m has a rate_limiter resource without a name",
    ),
    (
        (
            "instance_group { name: 'g' rate_limiter { resources [ { name: 'R' count: 1 }, "
            "{ name: 'R' count: 2 global: true } ] } }"
        ),
        "instance group g of model m has the rate_limiter resource 'R' more than once",
    ),
    *(
        (text, f"got {count} instances of 'm' by 'instance_group', expected at most 1024")
        for text, count in (
            ("instance_group { count: 1025 }", 1025),
            ("instance_group { count: 2147483647 }", 2147483647),
            ("instance_group [ { count: 1000 }, { count: 25 } ]", 1025),
            ("instance_group { count: 600 gpus: [ 0, 1 ] }", 1200),
        )
    ),
    (
        WORKERS + "instance_group [ { count: 256 }, { } ]",
        "got 257 instances in processes of 'm' by 'instance_group', expected at most 256",
    ),
    *(
        (
            (
                "input [ { name: 'A' data_type: TYPE_INT8 dims: 1 }, "
                f"{{ name: 'X' data_type: TYPE_{kind} dims: [ {dims} ] }} ]"
            ),
            (
                f"model 'm' is configured with inputs of {size} bytes an item, expected at most {2**30}, or "
                "dimensions of any size"
            ),
        )
        for kind, dims, size in (
            ("INT8", 2**30, 2**30 + 1),
            ("STRING", 2**27, 2**30 + 1),
            ("FP64", "9223372036854775807, 3, -1", 24 * (2**63 - 1) + 1),
        )
    ),
    *(
        (text, f"got {number} for '{field}' of model 'm', expected one of {names}")
        for text, number, field, names in (
            (
                "instance_group { kind: 99 }",
                99,
                "instance_group.kind",
                "KIND_AUTO, KIND_GPU, KIND_CPU, KIND_MODEL",
            ),
            (
                BATCHING.format("default_queue_policy { timeout_action: -1 }"),
                -1,
                "dynamic_batching.default_queue_policy.timeout_action",
                "REJECT, DELAY",
            ),
            (
                BATCHING.format("priority_queue_policy { key: 1 value { timeout_action: 2 } }"),
                2,
                "dynamic_batching.priority_queue_policy.timeout_action",
                "REJECT, DELAY",
            ),
        )
    ),
    *(
        (text, f"got a NUL in '{field}' of model 'm', expected text without")
        for text, field in (
            ("default_model_filename: 'a\\000b'", "default_model_filename"),
            ("metric_tags { key: 'a\\000b' value: 'x' }", "metric_tags"),
            ("metric_tags { key: 'x' value: '\\000' }", "metric_tags"),
            ("parameters { key: 'x' value { string_value: '\\000' } }", "parameters.string_value"),
        )
    ),
    *(
        (
            LATENCY + text,
            (
                "model 'm' is configured with 'yais.slo_batching.latency_ms' and max_batch_size 0, expected "
                "a model with batches"
            ),
        )
        for text in (TENSOR.format("dims: 1"), "output { name: 'Y' data_type: TYPE_FP32 dims: 1 }")
    ),
    (
        LATENCY + TENSOR.format("dims: 1024") + BATCHING.format("").replace("8", "2147483647"),
        (
            "model 'm' is configured with 'yais.slo_batching.latency_ms', and its largest batch, which is to "
            f"be measured, has {4096 * (2**31 - 1)} bytes of inputs, expected at most {2**30}"
        ),
    ),
    (
        "response_cache { enable: true } sequence_batching { }",
        (
            "Response Cache does not currently support model m with sequence batching scheduler. "
            "Please disable the response cache."
        ),
    ),
    (
        "response_cache { enable: true } model_transaction_policy { decoupled: true }",
        (
            "Response Cache does not currently support model m with 'decoupled' transaction policy. "
            "Please disable the response cache."
        ),
    ),
    (
        "platform: 'ensemble'",
        "ensemble scheduling must be set for ensemble m whose platform is ensemble",
    ),
    (
        ENSEMBLE.format("platform: 'python'", STEP),
        "ensemble scheduling cannot be set for model 'm' whose platform is not ensemble",
    ),
    (
        ENSEMBLE.format("backend: 'python'", STEP),
        "Ensemble model 'm' must have platform type 'ensemble' and empty backend type",
    ),
    (
        ENSEMBLE.format("instance_group { }", STEP),
        "instance group should not be specified for ensemble 'm'",
    ),
    (ENSEMBLE.format("optimization { }", STEP), "optimization should not be specified for ensemble 'm'"),
    (ENSEMBLE.format("model_warmup { }", STEP), "model_warmup can not be specified for ensemble 'm'"),
    (
        ENSEMBLE.format("model_transaction_policy { decoupled: true }", STEP),
        (
            "ensemble 'm' got model_transaction_policy, default_model_filename or parameters, which only its "
            "steps' models have"
        ),
    ),
    (ENSEMBLE.format("", ""), "must specify 'step' for ensemble 'm'"),
    (
        ENSEMBLE.format("", STEP + "step { input_map { key: 'X' value: 'X' } }"),
        "must specify 'model_name' in step 1 of ensemble 'm'",
    ),
    (
        ENSEMBLE.format("", "step { model_name: 'a' }"),
        "must specify 'input_map' in step 0 of ensemble 'm'",
    ),
    (
        ENSEMBLE.format("", "step { model_name: 'a' input_map { key: 'X' value: 'X' } }"),
        "must specify 'output_map' in step 0 of ensemble 'm'",
    ),
    (
        ENSEMBLE.format("", STEP.replace("-1", "-2")),
        "got model_version -2 in step 0 of ensemble 'm', expected 1 or more, or -1 for the latest",
    ),
    (f"ensemble_scheduling {{ {STEP} }}", "must specify 'input' for ensemble 'm'"),
    (
        SLO.format("latency", "10"),
        (
            "got parameter 'yais.slo_batching.latency' for model 'm', expected one of "
            "yais.slo_batching.latency_ms, yais.slo_batching.percentile, yais.slo_batching.max_delay_ms"
        ),
    ),
    (
        SLO.format("percentile", "90"),
        (
            "model 'm' is configured with 'yais.slo_batching.percentile' but lacks "
            "'yais.slo_batching.latency_ms'"
        ),
    ),
    (
        LATENCY + "sequence_batching { }",
        (
            "model 'm' is configured with 'yais.slo_batching.latency_ms', expected dynamic_batching and no "
            "other scheduler"
        ),
    ),
    (
        LATENCY + BATCHING.format("") + "model_transaction_policy { decoupled: true }",
        (
            "model 'm' is configured with 'yais.slo_batching.latency_ms' and is decoupled, expected one that "
            "answers once"
        ),
    ),
    *(
        (
            LATENCY + BATCHING.format(text),
            (
                "model 'm' is configured with 'yais.slo_batching.latency_ms', for which "
                f"'dynamic_batching.{text.split(':')[0].split()[0]}' means nothing: expected one of the two"
            ),
        )
        for text in ("preserve_ordering: true", "default_queue_policy { max_queue_size: 3 }")
    ),
    *(
        (
            SLO.format("latency_ms", value),
            (
                f"got '{value}' for parameter 'yais.slo_batching.latency_ms' of 'm', "
                "expected milliseconds from 0.1 to 3600000"
            ),
        )
        for value in ("0", "-1", "inf", "nan", "10ms", "", "1e-7", "0.0999", "3600001", "1e300")
    ),
    *(
        (
            LATENCY + SLO.format("percentile", value),
            (
                f"got '{value}' for parameter 'yais.slo_batching.percentile' of 'm', "
                "expected a number from 1 to 100"
            ),
        )
        for value in ("0.9", "101", "nan")
    ),
    (
        LATENCY + SLO.format("max_delay_ms", "-1"),
        (
            "got '-1' for parameter 'yais.slo_batching.max_delay_ms' of 'm', expected milliseconds from 0 to "
            "3600000"
        ),
    ),
]


@pytest.mark.parametrize("text", VALID)
def test_what_is_possible(text):
    assert parse_config(text, "m").name == "m"


@pytest.mark.parametrize(("text", "why"), INVALID)
def test_what_is_impossible(text, why):
    with pytest.raises(InvalidArgument) as caught:
        parse_config(text, "m")
    assert str(caught.value) == why


def test_a_message_is_left_alone():
    config = parse_config("max_batch_size: 4", "m")
    again = parse_config(config, "m", ["max_batch_size=8"])
    assert (config.max_batch_size, again.max_batch_size) == (4, 8)


def test_json_as_a_request_to_load_brings_it():
    text = """{"max_batch_size": "16", "dynamicBatching": {}, "backend": "onnxruntime",
        "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": ["3", 4]}]}"""
    config = load_override_config(text, "m", ["dynamic_batching.max_queue_delay_microseconds=7"])
    assert (config.name, config.max_batch_size, list(config.input[0].dims)) == ("m", 16, [3, 4])
    assert config.dynamic_batching.max_queue_delay_microseconds == 7


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "got a 'config' for 'm' that is no model configuration: Failed to load JSON"),
        ('{"max_batch_sizes": 1}', 'has no field named "max_batch_sizes"'),
        ('{"max_batch_size": "many"}', "Failed to parse max_batch_size field"),
        ("[]", "got a 'config' for 'm' that is no model configuration: expected a JSON object"),
        ('""', "got a 'config' for 'm' that is no model configuration: expected a JSON object"),
        (" []", "got a 'config' for 'm' that is no model configuration: expected a JSON object"),
        ("null", "got a 'config' for 'm' that is no model configuration"),
        ("[" * 100_000, "got a 'config' for 'm' that is no model configuration: Failed to load JSON"),
        ('{"max_batch_size": ' + "9" * 5000 + "}", "Failed to load JSON"),
        ("[1]", "got a 'config' for 'm' that is no model configuration"),
        ("3", "got a 'config' for 'm' that is no model configuration"),
        ('{"max_batch_size": -1}', "'max_batch_size' must be non-negative value"),
        ('{"name": "other"}', "unexpected directory name 'm' for model 'other'"),
    ],
)
def test_json_that_is_none(text, why):
    with pytest.raises(InvalidArgument) as caught:
        load_override_config(text, "m")
    assert why in str(caught.value)
