"""ONNX files that are whole, and those that are not."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import pytest
from networks import DIGITS, model_of, saved
from onnx import numpy_helper

from yais.build.onnx_description import describe_onnx
from yais.build.onnx_source import check_inputs, read_onnx
from yais.build.precision import Precision, in_precision
from yais.errors import InvalidArgument, NotFound

GOOD = "g (float[N,4] x) => (float[N,4] y) <float[4] w = {1, 2, 3, 4}> { y = Mul(x, w) }"


def with_weights_beside(path):
    model = model_of("g (float[N,4] x) => (float[N,4] y) <float[4] w> { y = Mul(x, w) }")
    model.graph.initializer.append(numpy_helper.from_array(np.arange(4, dtype=np.float32), "w"))
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


class TestWhole:
    def test_one_file(self):
        source = read_onnx(DIGITS)
        assert (source.opset, source.files) == (17, (DIGITS,))
        assert source.digest() == hashlib.sha256(DIGITS.read_bytes()).hexdigest()

    def test_weights_beside_it(self, tmp_path):
        path = with_weights_beside(tmp_path / "model.onnx")
        source = read_onnx(path)
        assert source.files == (path, tmp_path / "weights.bin")
        before = source.digest()
        (tmp_path / "weights.bin").write_bytes(bytes(16))
        assert source.digest() != before

    def test_nodes_in_any_order(self, tmp_path):
        model = model_of("g (float[4] x) => (float[4] y) { a = Neg(x) y = Relu(a) }")
        model.graph.node.reverse()
        read_onnx(saved(tmp_path / "m.onnx", model))

    def test_branches_that_take_from_outside(self, tmp_path):
        text = """g (float[4] x, bool c) => (float[4] y) {
            y = If (c) <then_branch = a () => (float[4] p) { p = Neg(x) },
                        else_branch = b () => (float[4] q) { q = Relu(x) }>
        }"""
        read_onnx(saved(tmp_path / "m.onnx", model_of(text)))


class TestNotWhole:
    def test_missing(self, tmp_path):
        with pytest.raises(NotFound, match=r"model\.onnx: no such file"):
            read_onnx(tmp_path / "model.onnx")

    def test_a_directory(self, tmp_path):
        with pytest.raises(NotFound, match="got a directory"):
            read_onnx(tmp_path)

    @pytest.mark.parametrize("contents", [b"", b"hello, this is text\n" * 9, DIGITS.read_bytes()[:50_000]])
    def test_no_onnx(self, tmp_path, contents):
        path = tmp_path / "model.onnx"
        path.write_bytes(contents)
        with pytest.raises(InvalidArgument, match=r"model\.onnx is no ONNX model"):
            read_onnx(path)

    def test_a_version_that_is_not_known(self, tmp_path):
        path = saved(tmp_path / "m.onnx", model_of(GOOD, opset=999))
        with pytest.raises(InvalidArgument, match=r"got a model of opset 999, expected one up to \d+"):
            read_onnx(path)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{ y = Mul(x, w) }", r"node 0 \(Mul\) takes 'w', which is no input, no weight"),
            ("{ z = Neg(x) }", "no node makes the output 'y'"),
            (
                "{ a = Add(x, b) b = Neg(a) y = Relu(b) }",
                r"in a circle: node \d \(\w+\) -> node \d \(\w+\) -> node \d",
            ),
            ("{ a = Neg(a) y = Add(a, x) }", "in a circle"),
        ],
    )
    def test_graphs_that_do_not_hang_together(self, tmp_path, text, message):
        path = saved(tmp_path / "m.onnx", model_of(f"g (float[4] x) => (float[4] y) {text}"))
        with pytest.raises(InvalidArgument, match=message):
            read_onnx(path)

    def test_a_branch_that_does_not(self, tmp_path):
        text = """g (float[4] x, bool c) => (float[4] y) {
            y = If (c) <then_branch = a () => (float[4] p) { p = Neg(nothing) },
                        else_branch = b () => (float[4] q) { q = Relu(x) }>
        }"""
        with pytest.raises(InvalidArgument, match="takes 'nothing'"):
            read_onnx(saved(tmp_path / "m.onnx", model_of(text)))

    def test_no_output(self, tmp_path):
        model = model_of(GOOD)
        del model.graph.output[:]
        with pytest.raises(InvalidArgument, match="the model has no output"):
            read_onnx(saved(tmp_path / "m.onnx", model))

    def test_weights_that_lack(self, tmp_path):
        path = with_weights_beside(tmp_path / "model.onnx")
        (tmp_path / "weights.bin").write_bytes(b"abc")
        with pytest.raises(InvalidArgument, match=r"got 3 bytes of weights in .*weights\.bin, expected 16"):
            read_onnx(path)
        (tmp_path / "weights.bin").unlink()
        with pytest.raises(NotFound, match=r"weights\.bin, which does not exist"):
            read_onnx(path)

    def test_weights_elsewhere(self, tmp_path):
        path = with_weights_beside(tmp_path / "model.onnx")
        model = onnx.load(path, load_external_data=False)
        for entry in model.graph.initializer[0].external_data:
            if entry.key == "location":
                entry.value = "../weights.bin"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(InvalidArgument, match="expected a file beside the model"):
            read_onnx(path)

    @pytest.mark.parametrize(
        ("key", "value"), [("location", "a\0b"), ("offset", "-4"), ("length", "abc"), ("length", "")]
    )
    def test_weights_that_say_nonsense_of_their_place(self, tmp_path, key, value):
        path = with_weights_beside(tmp_path / "model.onnx")
        model = onnx.load(path, load_external_data=False)
        entries = model.graph.initializer[0].external_data
        del entries[[entry.key for entry in entries].index(key)]
        entries.add(key=key, value=value)
        path.write_bytes(model.SerializeToString())
        with pytest.raises(InvalidArgument, match="expected a file, and an offset and a length in bytes"):
            read_onnx(path)


class TestInputs:
    @pytest.mark.parametrize(
        ("shape", "message"),
        [(None, "'x' has no number of dimensions"), (("N", 0), "'x' has a dimension of 0")],
    )
    def test_what_no_plan_can_have(self, tmp_path, shape, message):
        model = model_of("m (float[N, 2] x) => (float[N, 2] y) { y = Relu(x) }")
        tensor = model.graph.input[0].type.tensor_type
        if shape is None:
            tensor.ClearField("shape")
        else:
            tensor.shape.dim[1].dim_value = 0
        with pytest.raises(InvalidArgument, match=message):
            check_inputs(read_onnx(saved(tmp_path / "m.onnx", model)))

    def test_weights_among_the_inputs_are_left_alone(self, tmp_path):
        model = model_of("m (float[N, 2] x) => (float[N, 2] y) <float[2] w = {1, 2}> { y = Add(x, w) }")
        model.graph.input.add(name="w").type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        check_inputs(read_onnx(saved(tmp_path / "m.onnx", model)))


class TestPrecision:
    QUANTISED = """g (float[4] x) => (float[4] y) <float s = {0.1}, int8 z = {0}> {
        q = QuantizeLinear(x, s, z)
        d = DequantizeLinear(q, s, z)
        y = Relu(d)
    }"""

    @pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
    def test_a_quantised_model_stays(self, tmp_path, precision):
        path = saved(tmp_path / "m.onnx", model_of(self.QUANTISED))
        assert in_precision(read_onnx(path), precision, (), tmp_path / "none") == path

    def test_a_quantised_model_is_not_converted(self, tmp_path):
        source = read_onnx(saved(tmp_path / "m.onnx", model_of(self.QUANTISED)))
        with pytest.raises(InvalidArgument, match="is quantised, and cannot be converted to fp16"):
            in_precision(source, Precision.FP16, (), tmp_path)

    def test_int8_wants_a_quantised_one(self, tmp_path):
        with pytest.raises(InvalidArgument, match=r"quantize_static"):
            in_precision(read_onnx(DIGITS), Precision.INT8, (), tmp_path)

    def test_weights_beside_the_model_are_converted(self, tmp_path):
        folder = tmp_path / "there"
        folder.mkdir()
        source = read_onnx(with_weights_beside(tmp_path / "model.onnx"))
        converted = onnx.load(in_precision(source, Precision.FP16, (), folder))
        (weight,) = converted.graph.initializer
        np.testing.assert_array_equal(numpy_helper.to_array(weight), np.arange(4, dtype=np.float16))

    def test_functions_are_put_in_place(self, tmp_path):
        text = """<ir_version: 9, opset_import: ["" : 17, "own" : 1]>
        g (float[4] x) => (float[4] y) { y = own.twice(x) }
        <domain: "own", opset_import: ["" : 17]> twice (a) => (b) { b = Add(a, a) }"""
        source = read_onnx(saved(tmp_path / "m.onnx", onnx.parser.parse_model(text)))
        folder = tmp_path / "there"
        folder.mkdir()
        converted = onnx.load(in_precision(source, Precision.FP16, (), folder))
        assert [node.op_type for node in converted.graph.node] == ["Cast", "Add", "Cast"]

    def test_keep_wants_a_conversion(self, tmp_path):
        with pytest.raises(InvalidArgument, match="expected fp16 or bf16"):
            in_precision(read_onnx(DIGITS), Precision.FP32, ("Conv",), tmp_path)

    def test_what_is_wrong_names_the_file(self, tmp_path):
        with pytest.raises(InvalidArgument, match=r"digits/1/model\.onnx: no node is named 'Nothing'"):
            in_precision(read_onnx(DIGITS), Precision.FP16, ("Nothing",), tmp_path)


class TestDescription:
    def test_of_the_digits(self):
        described = describe_onnx(DIGITS)
        assert [(each.name, each.datatype, each.shape) for each in described.inputs] == [
            ("image", "FP32", (-1, 1, 8, 8))
        ]
        assert described.outputs[0].shape == (-1, 10)
        assert [layer.kind for layer in described.layers].count("Conv") == 3
        assert described.memory["files"] == DIGITS.stat().st_size

    def test_sizes_of_weights_of_every_type(self, tmp_path):
        model = model_of("g (float[4] x) => (float[4] y) { y = Neg(x) }")
        for kind, size in ((np.float32, 4), (np.float16, 2), (np.int8, 1), (np.int64, 8), (np.bool_, 1)):
            model.graph.initializer.append(numpy_helper.from_array(np.zeros(3, kind), f"w{size}{kind}"))
        four_bits = onnx.helper.make_tensor("w", onnx.TensorProto.INT4, [3], [1, 2, 3])
        text = onnx.helper.make_tensor("t", onnx.TensorProto.STRING, [1], [b"text"])
        model.graph.initializer.extend([four_bits, text])
        described = describe_onnx(saved(tmp_path / "m.onnx", model))
        assert described.memory["weights"] == 3 * (4 + 2 + 1 + 8 + 1) + 2

    def test_weights_are_no_inputs_and_unknown_ranks_are_said(self, tmp_path):
        model = model_of(GOOD)
        model.graph.input.append(onnx.helper.make_tensor_value_info("w", 1, [4]))
        model.graph.output[0].type.tensor_type.ClearField("shape")
        described = describe_onnx(saved(tmp_path / "m.onnx", model))
        assert [each.name for each in described.inputs] == ["x"]
        assert described.notes == ("the number of dimensions of 'y' is not known",)

    def test_operators_of_others(self, tmp_path):
        model = model_of("g (float[4] x) => (float[4] y) { y = other.Thing(x) }")
        described = describe_onnx(saved(tmp_path / "m.onnx", model))
        assert described.layers[0].kind == "other.Thing"
        assert described.facts["other operators"] == ["other 1"]
