"""ONNX Runtime as an engine: all data types, and what the interface promises."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from small_models import identity, model, some, tensor, three_outputs

from yais.core.tensor import DataType, TensorSpec
from yais.engines.onnx import OnnxEngine, OnnxOptions, run_options, session_options
from yais.engines.onnx_options import OnnxProvider
from yais.errors import InvalidArgument

SOON = 20.0
"""Seconds after which a wait counts as lost."""

ONE_THREAD = OnnxOptions(intra_op_threads=1)


def strings(*elements: bytes) -> Any:
    array = np.empty((1, len(elements)), np.object_)
    array[0, :] = elements
    return array


# --- Data types and shapes ----------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", DataType, ids=str)
@pytest.mark.parametrize("shape", [(2, 3), (0, 3), (1, 3)])
def test_every_data_type(datatype: DataType, shape: tuple[int, ...]) -> None:
    engine = OnnxEngine(identity(datatype, ("batch", 3)), ONE_THREAD)
    assert engine.inputs == (TensorSpec("x", datatype, (-1, 3)),)
    assert engine.outputs == (TensorSpec("y", datatype, (-1, 3)),)
    array = some(datatype, shape)
    array.flags.writeable = False
    (output,) = engine.execute([array])
    assert output.dtype == datatype.numpy and output.shape == shape
    assert output.tolist() == array.tolist()


@pytest.mark.parametrize("datatype", DataType, ids=str)
def test_scalars(datatype: DataType) -> None:
    engine = OnnxEngine(identity(datatype, ()), ONE_THREAD)
    assert engine.inputs == (TensorSpec("x", datatype, ()),)
    array = some(datatype, ())
    (output,) = engine.execute([array])
    assert output.dtype == datatype.numpy and output.shape == ()
    assert output.tolist() == array.tolist()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [(("n", "m"), (-1, -1)), ((None, 4), (-1, 4)), ((3, 4), (3, 4)), ((0, 2), (0, 2)), ((-1, 4), (-1, 4))],
)
def test_dimensions_of_any_size(shape: Any, expected: tuple[int, ...]) -> None:
    engine = OnnxEngine(identity(DataType.FP32, shape), ONE_THREAD)
    assert engine.inputs[0].shape == engine.outputs[0].shape == expected
    for size in (1, 5):
        array = some(DataType.FP32, tuple(size if want < 0 else want for want in expected))
        assert engine.execute([array])[0].tolist() == array.tolist()


@pytest.mark.parametrize("datatype", [datatype for datatype in DataType if datatype.size > 1], ids=str)
def test_inputs_need_no_alignment(datatype: DataType) -> None:
    # Contents are views of the message, wherever they happen to lie in it.
    nodes = [
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Cast", ["x"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["x", "x"], ["twice"], axis=1),
    ]
    shape = ("batch", 1000)
    outputs = [
        tensor("same", datatype, shape),
        tensor("cast", DataType.FP32, shape),
        tensor("twice", datatype, ("batch", 2000)),
    ]
    engine = OnnxEngine(model(nodes, [tensor("x", datatype, shape)], outputs), ONE_THREAD)
    array = some(datatype, (3, 1000))
    expected = engine.execute([array])
    for offset in range(1, 8):
        message = bytes(offset) + array.tobytes()
        view = np.frombuffer(memoryview(message)[offset:], datatype.numpy).reshape(array.shape)
        for output, wanted in zip(engine.execute([view]), expected, strict=True):
            assert output.tobytes() == wanted.tobytes()


# --- Strings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "elements",
    [
        (b"", b"abc", "Zoë 日本 \U0001f600".encode()),
        (b"\0", b"a\0b", b"tail\0\0"),
        (b"\xff\xfe\x00", b"\x80", b"plain"),
        (b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc3\xa9"),
        (bytes(range(256)), b"b'abc'", b"\\x00"),
    ],
    ids=["utf-8", "nul", "not utf-8", "surrogates", "all bytes"],
)
def test_strings_come_back_as_they_went(elements: tuple[bytes, ...]) -> None:
    engine = OnnxEngine(identity(DataType.BYTES, ("batch", 3)), ONE_THREAD)
    (output,) = engine.execute([strings(*elements)])
    assert output.dtype == np.object_ and output.tolist() == [list(elements)]
    assert all(type(element) is bytes for element in output.ravel())


def test_strings_beside_numbers() -> None:
    nodes = [helper.make_node("Identity", ["s"], ["t"]), helper.make_node("Neg", ["x"], ["y"])]
    inputs = [tensor("s", DataType.BYTES, ("n", 2)), tensor("x", DataType.INT32, ("n",))]
    outputs = [tensor("y", DataType.INT32, ("n",)), tensor("t", DataType.BYTES, ("n", 2))]
    engine = OnnxEngine(model(nodes, inputs, outputs), ONE_THREAD)
    numbers, texts = engine.execute([strings(b"\xff", b"b"), np.array([7], np.int32)])
    assert numbers.tolist() == [-7] and texts.tolist() == [[b"\xff", b"b"]]


def labels() -> bytes:
    """Return a model of t = s and label = a text that Latin-1 has not."""
    constant = helper.make_node("Constant", [], ["label"], value_strings=["日本".encode()])
    same = helper.make_node("Identity", ["s"], ["t"])
    outputs = [tensor("t", DataType.BYTES, ("n", 1)), tensor("label", DataType.BYTES, (1,))]
    return model([same, constant], [tensor("s", DataType.BYTES, ("n", 1))], outputs)


def test_text_of_the_model_itself() -> None:
    engine = OnnxEngine(labels(), ONE_THREAD)
    same, label = engine.execute([strings("é".encode())])
    assert same.tolist() == [["é".encode()]] and label.tolist() == ["日本".encode()]
    # Beside bytes that are no UTF-8, its text cannot be told from theirs.
    with pytest.raises(InvalidArgument, match="BYTES that are not UTF-8"):
        engine.execute([strings(b"\xff")])


# --- BF16 ---------------------------------------------------------------------------------------------


def test_bf16_is_computed_with() -> None:
    to_float = helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT)
    double = helper.make_node("Add", ["wide", "wide"], ["sum"])
    back = helper.make_node("Cast", ["sum"], ["y"], to=TensorProto.BFLOAT16)
    shape = ("batch", 2)
    outputs = [tensor("sum", DataType.FP32, shape), tensor("y", DataType.BF16, shape)]
    inputs = [tensor("x", DataType.BF16, shape)]
    engine = OnnxEngine(model([to_float, double, back], inputs, outputs), ONE_THREAD)
    ones_and_twos = np.array([[0x3F80, 0x4000]], np.uint16)
    wide, narrow = engine.execute([ones_and_twos])
    assert wide.dtype == np.float32 and wide.tolist() == [[2.0, 4.0]]
    assert narrow.dtype == np.uint16 and narrow.tolist() == [[0x4000, 0x4080]]


# --- What the interface promises ----------------------------------------------------------------------


@pytest.mark.parametrize("datatype", DataType, ids=str)
@pytest.mark.parametrize("graph_level", [-1, 1, 2, 99])
def test_outputs_share_no_memory_with_inputs(datatype: DataType, graph_level: int) -> None:
    engine = OnnxEngine(
        identity(datatype, ("batch", 3)), OnnxOptions(intra_op_threads=1, graph_level=graph_level)
    )
    array = some(datatype, (2, 3))
    before = array.tolist()
    first, second = engine.execute([array])[0], engine.execute([array])[0]
    assert not np.shares_memory(first, array) and not np.shares_memory(first, second)
    array[:] = array.ravel()[0]
    assert first.tolist() == second.tolist() == before


@pytest.mark.parametrize("datatype", [DataType.FP32, DataType.BF16, DataType.BYTES], ids=str)
def test_an_input_that_is_an_output(datatype: DataType) -> None:
    shape = ("batch", 3)
    engine = OnnxEngine(model([], [tensor("x", datatype, shape)], [tensor("x", datatype, shape)]), ONE_THREAD)
    array = some(datatype, (2, 3))
    before = array.tolist()
    (output,) = engine.execute([array])
    array[:] = array.ravel()[0]
    assert output.tolist() == before


def test_outputs_outlive_the_engine() -> None:
    engine = OnnxEngine(three_outputs(), ONE_THREAD)
    a, b = some(DataType.FP32, (1, 2)), some(DataType.FP32, (1, 2), seed=1)
    outputs = engine.execute([a, b])
    engine.close()
    engine.close()
    assert [output.tolist() for output in outputs] == [(a + b).tolist(), (a - b).tolist(), (a * b).tolist()]


def test_select_orders_and_leaves_out() -> None:
    engine = OnnxEngine(three_outputs(), ONE_THREAD)
    a, b = some(DataType.FP32, (2, 2)), some(DataType.FP32, (2, 2), seed=1)
    engine.select(["b", "a"], ["product", "difference"])
    assert [spec.name for spec in engine.inputs] == ["b", "a"]
    assert [spec.name for spec in engine.outputs] == ["product", "difference"]
    product, difference = engine.execute([b, a])
    assert product.tolist() == (a * b).tolist() and difference.tolist() == (a - b).tolist()
    # Once more, and what was left out is there again.
    engine.select(["a", "b"], ["sum"])
    assert [spec.name for spec in engine.outputs] == ["sum"]
    assert engine.execute([a, b])[0].tolist() == (a + b).tolist()


@pytest.mark.parametrize(
    ("inputs", "outputs", "text"),
    [
        (["a"], ["sum"], "got inputs ['a'], expected ['a', 'b'] in any order"),
        (["a", "a"], ["sum"], "got inputs ['a', 'a'], expected ['a', 'b'] in any order"),
        (["a", "b", "c"], ["sum"], "got inputs ['a', 'b', 'c'], expected ['a', 'b'] in any order"),
        (["a", "b"], ["sum", "quotient"], "got outputs ['sum', 'quotient'], expected some of "),
    ],
)
def test_select_knows_its_tensors(inputs: list[str], outputs: list[str], text: str) -> None:
    engine = OnnxEngine(three_outputs(), ONE_THREAD)
    with pytest.raises(InvalidArgument) as caught:
        engine.select(inputs, outputs)
    assert text in str(caught.value)
    assert len(engine.inputs) == 2 and len(engine.outputs) == 3


def test_threads_execute_at_once() -> None:
    engine = OnnxEngine(three_outputs(), OnnxOptions(intra_op_threads=2))
    start = threading.Barrier(4)
    wrong: list[object] = []

    def work(seed: int) -> None:
        a, b = some(DataType.FP32, (64, 2), seed), some(DataType.FP32, (64, 2), seed + 100)
        start.wait(SOON)
        for _ in range(50):
            outputs = engine.execute([a, b])
            for output, expected in zip(outputs, (a + b, a - b, a * b), strict=True):
                if output.tobytes() != expected.tobytes():
                    wrong.append((seed, output, expected))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
        assert not thread.is_alive()
    assert not wrong


def test_errors_of_the_runtime_come_through() -> None:
    engine = OnnxEngine(three_outputs(), ONE_THREAD)
    good, bad = some(DataType.FP32, (2, 2)), some(DataType.FP32, (2, 3))
    with pytest.raises(Exception, match="invalid dimensions"):
        engine.execute([good, bad])
    assert len(engine.execute([good, good])) == 3  # and do no harm


# --- Options ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        None,
        OnnxOptions(),
        OnnxOptions(intra_op_threads=3, inter_op_threads=2, parallel=True),
        OnnxOptions(graph_level=-1),
        OnnxOptions(graph_level=1),
        OnnxOptions(graph_level=2),
    ],
)
def test_options(options: OnnxOptions | None) -> None:
    engine = OnnxEngine(three_outputs(), options)
    a, b = some(DataType.FP32, (2, 2)), some(DataType.FP32, (2, 2), seed=1)
    assert engine.execute([a, b])[0].tolist() == (a + b).tolist()


def test_options_as_the_runtime_sees_them() -> None:
    options = OnnxOptions(intra_op_threads=3, inter_op_threads=2, parallel=True, graph_level=1)
    session = session_options(options)
    assert (session.intra_op_num_threads, session.inter_op_num_threads) == (3, 2)
    assert session.execution_mode.name == "ORT_PARALLEL"
    assert session.graph_optimization_level.name == "ORT_ENABLE_BASIC"
    assert session_options(OnnxOptions()).intra_op_num_threads >= 1


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="got graph_level=5, expected one of -1, 1, 2, 99"):
        OnnxOptions(graph_level=5)


# --- Models that cannot be loaded ---------------------------------------------------------------------


def test_a_file_and_its_contents(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(three_outputs())
    assert OnnxEngine(path).inputs == OnnxEngine(path.read_bytes()).inputs


@pytest.mark.parametrize("contents", [b"", b"no model", three_outputs()[:-20]])
def test_a_corrupt_file(contents: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(contents)
    for source in (path, contents):
        with pytest.raises(InvalidArgument, match=r"^ONNX Runtime cannot load the model: "):
            OnnxEngine(source)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"ONNX Runtime cannot load the model: .*nothing\.onnx"):
        OnnxEngine(tmp_path / "nothing.onnx")


def sequence_model() -> bytes:
    node = helper.make_node("SequenceConstruct", ["x"], ["all"])
    return model(
        [node],
        [tensor("x", DataType.FP32, (2,))],
        [helper.make_tensor_sequence_value_info("all", TensorProto.FLOAT, None)],
    )


def map_model() -> bytes:
    element = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    kind = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.INT64, element))
    node = helper.make_node("ZipMap", ["x"], ["scores"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    graph = helper.make_graph(
        [node], "test", [tensor("x", DataType.FP32, ("n", 2))], [helper.make_value_info("scores", kind)]
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


@pytest.mark.parametrize(
    ("contents", "text"),
    [
        (sequence_model(), "'all' is a seq(tensor(float)), expected one of tensor(bool), "),
        (map_model(), "'scores' is a seq(map(int64,tensor(float))), expected one of tensor(bool), "),
    ],
    ids=["sequence", "map"],
)
def test_what_is_no_tensor_is_refused(contents: bytes, text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        OnnxEngine(contents)
    assert str(caught.value).startswith(text)


def test_strings_beside_bf16_are_refused() -> None:
    nodes = [helper.make_node("Identity", ["s"], ["t"]), helper.make_node("Identity", ["x"], ["y"])]
    inputs = [tensor("s", DataType.BYTES, (1,)), tensor("x", DataType.BF16, (1,))]
    outputs = [tensor("t", DataType.BYTES, (1,)), tensor("y", DataType.BF16, (1,))]
    with pytest.raises(InvalidArgument, match="both string and bfloat16"):
        OnnxEngine(model(nodes, inputs, outputs))


def with_default() -> bytes:
    """Return a model of y = x + bias, where the bias is 10 unless it is given."""
    bias = helper.make_tensor("bias", TensorProto.FLOAT, [1], [10.0])
    inputs = [tensor("x", DataType.FP32, ("n",)), tensor("bias", DataType.FP32, (1,))]
    node = helper.make_node("Add", ["x", "bias"], ["y"])
    return model([node], inputs, [tensor("y", DataType.FP32, ("n",))], initializer=[bias])


def test_an_input_with_a_value_of_its_own_may_be_left_out() -> None:
    engine = OnnxEngine(with_default(), ONE_THREAD)
    x, bias = np.ones(2, np.float32), np.array([5], np.float32)
    assert [spec.name for spec in engine.inputs] == ["x"]
    assert engine.optional == (TensorSpec("bias", DataType.FP32, (1,)),)
    assert engine.execute([x])[0].tolist() == [11, 11]
    engine.select(["bias", "x"], ["y"])
    assert [spec.name for spec in engine.inputs] == ["bias", "x"]
    assert engine.execute([bias, x])[0].tolist() == [6, 6]
    missing: Any = None
    assert engine.execute([missing, x])[0].tolist() == [11, 11]
    with pytest.raises(InvalidArgument, match=r"got inputs \['bias'\]"):
        engine.select(["bias"], ["y"])


def test_what_is_left_out_beside_strings() -> None:
    bias = helper.make_tensor("bias", TensorProto.FLOAT, [1], [10.0])
    inputs = [tensor("s", DataType.BYTES, ("n",)), tensor("bias", DataType.FP32, (1,))]
    outputs = [tensor("t", DataType.BYTES, ("n",)), tensor("y", DataType.FP32, (1,))]
    nodes = [helper.make_node("Identity", ["s"], ["t"]), helper.make_node("Neg", ["bias"], ["y"])]
    engine = OnnxEngine(model(nodes, inputs, outputs, initializer=[bias]), ONE_THREAD)
    engine.select(["s", "bias"], ["t", "y"])
    missing: Any = None
    text, y = engine.execute([strings(b"a").ravel(), missing])
    assert (text.tolist(), y.tolist()) == ([b"a"], [-10])


def test_a_provider_that_there_is_not() -> None:
    providers = (OnnxProvider("NnapiExecutionProvider"),)
    with pytest.raises(
        InvalidArgument,
        match=r"^this ONNX Runtime lacks NnapiExecutionProvider, it has .*CPUExecutionProvider",
    ):
        OnnxEngine(three_outputs(), OnnxOptions(providers=providers))


def test_memory_and_settings_as_the_runtime_sees_them() -> None:
    options = OnnxOptions(
        memory_arena=False,
        memory_pattern=False,
        shrink_arenas="cpu:0",
        entries={"session.intra_op.allow_spinning": "1", "session.dynamic_block_base": "4"},
    )
    session = session_options(options)
    assert not session.enable_cpu_mem_arena and not session.enable_mem_pattern
    assert session.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    assert session.get_session_config_entry("session.dynamic_block_base") == "4"
    run = run_options(options)
    assert run.get_run_config_entry("memory.enable_memory_arena_shrinkage") == "cpu:0"


def test_arenas_that_shrink() -> None:
    engine = OnnxEngine(three_outputs(), OnnxOptions(intra_op_threads=1, shrink_arenas="cpu:0"))
    ones = np.ones((1, 2), np.float32)
    assert engine.execute([ones, ones])[0].tolist() == [[2, 2]]
