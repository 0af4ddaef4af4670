"""What a configuration means: instances and their places, schedulers, tensors, ONNX Runtime."""

from __future__ import annotations

import dataclasses
import re

import pytest

from yais.core.tensor import DataType, TensorSpec
from yais.engines.onnx_options import OnnxOptions, OnnxProvider
from yais.errors import InvalidArgument
from yais.inference.ensemble_plan import Step
from yais.inference.rate_limiter import RateNeeds
from yais.inference.reshape import Reshapes
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.inference.scheduling.queue_policy import QueuePolicy, TimeoutAction
from yais.inference.scheduling.slo import SloPolicy
from yais.inference.warm_up import WarmUpInput, WarmUpSample
from yais.memory.cuda.toolkit import why_no_cuda
from yais.protocol.model_config_pb2 import ModelInstanceGroup
from yais.repository.config import ensemble_steps, options, parse_config, signature
from yais.repository.devices import Devices
from yais.repository.instances import Placement, instance_groups, places
from yais.repository.onnx_config import onnx_options

CPU, GPU, MODEL = ModelInstanceGroup.KIND_CPU, ModelInstanceGroup.KIND_GPU, ModelInstanceGroup.KIND_MODEL

CUDA = frozenset({"CUDAExecutionProvider", "CPUExecutionProvider"})
NO_GPU = Devices((), CUDA)
NO_CUDA = Devices((0, 1), frozenset({"CPUExecutionProvider"}))
TWO_GPUS = Devices((0, 1), CUDA)
ONNX = Placement(cpu_instances=2, uses_gpus=True)
PYTHON = Placement(cpu_instances=1, uses_gpus=False)


def config(text, *overrides):
    return parse_config(text, "m", overrides)


def refusal(function, *arguments):
    with pytest.raises(InvalidArgument) as caught:
        function(*arguments)
    return str(caught.value)


# Instances


@pytest.mark.parametrize(
    ("text", "placement", "devices", "expected"),
    [
        ("", ONNX, NO_GPU, [None, None]),
        ("", ONNX, NO_CUDA, [None, None]),
        ("", PYTHON, TWO_GPUS, [None]),
        ("", ONNX, TWO_GPUS, [0, 0, 1, 1]),
        ("instance_group { count: 1 }", ONNX, TWO_GPUS, [0, 1]),
        ("instance_group { count: 2 }", ONNX, TWO_GPUS, [0, 0, 1, 1]),
        ("instance_group { count: 2 gpus: 1 }", ONNX, TWO_GPUS, [1, 1]),
        ("instance_group { gpus: 1 }", ONNX, TWO_GPUS, [1, 1]),
        ("instance_group { kind: KIND_CPU }", ONNX, TWO_GPUS, [None, None]),
        ("instance_group { kind: KIND_MODEL }", ONNX, TWO_GPUS, [None]),
        ("instance_group { kind: KIND_MODEL count: 3 }", PYTHON, NO_GPU, [None] * 3),
        (
            "instance_group [ { kind: KIND_GPU gpus: 1 }, { kind: KIND_CPU count: 1 } ]",
            ONNX,
            TWO_GPUS,
            [1, 1, None],
        ),
    ],
)
def test_where_instances_are(text, placement, devices, expected):
    assert places(config(text), placement, devices) == expected


def test_groups_say_what_they_are():
    groups = instance_groups(
        config("instance_group [ { count: 3 }, { name: 'b' kind: KIND_CPU } ]"), ONNX, TWO_GPUS
    )
    assert [(group.name, group.kind, group.count, list(group.gpus)) for group in groups] == [
        ("m_0", GPU, 3, [0, 1]),
        ("b", CPU, 2, []),
    ]
    (only,) = instance_groups(config(""), PYTHON, NO_GPU)
    assert (only.name, only.kind, only.count) == ("m", CPU, 1)


@pytest.mark.parametrize(
    ("placement", "devices", "gpus", "why"),
    [
        (ONNX, NO_GPU, "", "has kind KIND_GPU but no GPUs are available"),
        (ONNX, NO_CUDA, "", "has kind KIND_GPU but this ONNX Runtime lacks CUDAExecutionProvider"),
        (ONNX, TWO_GPUS, "gpus: 2", "specifies invalid or unsupported gpu id 2. GPUs are: 0, 1"),
        (PYTHON, TWO_GPUS, "", "a model of backend 'onnxruntime' chooses its device itself"),
    ],
)
def test_a_gpu_that_cannot_be_had(placement, devices, gpus, why):
    text = refusal(places, config(f"instance_group {{ kind: KIND_GPU {gpus} }}"), placement, devices)
    assert text.startswith("instance group m_0 of model m ")
    assert why in text


KIND = 'backend: "tensorrt" '
ANYWHERE = Placement(cpu_instances=1, uses_gpus=True)
GPU_ONLY = Placement(cpu_instances=1, uses_gpus=True, uses_cpus=False)


def test_each_backend_has_its_own_reasons():
    asked = []

    def why_not(backend):
        asked.append(backend)
        return "its package is missing"

    lacking = Devices((0, 1), CUDA, why_not)
    assert places(config(KIND), ANYWHERE, lacking) == [None]
    assert places(config(KIND), ANYWHERE, Devices((0, 1), CUDA, lambda _: "")) == [0, 0, 1, 1]
    assert places(config(""), ONNX, lacking) == [0, 0, 1, 1]
    assert set(asked) == {"tensorrt"}
    text = refusal(places, config(KIND + "instance_group { gpus: 1 }"), ANYWHERE, lacking)
    assert text.endswith("has kind KIND_GPU but its package is missing")
    assert lacking.missing_for("onnxruntime") == ""
    assert NO_GPU.missing_for("tensorrt") == "no GPUs are available"


@pytest.mark.parametrize(
    ("group", "devices", "expected"),
    [
        ("", Devices((0, 1), why_not=lambda _: ""), [0, 0, 1, 1]),
        ("instance_group { count: 2 gpus: 1 }", Devices((0, 1), why_not=lambda _: ""), [1, 1]),
        ("", NO_GPU, "has kind KIND_GPU but no GPUs are available"),
        ("instance_group { kind: KIND_CPU }", TWO_GPUS, "has kind KIND_CPU but .* runs on GPUs only"),
        ("instance_group { kind: KIND_MODEL }", TWO_GPUS, "has kind KIND_MODEL but .* runs on GPUs only"),
    ],
)
def test_a_backend_for_gpus_only(group, devices, expected):
    if isinstance(expected, list):
        assert places(config(KIND + group), GPU_ONLY, devices) == expected
    else:
        assert re.search(expected, refusal(places, config(KIND + group), GPU_ONLY, devices))


def test_without_cuda_models_of_other_kinds_find_no_gpu():
    reason = Devices((0,), CUDA).missing_for("pytorch")
    assert bool(reason) == bool(why_no_cuda()) and why_no_cuda() in reason


def test_gpus_that_are_named_are_not_left_out():
    for placement, devices, why in (
        (ONNX, NO_GPU, "no GPUs are available"),
        (ONNX, NO_CUDA, "lacks CUDAExecutionProvider"),
        (ONNX, TWO_GPUS, "unsupported gpu id 2"),
        (PYTHON, TWO_GPUS, "chooses its device itself"),
    ):
        assert why in refusal(places, config("instance_group { gpus: 2 }"), placement, devices)


def test_this_machine_has_devices():
    here = Devices.here()
    assert "CPUExecutionProvider" in here.providers
    assert here is Devices.here()


# Schedulers


def test_everything_of_the_dynamic_batcher():
    text = """
        max_batch_size: 8
        instance_group { count: 2 }
        dynamic_batching {
          preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100
          priority_levels: 3 default_priority_level: 2
          default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 5 max_queue_size: 7 }
          priority_queue_policy { key: 1 value { allow_timeout_override: true } }
        }
    """
    assert options(config(text)).batching == BatchingPolicy(
        max_batch=8,
        preferred=(4, 8),
        max_delay=100_000,
        priority_levels=3,
        default_priority=2,
        default_queue_policy=QueuePolicy(TimeoutAction.DELAY, 5000, max_size=7),
        queue_policies={1: QueuePolicy(allow_timeout_override=True)},
    )


def test_order_is_preserved():
    given = options(config("max_batch_size: 2 dynamic_batching { preserve_ordering: true }"))
    assert given.batching is not None and given.batching.preserve_ordering


def parameter(key, value):
    return f"parameters {{ key: '{key}' value {{ string_value: '{value}' }} }}"


BATCHING = "max_batch_size: 8 dynamic_batching { } instance_group { count: 3 }"


def test_a_latency_objective():
    text = BATCHING + parameter("yais.slo_batching.latency_ms", "2.5")
    given = options(config(text))
    assert given.batching is None
    assert given.slo == SloPolicy(BatchingPolicy(8), 2_500_000, instances=3)
    text += parameter("yais.slo_batching.percentile", "99") + parameter("yais.slo_batching.max_delay_ms", "1")
    assert options(config(text)).slo == SloPolicy(BatchingPolicy(8), 2_500_000, 99.0, 3, 1_000_000)


def test_a_latency_objective_needs_batches():
    text = refusal(options, config(parameter("yais.slo_batching.latency_ms", "2.5")))
    assert "but not with dynamic_batching, expected both" in text


def test_sequences_have_all_instances():
    text = "max_batch_size: 4 sequence_batching { } instance_group { kind: KIND_GPU gpus: [ 0, 1 ] count: 2 }"
    given = options(config(text))
    assert given.sequences is not None and given.sequences.instances == given.instances == 4
    assert given.sequence_tensors is not None


def test_the_cache():
    assert options(config("response_cache { enable: true }")).cache
    assert not options(config("response_cache { }")).cache


def test_what_instances_need():
    text = """
        instance_group [
          { count: 1 kind: KIND_CPU rate_limiter { priority: 2 resources [ { name: "R" count: 3 },
            { name: "G" count: 1 global: true } ] } },
          { count: 1 kind: KIND_GPU gpus: [ 0, 1 ] rate_limiter { resources { name: "R" count: 1 } } },
          { count: 1 kind: KIND_CPU }
        ]
    """
    assert options(config(text)).rate == (
        RateNeeds({"R": 3, "G": 1}, 2, frozenset({"G"})),
        RateNeeds({"R": 1}, device="0"),
        RateNeeds({"R": 1}, device="1"),
        RateNeeds({}),
    )
    assert options(config("instance_group { count: 2 }")).rate == ()


# Tensors


TENSORS = """
    input [
      { name: "A" data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 2, 2 ] } },
      { name: "B" data_type: TYPE_INT8 dims: [ 1 ] optional: true }
    ]
    output { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] reshape { } }
"""


def test_requests_see_dims_and_the_engine_the_reshape():
    given = config(TENSORS)
    assert signature(given).inputs[0] == TensorSpec("A", DataType.FP32, (4,))
    assert signature(given).optional == {"B"}
    assert options(given).reshapes == Reshapes(((2, 2), None), ((),))
    assert options(config("")).reshapes is None


def test_warm_up(tmp_path):
    (tmp_path / "warmup").mkdir()
    (tmp_path / "warmup" / "x").write_bytes(b"1234")
    text = """
        model_warmup {
          name: "first" batch_size: 2 count: 3
          inputs [
            { key: "A" value { data_type: TYPE_FP32 dims: [ 1 ] input_data_file: "x" } },
            { key: "B" value { data_type: TYPE_INT8 dims: [ ] zero_data: true } },
            { key: "C" value { data_type: TYPE_STRING dims: [ 2, 0 ] random_data: true } }
          ]
        }
        model_warmup { }
    """
    expected = (
        WarmUpSample(
            "first",
            {
                "A": WarmUpInput(DataType.FP32, (1,), b"1234"),
                "B": WarmUpInput(DataType.INT8, (), "zero"),
                "C": WarmUpInput(DataType.BYTES, (2, 0), "random"),
            },
            batch_size=2,
            count=3,
        ),
        WarmUpSample("1", {}),
    )
    given = options(config(text), tmp_path).warm_up
    assert list(map(dataclasses.asdict, given)) == list(map(dataclasses.asdict, expected))


def test_text_to_warm_up_with(tmp_path):
    (tmp_path / "warmup").mkdir()
    text = "model_warmup {{ inputs {{ key: 'A' value {{ data_type: TYPE_STRING dims: 2 {} }} }} }}"
    text = text.format("input_data_file: 'x'")
    (tmp_path / "warmup" / "x").write_bytes(b"\2\0\0\0ab\0\0\0\0")
    (sample,) = options(config(text), tmp_path).warm_up
    assert sample.inputs["A"].data.tolist() == [b"ab", b""]
    (tmp_path / "warmup" / "x").write_bytes(b"\3\0\0\0ab")
    assert refusal(options, config(text), tmp_path) == (
        "warm-up sample '0' of model 'm', input 'A', file 'x': incomplete string data, expecting string of "
        "length 3 but only 2 bytes available"
    )


def test_samples_may_name_what_a_sequence_has_of_its_own():
    """Triton's samples do; here it comes with the sequence."""
    value = "value { data_type: TYPE_FP32 dims: 1 zero_data: true }"
    inputs = "".join(f"inputs {{ key: '{name}' {value} }}" for name in ("X", "start", "in", "out"))
    text = f"""
        sequence_batching {{
          control_input {{ name: "start"
            control {{ kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] }} }}
          state {{ input_name: "in" output_name: "out" data_type: TYPE_FP32 dims: 1 }}
        }}
        model_warmup {{ {inputs} }}
        instance_group {{ count: 1 }}
    """
    (sample,) = options(config(text)).warm_up
    assert sorted(sample.inputs) == ["X", "out"]
    text = text.replace(
        "key: 'start' value { data_type: TYPE_FP32 dims: 1 zero_data: true", "key: 'start' value { dims: -1"
    )
    assert sorted(options(config(text)).warm_up[0].inputs) == ["X", "out"]


def test_a_sample_has_a_largest_size(tmp_path):
    """It is refused before anything of that size is made."""
    text = "model_warmup {{ {} inputs {{ key: 'A' value {{ data_type: TYPE_{} dims: [ {} ] {}: true }} }} }}"
    for given, size in (
        (("batch_size: 4294967295", "FP32", 1, "zero_data"), 17_179_869_180),
        (("", "INT8", 2**30 + 1, "random_data"), 2**30 + 1),
        (("batch_size: 2", "INT8", "65536, 65536", "zero_data"), 2**33),
        (("", "STRING", 2**27 + 1, "zero_data"), 2**30 + 8),
    ):
        assert refusal(options, config(text.format(*given))) == (
            f"warm-up sample '0' of model 'm' has {size} bytes of inputs, expected at most {2**30}"
        )
    assert options(config(text.format("", "STRING", 2**27, "random_data"))).warm_up
    assert refusal(options, config("model_warmup { name: 'w' count: 1001 }")) == (
        "warm-up sample 'w' of model 'm' got count 1001, expected at most 1000"
    )
    (tmp_path / "warmup").mkdir()
    with (tmp_path / "warmup" / "large").open("wb") as file:
        file.truncate(2**30 + 1)
    text = "model_warmup { inputs { key: 'A' value { data_type: TYPE_INT8 input_data_file: 'large' } } }"
    assert refusal(options, config(text), tmp_path) == (
        "warm-up sample '0' of model 'm', input 'A': got the file 'large' of 1073741825 bytes, expected at "
        "most 1073741824"
    )


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("zero_data: true", "must specify 'data_type'"),
        (
            "data_type: TYPE_FP32 dims: -1 zero_data: true",
            "warmup setting expects all variable-size dimensions are specified for input 'A', got dims [-1]",
        ),
        ("data_type: TYPE_FP32 dims: 1", "must specify 'zero_data', 'random_data' or 'input_data_file'"),
        (
            "data_type: TYPE_FP32 zero_data: false",
            "must specify 'zero_data', 'random_data' or 'input_data_file'",
        ),
        ("data_type: TYPE_FP32 input_data_file: 'none'", "cannot read 'none': [Errno 2] No such file"),
        ("data_type: TYPE_FP32 input_data_file: '../x'", "got the file '../x', expected one in "),
        (
            "data_type: TYPE_FP32 input_data_file: '/etc/passwd'",
            "got the file '/etc/passwd', expected one in ",
        ),
    ],
)
def test_a_warm_up_sample_that_cannot_be_made(tmp_path, given, why):
    (tmp_path / "x").write_bytes(b"1234")
    text = f"model_warmup {{ name: 'w' inputs {{ key: 'A' value {{ {given} }} }} }}"
    message = refusal(options, config(text), tmp_path)
    assert message.startswith("warm-up sample 'w' of model 'm'")
    assert "input 'A'" in message
    assert why in message


def test_the_steps_of_an_ensemble():
    maps = "input_map {{ key: 'X' value: 'x' }} output_map {{ key: 'Y' value: 'y' }}"
    step = f"step {{{{ model_name: 'a' {{}} {maps} }}}}"
    tensors = "data_type: TYPE_FP32 dims: 1"
    text = f"input {{ name: 'x' {tensors} }} output {{ name: 'y' {tensors} }}"
    text += f"ensemble_scheduling {{ {step.format('model_version: -1')} {step.format('model_version: 2')} }}"
    assert ensemble_steps(config(text)) == (
        Step("a", "", {"X": "x"}, {"Y": "y"}),
        Step("a", "2", {"X": "x"}, {"Y": "y"}),
    )


# ONNX Runtime


def test_the_memory_and_the_settings_of_onnx_runtime():
    text = parameter("enable_mem_arena", "0") + parameter("enable_mem_pattern", "0")
    text += parameter("memory.enable_memory_arena_shrinkage", "cpu:0")
    text += parameter("session.intra_op.allow_spinning", "1") + parameter("yais.slo_batching.latency_ms", "1")
    assert onnx_options(config(text)) == OnnxOptions(
        memory_arena=False,
        memory_pattern=False,
        shrink_arenas="cpu:0",
        entries={"session.intra_op.allow_spinning": "1"},
    )


def accelerator(kind, name, **parameters):
    given = "".join(f"parameters {{ key: '{key}' value: '{value}' }}" for key, value in parameters.items())
    return (
        f"optimization {{ execution_accelerators {{ {kind}_execution_accelerator "
        f"{{ name: '{name}' {given} }} }} }}"
    )


@pytest.mark.parametrize(
    ("text", "gpu", "expected"),
    [
        ("", None, []),
        ("", 1, [("CUDAExecutionProvider", {"device_id": "1"})]),
        (
            accelerator("gpu", "tensorrt", precision_mode="FP16", max_workspace_size_bytes=7, trt_x="1"),
            0,
            [
                (
                    "TensorrtExecutionProvider",
                    {"trt_fp16_enable": "1", "trt_max_workspace_size": "7", "trt_x": "1", "device_id": "0"},
                ),
                ("CUDAExecutionProvider", {"device_id": "0"}),
            ],
        ),
        (
            accelerator("gpu", "cuda", gpu_mem_limit="9"),
            0,
            [("CUDAExecutionProvider", {"gpu_mem_limit": "9", "device_id": "0"})],
        ),
        (accelerator("gpu", "tensorrt"), None, []),
        (
            accelerator("cpu", "openvino", num_of_threads="2"),
            None,
            [("OpenVINOExecutionProvider", {"num_of_threads": "2"})],
        ),
        (accelerator("cpu", "openvino"), 0, [("CUDAExecutionProvider", {"device_id": "0"})]),
    ],
)
def test_providers(text, gpu, expected):
    wanted = tuple(OnnxProvider(name, given) for name, given in expected)
    assert onnx_options(config(text), gpu).providers == wanted


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            accelerator("gpu", "openvino"),
            "got gpu_execution_accelerator 'openvino' for model 'm', expected 'tensorrt' or 'cuda'",
        ),
        (
            accelerator("cpu", "tensorrt"),
            "got cpu_execution_accelerator 'tensorrt' for model 'm', expected 'openvino'",
        ),
        (
            accelerator("gpu", "tensorrt", precision_mode="FP8"),
            "got precision_mode 'FP8' for model 'm', expected FP32, FP16, INT8",
        ),
        (
            accelerator("gpu", "tensorrt", speed="high"),
            (
                "got parameter 'speed' of accelerator 'tensorrt' for model 'm', expected precision_mode, "
                "max_workspace_size_bytes, trt_engine_cache_enable, trt_engine_cache_path, "
                "int8_calibration_table_name, int8_use_native_calibration_table or one of ONNX Runtime's "
                "trt_*"
            ),
        ),
    ],
)
def test_providers_that_there_are_not(text, why):
    assert refusal(onnx_options, config(text)) == why
