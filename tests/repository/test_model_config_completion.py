"""Configurations filled in from the models themselves: what is loaded is what they say."""

from __future__ import annotations

import os
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper

from yais.core.tensor import DataType, TensorSpec
from yais.engines.onnx import OnnxEngine
from yais.engines.python_pipeline import DEFAULT_PIPELINES, PythonPipeline
from yais.errors import InvalidArgument
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.backends import backend_of
from yais.repository.config import (
    complete,
    engine_tensors,
    load_override_config,
    options,
    read_config,
    signature,
)
from yais.repository.config_dict import config_dict

FP32 = DataType.FP32


@dataclass
class Engine:
    """What `complete` looks at: what a model says of itself."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def specs(datatype=FP32, **shapes):
    return tuple(TensorSpec(name, datatype, shape) for name, shape in shapes.items())


BATCHING = Engine(specs(X=(-1, 4)), specs(Y=(-1, 2)))


def read(folder, text, overrides=()):
    path = folder / "config.pbtxt"
    path.write_text(text, encoding="utf-8")
    return read_config(path, "m", overrides)


def refusal(function, *arguments, **named):
    with pytest.raises(InvalidArgument) as caught:
        function(*arguments, **named)
    return str(caught.value)


# Defaults


@pytest.mark.parametrize(("default", "batches"), [(0, False), (1, False), (2, True), (7, True)])
def test_the_default_of_the_largest_batch(tmp_path, default, batches):
    config = read(tmp_path, "")
    complete(config, BATCHING, default_max_batch=default)
    assert config.max_batch_size == default
    assert config.HasField("dynamic_batching") is batches


def test_a_scheduler_that_is_there_stays(tmp_path):
    config = read(tmp_path, "sequence_batching { oldest { } }")
    complete(config, BATCHING)
    assert config.max_batch_size == 4
    assert config.sequence_batching.max_sequence_idle_microseconds == 1_000_000
    assert list(config.sequence_batching.oldest.preferred_batch_size) == [4]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "latest { num_versions: 1 }"),
        ("version_policy { latest { } }", "latest { num_versions: 1 }"),
        ("version_policy { latest { num_versions: 3 } }", "latest { num_versions: 3 }"),
        ("version_policy { all { } }", "all { }"),
        ("version_policy { specific { versions: 2 } }", "specific { versions: 2 }"),
    ],
)
def test_the_version_policy(tmp_path, text, expected):
    config = read(tmp_path, text)
    complete(config, BATCHING)
    assert (
        config.version_policy
        == text_format.Parse(f"version_policy {{ {expected} }}", ModelConfig()).version_policy
    )


def test_pinned_memory_may_be_off(tmp_path):
    config = read(tmp_path, "optimization { input_pinned_memory { enable: false } }")
    complete(config, BATCHING)
    assert not config.optimization.input_pinned_memory.enable
    assert config.optimization.output_pinned_memory.enable


FULL = """
    max_batch_size: 2
    input { name: "X" data_type: TYPE_FP32 dims: 4 } output { name: "Y" data_type: TYPE_FP32 dims: 2 }
"""


def test_nothing_is_taken_from_the_model_if_it_is_not_wanted(tmp_path):
    config = read(tmp_path, FULL)
    complete(config, BATCHING, auto_complete=False)
    assert not config.HasField("dynamic_batching") and config.backend == "onnxruntime"
    for text in ("", FULL.split(" output", maxsplit=1)[0]):
        message = refusal(complete, read(tmp_path, text), BATCHING, auto_complete=False)
        assert message == "the configuration of model 'm' lacks 'input' or 'output', and is not completed"


def test_an_ensemble_has_no_engine(tmp_path):
    text = """
        input { name: "X" data_type: TYPE_FP32 dims: 1 } output { name: "Y" data_type: TYPE_FP32 dims: 1 }
        ensemble_scheduling { step { model_name: "a" model_version: -1
          input_map { key: "A" value: "X" } output_map { key: "B" value: "Y" } } }
    """
    config = read(tmp_path, text)
    complete(config)
    assert (config.platform, config.backend, len(config.instance_group)) == ("ensemble", "", 0)
    assert not config.HasField("optimization")
    again = ModelConfig()
    again.CopyFrom(config)
    complete(again)
    assert again == config
    assert "expected an engine" in refusal(complete, read(tmp_path, FULL))


# Tensors


def test_the_engine_has_the_reshape(tmp_path):
    text = """
        max_batch_size: 2
        input { name: "X" data_type: TYPE_FP32 dims: [ 2, 2 ] reshape { shape: 4 } }
        output { name: "Y" data_type: TYPE_FP32 dims: [ 2, 1 ] reshape { shape: 2 } }
    """
    config = read(tmp_path, text)
    complete(config, BATCHING)
    assert signature(config).inputs == specs(X=(2, 2))
    assert engine_tensors(config, tmp_path) == (specs(X=(-1, 4)), specs(Y=(-1, 2)))
    wrong = read(tmp_path, text.replace("shape: 4", "shape: [ 2, 2 ]"))
    assert "the model expects FP32[-1,4], but the configuration says FP32[-1,2,2]" in refusal(
        complete, wrong, BATCHING
    )


SEQUENCES = """
    max_batch_size: 2
    sequence_batching {
      control_input [
        { name: "START" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } },
        { name: "ID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } }
      ]
      state { input_name: "IN" output_name: "OUT" data_type: TYPE_FP32 dims: 3 }
    }
"""

SEQUENTIAL = Engine(
    (*specs(IN=(-1, 3), X=(-1, 4), START=(-1, 1)), TensorSpec("ID", DataType.UINT64, (-1, 1))),
    specs(Y=(-1, 2), OUT=(-1, 3)),
)


def test_controls_and_states_are_the_engines_own(tmp_path):
    config = read(tmp_path, SEQUENCES)
    complete(config, SEQUENTIAL)
    assert [tensor.name for tensor in (*config.input, *config.output)] == ["X", "Y"]
    inputs, outputs = engine_tensors(config, tmp_path)
    assert [spec.name for spec in inputs] == ["X", "START", "ID", "IN"]
    assert [spec.name for spec in outputs] == ["Y", "OUT"]
    assert inputs[1].shape == (-1, 1) and inputs[3].shape == (-1, 3)


def test_preferred_sizes_of_sequences_may_wait_for_the_model(tmp_path):
    """Whether they are possible is known when the model has said whether it has batches."""
    text = "sequence_batching {{ oldest {{ preferred_batch_size: {} }} }}"
    config = read(tmp_path, text.format(3))
    complete(config, BATCHING)
    assert options(config).sequences.preferred == (3,)
    for size, engine in ((5, BATCHING), (1, Engine(specs(X=(4,)), specs(Y=(2,))))):
        config = read(tmp_path, text.format(size))
        assert "preferred batch size must be <= max batch size for m" in refusal(complete, config, engine)
    assert "must be <= max batch size" in refusal(read, tmp_path, text.format(3) + "max_batch_size: 2")


def test_controls_and_states_are_checked_against_the_engine(tmp_path):
    config = read(tmp_path, SEQUENCES.replace("fp32_false_true", "int32_false_true"))
    assert "tensor 'START': the model expects FP32[-1,1], but the configuration says INT32[-1,1]" in refusal(
        complete, config, SEQUENTIAL
    )
    config = read(tmp_path, SEQUENCES.replace('"ID"', '"NUMBER"'))
    assert "unexpected tensor 'NUMBER'" in refusal(complete, config, SEQUENTIAL)


# Files


def write_onnx(folder):
    bias = helper.make_tensor("bias", TensorProto.FLOAT, [1], [10.0])
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("bias", TensorProto.FLOAT, [1]),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "bias"], ["y"])], "g", inputs, [output], initializer=[bias]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "1" / "model.onnx"
    path.parent.mkdir()
    onnx.save(model, path)
    return path


OPTIONAL = """
    input [
      { name: "x" data_type: TYPE_FP32 dims: -1 OPTIONAL_X },
      { name: "bias" data_type: TYPE_FP32 dims: 1 optional: true }
    ]
    output { name: "y" data_type: TYPE_FP32 dims: -1 }
    parameters { key: "intra_op_thread_count" value { string_value: "1" } }
"""


def load(folder, text, **named):
    config = read(folder, text)
    backend = backend_of(config)
    engine = backend.load(config, "1", folder / "1" / backend.filename, **named)
    return config, engine


def test_an_input_with_a_value_of_its_own_is_optional(tmp_path):
    write_onnx(tmp_path)
    config, engine = load(tmp_path, OPTIONAL.replace("OPTIONAL_X", ""))
    complete(config, engine)
    assert signature(config).optional == {"bias"}
    names = [[spec.name for spec in tensors] for tensors in engine_tensors(config, tmp_path)]
    engine.select(*names)
    assert engine.execute([np.ones(1, np.float32), None])[0].tolist() == [11]
    config, engine = load(tmp_path, OPTIONAL.replace("OPTIONAL_X", "optional: true"))
    assert "input 'x' of model 'm' is configured as optional, but the model has no value for it" in refusal(
        complete, config, engine
    )


def test_several_groups_on_one_device_share_a_session(tmp_path):
    write_onnx(tmp_path)
    config, engine = load(
        tmp_path, "instance_group [ { kind: KIND_CPU count: 1 }, { kind: KIND_MODEL count: 2 } ]"
    )
    assert type(engine) is OnnxEngine
    complete(config, engine)
    assert options(config).instances == 3


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "execution_accelerators { gpu_execution_accelerator { name: 'tensorrt' } }",
            "configured with a gpu_execution_accelerator, but none of its instances is on a GPU",
        ),
        (
            "execution_accelerators { cpu_execution_accelerator { name: 'openvino' } }",
            "this ONNX Runtime lacks OpenVINOExecutionProvider",
        ),
    ],
)
def test_an_accelerator_that_there_is_not(tmp_path, text, why):
    write_onnx(tmp_path)
    config = f"instance_group {{ kind: KIND_CPU }} optimization {{ {text} }}"
    assert why in refusal(load, tmp_path, config)


def write_python(folder, source):
    path = folder / "1" / "model.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(source), encoding="utf-8")


COMPLETING = """
    import os

    class Model:
        @staticmethod
        def auto_complete_config(config):
            config.add_input({"name": "x", "data_type": "TYPE_FP32", "dims": [-1]})
            config.add_output({"name": "y", "data_type": "TYPE_INT64", "dims": [1]})
            config.set_max_batch_size(8)
            config.set_dynamic_batching()
            with open(__file__ + ".pid", "w") as file:
                file.write(str(os.getpid()))
            return config

        def execute(self, inputs):
            return {"y": [[os.getpid()]] * len(inputs["x"])}
"""

WORKER = "parameters { key: 'worker_process' value { string_value: 'true' } } instance_group { count: 1 }"


@pytest.mark.parametrize("text", ["", WORKER])
def test_a_python_model_says_its_configuration(tmp_path, text):
    write_python(tmp_path, COMPLETING)
    config, engine = load(tmp_path, text)
    complete(config, engine)
    assert (config.backend, config.max_batch_size, config.HasField("dynamic_batching")) == ("python", 8, True)
    assert signature(config).inputs == specs(x=(-1,))
    ((pid,),) = engine.execute([np.ones((1, 2), np.float32)])[0].tolist()
    engine.close()
    asked = int(Path(tmp_path / "1" / "model.py.pid").read_text())
    assert (pid == os.getpid()) is (asked == os.getpid()) is (not text)


def test_a_python_model_is_not_asked_if_it_is_not_wanted(tmp_path):
    write_python(tmp_path, COMPLETING)
    assert "lacks 'input' or 'output'" in refusal(load, tmp_path, "", auto_complete=False)
    assert not (tmp_path / "1" / "model.py.pid").exists()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("config.add_input({'name': 'z', 'data_type': 'FLOAT', 'dims': [1]})", "Invalid enum value FLOAT"),
        ("config.add_input({'name': '', 'data_type': 'TYPE_FP32', 'dims': [1]})", "must not be empty"),
        ("config.add_output({'name': 'z', 'data_type': 'TYPE_FP32', 'dims': [0]})", "must be integer >= 1"),
    ],
)
def test_what_a_model_says_is_checked(tmp_path, change, why):
    source = f"class Model:\n def auto_complete_config(config):\n  {change}"
    write_python(tmp_path, source + "\n  return config\n def execute(self, inputs): pass")
    assert why in refusal(load, tmp_path, "")


PIPELINE = "async def pipeline(inputs, models): return {}"


def test_a_pipeline_is_loaded_and_completed_as_a_model(tmp_path):
    write_python(tmp_path, PIPELINE)
    config, engine = load(tmp_path, FULL + "response_cache { enable: true }")
    complete(config, engine)
    assert type(engine) is PythonPipeline
    assert options(config).cache
    assert (config.backend, options(config).instances) == ("python", DEFAULT_PIPELINES)
    config, engine = load(tmp_path, FULL + "instance_group { count: 3 }")
    complete(config, engine)
    assert options(config).instances == 3
    engine.close()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("dynamic_batching { }", "dynamic_batching"),
        ("sequence_batching { }", "sequence_batching"),
        ("model_warmup { }", "model_warmup"),
        ("instance_group { rate_limiter { } }", "instance_group.rate_limiter"),
        (
            "parameters { key: 'yais.slo_batching.latency_ms' value { string_value: '1' } }",
            "yais.slo_batching.latency_ms",
        ),
        ("output { name: 'Z' data_type: TYPE_FP32 dims: 1 reshape { } }", "output.reshape"),
    ],
)
def test_a_pipeline_has_nothing_that_only_engines_have(tmp_path, text, what):
    write_python(tmp_path, PIPELINE)
    config, engine = load(tmp_path, FULL + text)
    message = refusal(complete, config, engine)
    assert message.startswith("model 'm' is a pipeline") and f"configured with '{what}'" in message
    engine.close()


@pytest.mark.parametrize(
    ("files", "text", "backend"),
    [
        ({"1/model.py"}, "", "python"),
        ({"1/model.py", "1/model.onnx"}, "", ""),
        ({"1/model.onnx"}, "", ""),
        ({"model.py"}, "", ""),
        ({"1/model.py"}, "backend: 'onnxruntime'", "onnxruntime"),
        ({"1/model.py"}, "default_model_filename: 'a.onnx'", ""),
        ({"1/other.py"}, "", ""),
    ],
)
def test_the_backend_is_seen_from_the_files(tmp_path, files, text, backend):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert read(tmp_path, text).backend == backend
    if not text:
        assert load_override_config("{}", "m", (), tmp_path).backend == backend


def test_a_file_name_says_the_backend(tmp_path):
    config = read(tmp_path, "default_model_filename: 'model.py'")
    assert backend_of(config).name == "python"


def test_overrides_come_first(tmp_path):
    assert read(tmp_path, "max_batch_size: -1", ["max_batch_size=3"]).max_batch_size == 3


def test_a_configuration_as_a_dict():
    text = """
        name: "m" max_batch_size: 2
        input { name: "X" data_type: TYPE_FP32 dims: [ 4, -1 ] reshape { shape: 4 } }
        dynamic_batching { priority_levels: 2
          priority_queue_policy { key: 1 value { default_timeout_microseconds: 7 } } }
        metric_tags { key: "a" value: "b" }
    """
    config = text_format.Parse(text, ModelConfig())
    fields = config_dict(config)
    assert fields["input"][0]["dims"] == [4, -1] and fields["input"][0]["reshape"] == {"shape": [4]}
    assert fields["input"][0]["data_type"] == "TYPE_FP32"
    assert fields["dynamic_batching"]["priority_queue_policy"]["1"]["default_timeout_microseconds"] == 7
    assert (fields["max_batch_size"], fields["output"], fields["metric_tags"]) == (2, [], {"a": "b"})
    assert "sequence_batching" not in fields


def test_what_a_model_turns_out_to_be_is_checked_too(tmp_path):
    write_python(tmp_path, "class Model:\n def execute(self, inputs): yield {}")
    config, engine = load(tmp_path, FULL + "response_cache { enable: true }")
    assert "with 'decoupled' transaction policy" in refusal(complete, config, engine)
    engine.close()
