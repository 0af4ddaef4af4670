"""Model configurations: read, refused by name, checked against the model and filled in."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor

from yais.core.tensor import DataType, TensorSpec
from yais.engines.onnx import OnnxOptions
from yais.errors import InvalidArgument
from yais.inference.model_options import ModelOptions
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.config import complete, options, read_config, signature
from yais.repository.fields import HONOURED, REFUSED
from yais.repository.onnx_config import onnx_options

FP32, INT64 = DataType.FP32, DataType.INT64


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a configuration of the model 'm' from its text."""

    def from_text(text):
        path = tmp_path / "config.pbtxt"
        path.write_text(text, encoding="utf-8")
        return read_config(path, "m")

    return from_text


@dataclass
class Engine:
    """What `complete` looks at: what a model says of itself."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def engine(inputs, outputs, datatype=FP32):
    return Engine(
        tuple(TensorSpec(name, datatype, shape) for name, shape in inputs.items()),
        tuple(TensorSpec(name, datatype, shape) for name, shape in outputs.items()),
    )


BATCHING = engine({"X": (-1, 4)}, {"Y": (-1, 2), "Z": (-1,)})
PLAIN = engine({"X": (2, -1)}, {"Y": (3,)})


def refusal(function, *arguments):
    with pytest.raises(InvalidArgument) as caught:
        function(*arguments)
    return str(caught.value)


def fields(descriptor, prefix="", depth=6):
    """Name every field there is, and return the descriptors on the way to it."""
    for field in descriptor.fields:
        yield prefix + field.name, (field,)
        value = field
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"]
        if value.message_type is not None and depth:
            for name, path in fields(value.message_type, f"{prefix}{field.name}.", depth - 1):
                yield name, (field, *path)


FIELDS = dict(fields(ModelConfig.DESCRIPTOR))


def set_field(message, path):
    """Set one field, and nothing else but what leads to it."""
    field, *rest = path
    place = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        if value.message_type is None:
            place[example(key)] = example(value)
            return
        child = place[example(key)]
    elif field.message_type is not None:
        child = place.add() if field.is_repeated else place
    elif field.is_repeated:
        place.append(example(field))
        return
    else:
        setattr(message, field.name, example(field))
        return
    child.SetInParent()
    if rest:
        set_field(child, rest)


def example(field):
    """Return a value that is not the field's default."""
    if field.type == FieldDescriptor.TYPE_BYTES:
        return b"x"
    return "x" if field.type == FieldDescriptor.TYPE_STRING else 1


def refused_part(name):
    """Return the field that is refused by name, where it or one that it is in is."""
    parts = name.split(".")
    prefixes = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
    return next((prefix for prefix in prefixes if prefix in REFUSED), None)


def test_every_field_is_in_one_of_the_two_tables():
    assert {name for name in FIELDS if refused_part(name) is None} == HONOURED
    assert set(REFUSED) <= set(FIELDS)
    assert not HONOURED & set(REFUSED)
    assert all(REFUSED.values())


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_is_honoured_or_refused_by_name(read, name):
    config = ModelConfig()
    set_field(config, FIELDS[name])
    text = ""
    try:
        read(text_format.MessageToString(config))
    except InvalidArgument as error:
        text = str(error)
    refused = refused_part(name)
    if refused:
        assert text == (
            f"model 'm' is configured with '{refused}', which yais does not support: {REFUSED[refused]}"
        )
    else:
        assert "does not support" not in text


def test_without_a_file_there_is_only_the_name(tmp_path):
    assert read_config(tmp_path / "config.pbtxt", "m") == ModelConfig(name="m")


def test_both_ways_to_write_lists_are_the_same(read):
    listed = read(
        """
        input [
          { name: "A" data_type: TYPE_FP32 dims: [ 1, -1 ] },
          { name: "B", data_type: TYPE_STRING, dims: [ 2 ] }
        ]
        output [ { name: "C" data_type: TYPE_BF16 dims: [ ] } ]
        max_batch_size: 8
        dynamic_batching { preferred_batch_size: [ 4, 8 ] }
        """
    )
    repeated = read(
        """
        # A comment, and the order of fields does not matter.
        dynamic_batching { preferred_batch_size: 4 preferred_batch_size: 8 }
        max_batch_size: 8
        input { name: "A" data_type: TYPE_FP32 dims: 1 dims: -1 }
        output { name: 'C' data_type: TYPE_BF16 }
        input { name: "B" data_type: TYPE_STRING dims: 2 }
        """
    )
    assert listed == repeated
    assert [tensor.name for tensor in listed.input] == ["A", "B"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"max_batch_size: eight", "1:17"),
        (b"no_such_field: 1", "no_such_field"),
        (b"input { name: 'X'", "1:"),
        (b"\xff\xfe", "utf-8"),
        (b"input { data_type: TYPE_FLOAT }", "TYPE_FLOAT"),
    ],
)
def test_text_that_cannot_be_read(tmp_path, content, why):
    path = tmp_path / "config.pbtxt"
    path.write_bytes(content)
    text = refusal(read_config, path, "m")
    assert text.startswith(f"failed to read text proto from {path}: ")
    assert why in text


def test_a_directory_instead_of_the_file(tmp_path):
    (tmp_path / "config.pbtxt").mkdir()
    assert "Is a directory" in refusal(read_config, tmp_path / "config.pbtxt", "m")


TENSOR = "input {{ name: 'X' data_type: TYPE_FP32 {} }}"

BAD_DIMENSION = (
    "model 'm', tensor 'X' dimension must be integer >= 1, "
    "or -1 to indicate a variable-size dimension, got {}"
)

INVALID = [
    (
        "name: 'other'",
        "unexpected directory name 'm' for model 'other', directory name must equal model name",
    ),
    (
        "backend: 'tensorflow'",
        (
            "got backend 'tensorflow' for model 'm', expected one of 'onnxruntime', 'python', 'tensorrt', "
            "'pytorch', or that of an installed package: its entry point in the group 'yais.engines' names it"
        ),
    ),
    (
        "platform: 'tensorflow_savedmodel'",
        (
            "got platform 'tensorflow_savedmodel' for model 'm', expected one of 'onnxruntime', 'python', "
            "'tensorrt', 'pytorch', or that of an installed package: its entry point in the group "
            "'yais.engines' names it"
        ),
    ),
    (
        "backend: 'onnxruntime' platform: 'tensorrt_plan'",
        (
            "got platform 'tensorrt_plan' for model 'm', which has backend 'onnxruntime', expected "
            "'onnxruntime_onnx'"
        ),
    ),
    (
        "instance_group { profile: '0' }",
        (
            "model 'm' is configured with 'instance_group.profile', which a model of backend "
            "'onnxruntime' does not have"
        ),
    ),
    (
        "backend: 'python' optimization { cuda { graphs: true } }",
        "model 'm' is configured with 'optimization.cuda', which a model of backend 'python' does not have",
    ),
    (
        "backend: 'python' platform: 'onnxruntime_onnx'",
        "got platform 'onnxruntime_onnx' for model 'm', which has backend 'python', expected 'python'",
    ),
    ("max_batch_size: -1", "'max_batch_size' must be non-negative value in model configuration for 'm'"),
    ("instance_group { count: -1 }", "got instance_group count -1 for 'm', expected 1 or more"),
    (
        "dynamic_batching {}",
        "dynamic batching needs a batch dimension: got max_batch_size 0 for 'm', expected at least 1",
    ),
    (
        "max_batch_size: 4 dynamic_batching { preferred_batch_size: 5 }",
        "dynamic batching preferred size must be <= max batch size for 'm'",
    ),
    (
        "max_batch_size: 4 dynamic_batching { preferred_batch_size: [ 4, 0 ] }",
        "dynamic batching preferred size must be positive for 'm'",
    ),
    ("input { data_type: TYPE_FP32 }", "model input and output names must not be empty for 'm'"),
    ("output { data_type: TYPE_FP32 }", "model input and output names must not be empty for 'm'"),
    ("input { name: 'X' }", "model 'm', tensor 'X' must specify 'data_type'"),
    ("output { name: 'Y' data_type: TYPE_INVALID }", "model 'm', tensor 'Y' must specify 'data_type'"),
    (
        "input { name: 'X' data_type: TYPE_FP32 dims: 0 }",
        BAD_DIMENSION.format(0),
    ),
    (
        "input { name: 'X' data_type: TYPE_FP32 dims: -2 }",
        BAD_DIMENSION.format(-2),
    ),
    (
        "input { name: 'X' data_type: TYPE_FP32  }input { name: 'X' data_type: TYPE_FP32  }",
        "model 'm', tensor 'X' is configured more than once",
    ),
]


@pytest.mark.parametrize(("config", "text"), INVALID)
def test_what_says_something_impossible(read, config, text):
    assert refusal(read, config) == text


@pytest.mark.parametrize("backend", ["", "backend: 'onnxruntime'", "platform: 'onnxruntime_onnx'"])
def test_the_backend_may_be_written_in_several_ways(read, backend):
    config = read(backend)
    complete(config, PLAIN)
    assert (config.backend, config.platform) == ("onnxruntime", "onnxruntime_onnx")


def test_a_model_that_can_batch_and_has_no_configuration(read):
    config = read("")
    complete(config, BATCHING)
    assert config == text_format.Parse(
        """
        name: "m" platform: "onnxruntime_onnx" backend: "onnxruntime" max_batch_size: 4
        version_policy { latest { num_versions: 1 } }
        optimization { input_pinned_memory { enable: true } output_pinned_memory { enable: true } }
        input { name: "X" data_type: TYPE_FP32 dims: 4 }
        output { name: "Y" data_type: TYPE_FP32 dims: 2 }
        output { name: "Z" data_type: TYPE_FP32 }
        dynamic_batching { preferred_batch_size: 4 }
        instance_group { name: "m" count: 2 kind: KIND_CPU }
        default_model_filename: "model.onnx"
        """,
        ModelConfig(),
    )


@pytest.mark.parametrize(
    "cannot_batch",
    [
        PLAIN,
        engine({"X": (-1, 4)}, {"Y": (2,)}),
        engine({"X": (-1, 4), "scale": ()}, {"Y": (-1, 2)}),
        engine({"X": (1, 4)}, {"Y": (-1, 2)}),
    ],
)
def test_a_model_that_cannot_batch_and_has_no_configuration(read, cannot_batch):
    config = read("")
    complete(config, cannot_batch)
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert [tuple(tensor.dims) for tensor in config.input] == [spec.shape for spec in cannot_batch.inputs]
    assert [tuple(tensor.dims) for tensor in config.output] == [spec.shape for spec in cannot_batch.outputs]


@pytest.mark.parametrize(
    "field",
    ["instance_group { count: 3 }", "parameters { key: 'execution_mode' value { string_value: '1' } }"],
)
def test_what_says_nothing_of_tensors_still_batches(read, field):
    config = read(field)
    complete(config, BATCHING)
    assert (config.max_batch_size, list(config.dynamic_batching.preferred_batch_size)) == (4, [4])


def test_a_batch_size_alone(read):
    config = read("max_batch_size: 16")
    complete(config, BATCHING)
    assert config.max_batch_size == 16
    assert not config.HasField("dynamic_batching")  # requests run one by one, each with its batch
    assert [list(tensor.dims) for tensor in (*config.input, *config.output)] == [[4], [2], []]


@pytest.mark.parametrize(
    "given",
    [
        "input { name: 'X' data_type: TYPE_FP32 dims: [ 2, -1 ] }",
        "output { name: 'Y' data_type: TYPE_FP32 dims: 3 }",
    ],
)
def test_tensors_given_in_part_are_filled_in(read, given):
    config = read(given)
    complete(config, PLAIN)
    assert [(tensor.name, list(tensor.dims)) for tensor in (*config.input, *config.output)] == [
        ("X", [2, -1]),
        ("Y", [3]),
    ]


def test_tensors_given_in_full_of_a_model_that_could_batch(read):
    """Who gives the full shapes and no batch size wants no batching."""
    config = read("input { name: 'X' data_type: TYPE_FP32 dims: [ -1, 4 ] }")
    complete(config, BATCHING)
    assert config.max_batch_size == 0
    assert [list(tensor.dims) for tensor in config.output] == [[-1, 2], [-1]]


def test_a_configuration_may_narrow_what_the_model_takes(read):
    config = read("input { name: 'X' data_type: TYPE_FP32 dims: [ 2, 7 ] }")
    complete(config, PLAIN)
    assert signature(config).inputs == (TensorSpec("X", FP32, (2, 7)),)


def test_outputs_may_be_left_out_and_ordered(read):
    batching = engine({"A": (-1,), "B": (-1,)}, {"Y": (-1, 2), "Z": (-1,), "W": (-1, 1)}, INT64)
    config = read(
        """
        max_batch_size: 2
        input [ { name: "B" data_type: TYPE_INT64 }, { name: "A" data_type: TYPE_INT64 } ]
        output [ { name: "W" data_type: TYPE_INT64 dims: 1 }, { name: "Y" data_type: TYPE_INT64 dims: 2 } ]
        """
    )
    complete(config, batching)
    sign = signature(config)
    assert [spec.name for spec in sign.inputs] == ["B", "A"]
    assert [spec.name for spec in sign.outputs] == ["W", "Y"]
    assert (sign.name, sign.max_batch) == ("m", 2)


DISAGREEMENTS = [
    (
        PLAIN,
        "input { name: 'X' data_type: TYPE_INT64 dims: [ 2, -1 ] }",
        "model 'm', tensor 'X': the model expects FP32[2,-1], but the configuration says INT64[2,-1]",
    ),
    (
        PLAIN,
        "input { name: 'X' data_type: TYPE_FP32 dims: [ 2 ] }",
        "model 'm', tensor 'X': the model expects FP32[2,-1], but the configuration says FP32[2]",
    ),
    (
        PLAIN,
        "output { name: 'Y' data_type: TYPE_FP32 dims: [ 4 ] }",
        "model 'm', tensor 'Y': the model expects FP32[3], but the configuration says FP32[4]",
    ),
    (
        PLAIN,
        "output { name: 'Y' data_type: TYPE_FP32 dims: [ -1 ] }",
        "model 'm', tensor 'Y': the model expects FP32[3], but the configuration says FP32[-1]",
    ),
    (
        PLAIN,
        "max_batch_size: 8",
        (
            "model 'm', tensor 'X': the model expects FP32[2,-1], but the configuration says FP32[-1,-1] "
            "(with the batch dimension that max_batch_size asks for)"
        ),
    ),
    (
        BATCHING,
        "max_batch_size: 8 input { name: 'X' data_type: TYPE_FP32 dims: [ -1, 4 ] }",
        (
            "model 'm', tensor 'X': the model expects FP32[-1,4], but the configuration says FP32[-1,-1,4] "
            "(with the batch dimension that max_batch_size asks for)"
        ),
    ),
    (
        engine({"X": (-1, 4), "scale": ()}, {"Y": (-1, 2)}),
        "max_batch_size: 8",
        (
            "model 'm', tensor 'scale': the model expects FP32[], but the configuration says FP32[-1] "
            "(with the batch dimension that max_batch_size asks for)"
        ),
    ),
    (
        PLAIN,
        "output { name: 'probabilities' data_type: TYPE_FP32 dims: 3 }",
        "unexpected tensor 'probabilities' in the configuration of model 'm', the model has Y",
    ),
    (
        engine({"A": (1,), "B": (1,), "C": (1,)}, {"Y": (1,)}),
        "input { name: 'B' data_type: TYPE_FP32 dims: 1 }",
        "model 'm' has inputs ['A', 'C'], which the configuration lacks",
    ),
]


@pytest.mark.parametrize(("model", "config", "text"), DISAGREEMENTS)
def test_a_configuration_that_contradicts_the_model(read, model, config, text):
    assert refusal(complete, read(config), model) == text


def test_normalisation(read):
    config = read(
        """
        max_batch_size: 8
        dynamic_batching { max_queue_delay_microseconds: 100 }
        instance_group [ { count: 3 }, { name: "more" kind: KIND_CPU } ]
        default_model_filename: "weights.onnx"
        """
    )
    complete(config, BATCHING)
    assert list(config.dynamic_batching.preferred_batch_size) == [8]
    assert config.default_model_filename == "weights.onnx"
    assert config.version_policy.latest.num_versions == 1
    assert [(group.name, group.count, group.kind) for group in config.instance_group] == [
        ("m_0", 3, config.instance_group[0].KIND_CPU),
        ("more", 2, config.instance_group[0].KIND_CPU),
    ]


@pytest.mark.parametrize(
    "text", ["", "max_batch_size: 8 dynamic_batching { preferred_batch_size: [ 2, 4 ] }"]
)
def test_what_is_in_force_can_be_read_again(read, text):
    config = read(text)
    complete(config, BATCHING)
    again = read(text_format.MessageToString(config))
    assert again == config
    complete(again, BATCHING)
    assert again == config


def test_how_a_model_is_scheduled(read):
    config = read(
        """
        max_batch_size: 8
        dynamic_batching { preferred_batch_size: [ 4, 6 ] max_queue_delay_microseconds: 100 }
        instance_group [ { count: 3 }, { count: 2 } ]
        """
    )
    complete(config, BATCHING)
    assert options(config) == ModelOptions(BatchingPolicy(8, (4, 6), 100_000), instances=5)
    plain = read("")
    complete(plain, PLAIN)
    assert options(plain) == ModelOptions(None, instances=2)


def parameter(key, value):
    return f"parameters {{ key: '{key}' value {{ string_value: '{value}' }} }}"


def test_what_onnx_runtime_is_told(read):
    assert onnx_options(read("")) == OnnxOptions(graph_level=99)
    text = parameter("intra_op_thread_count", 3) + parameter("inter_op_thread_count", 2)
    assert onnx_options(read(text + parameter("execution_mode", 1))) == OnnxOptions(3, 2, True)
    assert onnx_options(read(parameter("execution_mode", 0))) == OnnxOptions(parallel=False)


@pytest.mark.parametrize(("level", "expected"), [(-2, -1), (-1, 1), (0, 99), (1, 2), (2, 99)])
def test_graph_optimisation(read, level, expected):
    config = read(f"optimization {{ graph {{ level: {level} }} }}")
    assert onnx_options(config).graph_level == expected


ONNX_REFUSALS = [
    (
        parameter("threads", 1),
        (
            "got parameter 'threads' for model 'm', expected one of intra_op_thread_count, "
            "inter_op_thread_count, execution_mode, enable_mem_arena, enable_mem_pattern, "
            "memory.enable_memory_arena_shrinkage, cudnn_conv_algo_search, gpu_mem_limit, "
            "arena_extend_strategy, do_copy_in_default_stream, session.*"
        ),
    ),
    (
        parameter("intra_op_thread_count", "-1"),
        "got '-1' for parameter 'intra_op_thread_count' of 'm', expected a number from 0 to 1024",
    ),
    (
        parameter("intra_op_thread_count", "two"),
        "got 'two' for parameter 'intra_op_thread_count' of 'm', expected a number from 0 to 1024",
    ),
    *(
        (
            parameter("inter_op_thread_count", value),
            f"got '{value}' for parameter 'inter_op_thread_count' of 'm', expected a number from 0 to 1024",
        )
        for value in ("1025", "9" * 5000)
    ),
    (
        parameter("enable_mem_arena", 2),
        "got '2' for parameter 'enable_mem_arena' of 'm', expected a number from 0 to 1",
    ),
    (
        "parameters { key: 'execution_mode' value {} }",
        "got '' for parameter 'execution_mode' of 'm', expected a number from 0 to 1",
    ),
    (
        "optimization { graph { level: 3 } }",
        "got optimization.graph.level 3 for 'm', expected -2 to 2",
    ),
]


@pytest.mark.parametrize(("config", "text"), ONNX_REFUSALS)
def test_what_onnx_runtime_cannot_be_told(read, config, text):
    assert refusal(onnx_options, read(config)) == text


def test_every_type_has_a_number():
    """A new type must not be forgotten here."""
    values = ModelConfig.DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_name
    configured = {name.removeprefix("TYPE_") for name in values if name != "TYPE_INVALID"}
    assert {re.sub("^STRING$", "BYTES", name) for name in configured} == {kind.value for kind in DataType}
