"""Plans that TensorRT-RTX really builds, without a GPU, and what is said of models that it refuses."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

pytest.importorskip("tensorrt_rtx_bindings")
sys.path.insert(0, str(Path(__file__).parents[1] / "build"))

from networks import DIGITS, model_of, resnet, saved

from yais.build.builder_config import builder_config
from yais.build.builder_log import collecting
from yais.build.builder_package import builder_package
from yais.build.network import parse_onnx
from yais.build.options import BuildOptions
from yais.build.plan import build_plan
from yais.build.precision import Precision
from yais.build.shape_ranges import ShapeRange
from yais.engines.tensorrt_plan import PlanHeader
from yais.errors import FailedPrecondition, InvalidArgument, Unimplemented, YaisError
from yais.repository.config import read_config
from yais.tools.main import main

TARGETS = ("sm80", "sm89", "sm120")


@pytest.fixture(scope="module")
def residual(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("models") / "resnet.onnx", resnet())


def run(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)])


def built(path, **options):
    return build_plan(path, BuildOptions(**{"targets": ("sm89",), **options}))


def kinds(plan):
    return [layer.kind for layer in plan.record.layers]


def casts(plan):
    return kinds(plan).count("CAST")


class TestPlans:
    @pytest.mark.parametrize("streaming", [False, True])
    def test_executions_allocate_nothing(self, streaming):
        """Activations are all in the memory of tokens, which CUDA graphs need."""
        package = builder_package("tensorrt-rtx")
        with collecting(package.module) as messages:
            network = parse_onnx(package, DIGITS, DIGITS, messages.errors)
            config = builder_config(package, network, BuildOptions(weight_streaming=streaming), ())
        flags = package.module.BuilderFlag
        assert config.get_flag(flags.REQUIRE_USER_ALLOCATION) is not streaming  # it allocates
        assert not config.get_flag(flags.VERSION_COMPATIBLE)

    @pytest.mark.parametrize("target", TARGETS)
    @pytest.mark.parametrize("model", ["digits", "resnet"])
    def test_for_a_gpu_that_is_not_there(self, tmp_path, residual, model, target):
        path = {"digits": DIGITS, "resnet": residual}[model]
        result = run("build", path, "--output", tmp_path, "--target", target)
        assert result.exit_code == 0, result.output
        plan = tmp_path / model / "1/model.plan"
        header = PlanHeader.of(plan.read_bytes())
        assert header.flavour == "tensorrt_rtx"
        assert header.version == tuple(map(int, builder_package("tensorrt-rtx").version.split(".")))
        described = json.loads(run("inspect", plan, "--json").output)
        assert described["facts"]["targets"] == [target]
        assert described["inputs"][0]["shape"][0] == -1
        assert "CONVOLUTION" in {layer["kind"] for layer in described["layers"]}
        weights = described["memory_bytes"]["weights"]
        assert 0.9 < weights / weights_of(path) < 1.1
        assert described["memory_bytes"]["plan"] == plan.stat().st_size > weights
        config = read_config(tmp_path / model / "config.pbtxt", model)
        assert (config.platform, config.max_batch_size) == ("tensorrt_plan", 32)

    def test_for_several(self, tmp_path):
        one, three = (built(DIGITS, targets=targets) for targets in (("sm89",), TARGETS))
        assert one.record.targets == ("sm89",)
        assert three.record.targets == TARGETS
        assert one.warnings == three.warnings == ()

    def test_for_all(self):
        assert built(DIGITS, targets=()).record.targets == ()

    def test_profiles(self):
        batches = (ShapeRange((1,), (1,), (1,)), ShapeRange((2,), (8,), (16,)))
        record = built(DIGITS, batches=batches).record
        assert record.max_batch == 16
        assert [str(profile["image"]) for profile in record.profiles] == [
            "1x1x8x8:1x1x8x8:1x1x8x8",
            "2x1x8x8:8x1x8x8:16x1x8x8",
        ]

    def test_shapes_of_any_size(self, tmp_path):
        model = model_of("g (float[N,4,M] x) => (float[N,4,M] y) { y = Relu(x) }")
        path = saved(tmp_path / "m.onnx", model)
        with pytest.raises(InvalidArgument, match=r"--shape x=1x4x1"):
            built(path)
        record = built(path, shapes={"x": (ShapeRange.parse("1x4x1:2x4x8"),)}).record
        assert (record.max_batch, record.inputs[0].shape) == (2, (-1, 4, -1))

    def test_fixed_shapes(self, tmp_path):
        path = saved(tmp_path / "m.onnx", model_of("g (float[2,4] x) => (float[2,4] y) { y = Relu(x) }"))
        record = built(path).record
        assert (record.max_batch, record.profiles) == (0, ())

    def test_weights_in_files_of_their_own(self, tmp_path, residual):
        path = tmp_path / "model.onnx"
        onnx.save(onnx.load(residual), path, save_as_external_data=True, location="w.bin", size_threshold=0)
        assert kinds(built(path)) == kinds(built(residual))

    def test_what_becomes_of_fp64(self, tmp_path):
        path = saved(tmp_path / "m.onnx", model_of("g (double[2,4] x) => (double[2,4] y) { y = Neg(x) }"))
        assert built(path).warnings == tuple(
            f"'{name}' is FP64 in the model, and FP32 in the plan" for name in "xy"
        )

    def test_options(self):
        options = {"tf32": False, "workspace": 1 << 30, "level": 1, "weight_streaming": True}
        record = built(DIGITS, **options).record
        assert {name: record.settings[name] for name in options} == options

    def test_progress(self):
        seen = []
        build_plan(DIGITS, report=lambda name, part: seen.append((part, name)))
        assert [part for part, _ in seen] == sorted(part for part, _ in seen)
        assert seen[0] == (0.0, "Building engine")
        assert seen[-1][0] > 0.5


def weights_of(path) -> int:
    return sum(numpy_helper.to_array(tensor).nbytes for tensor in onnx.load(path).graph.initializer)


class TestPrecision:
    @pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
    def test_half(self, residual, precision):
        full, half = built(residual), built(residual, precision=precision)
        assert casts(half) - casts(full) == 2  # the parser has some of its own, where shapes are computed
        assert half.record.memory["weights"] == pytest.approx(full.record.memory["weights"] / 2, rel=0.05)
        assert [each.datatype for each in (*half.record.inputs, *half.record.outputs)] == ["FP32", "FP32"]

    def test_what_is_kept(self, residual):
        full = built(residual)
        for keep, count in (("Softmax", 2), ("Gemm", 4)):
            half = built(residual, precision=Precision.FP16, keep=(keep,))
            assert casts(half) - casts(full) == count

    def test_int8(self, tmp_path):
        quantised = saved(tmp_path / "quantised.onnx", quantised_convolution())
        plan = built(quantised, precision=Precision.INT8)
        assert {"QUANTIZE", "DEQUANTIZE"} <= set(kinds(plan))
        assert kinds(plan) == kinds(built(quantised))

    def test_int8_as_onnx_runtime_quantises(self, tmp_path):
        """What docs/build.md says to do."""
        images = iter([{"image": np.random.default_rng(1).random((4, 1, 8, 8), np.float32)}])
        data = type("Data", (CalibrationDataReader,), {"get_next": lambda _self: next(images, None)})()
        path = tmp_path / "quantised.onnx"
        quantize_static(
            DIGITS,
            path,
            data,
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            extra_options={"ActivationSymmetric": True, "QuantizeBias": False},
        )
        plan, full = built(path, precision=Precision.INT8), built(DIGITS)
        assert kinds(plan).count("QUANTIZE") > 10
        assert plan.record.memory["weights"] < full.record.memory["weights"] / 3

    def test_int8_of_a_model_that_is_not_quantised(self):
        with pytest.raises(InvalidArgument, match="is not quantised"):
            built(DIGITS, precision=Precision.INT8)


def quantised_convolution():
    random = np.random.default_rng(1)
    constants = {
        "scale": np.float32(0.05),
        "zero": np.int8(0),
        "weight": random.integers(-100, 100, (8, 3, 3, 3)).astype(np.int8),
        "scales": np.full(8, 0.01, np.float32),
        "zeros": np.zeros(8, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"]),
        helper.make_node("DequantizeLinear", ["weight", "scales", "zeros"], ["wd"], axis=0),
        helper.make_node("Conv", ["xd", "wd"], ["y"], kernel_shape=[3, 3]),
    ]
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 8, 6, 6])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


REFUSED = {
    "an operator of others": (
        "g (float[2,4] x) => (float[2,4] y) { y = other.Thing(x) }",
        Unimplemented,
        r"node 0 \(Thing\): Plugin not found, .*: change the model so that it does without",
    ),
    "an operator of ONNX": (
        "g (float[4,4] x) => (float y) { y = Det(x) }",
        Unimplemented,
        r"node 0 \(Det\): the operator is not supported: change the model",
    ),
    "two of them": (
        "g (float[4,4] x) => (float y, float z) { y = Det(x) z = Det(x) }",
        Unimplemented,
        r"node 0 \(Det\)",
    ),
    "shapes that do not fit": (
        "g (float[2,4] x) => (float[2,1] y) <float[5,1] w = {1, 2, 3, 4, 5}> { y = MatMul(x, w) }",
        InvalidArgument,
        r"node 0 \(MatMul\): .*dimension of input0 = 4 and .* input1 = 5 but must match: the model is wrong",
    ),
    "types that do not fit": (
        "g (float[2,4] x) => (float[2,4] y) <float16[1] w = {1}> { y = Add(x, w) }",
        InvalidArgument,
        r"node 0 \(Add\): .*types Float and Half: the model is wrong",
    ),
    "attributes that lack": (
        "g (float[2,4] x) => (float[2,4] y) <float[2,4] w = {1,2,3,4,5,6,7,8}> { y = Conv(x, w) }",
        InvalidArgument,
        r"node 0 \(Conv\)",
    ),
    "text": (
        "g (string[2] x) => (string[2] y) { y = Identity(x) }",
        Unimplemented,
        "'x' is text",
    ),
    "sizes as an input": (
        "g (float[4,4] x, int64[2] s) => (float[N,M] y) { y = Reshape(x, s) }",
        Unimplemented,
        "the values of input 's' are sizes of other tensors",
    ),
    "a circle": (
        "g (float[4] x) => (float[4] y) { a = Add(x, b) b = Neg(a) y = Relu(b) }",
        InvalidArgument,
        "in a circle",
    ),
    "what is not there": (
        "g (float[4] x) => (float[4] y) { y = Add(x, nothing) }",
        InvalidArgument,
        "takes 'nothing'",
    ),
}


class TestRefusals:
    @pytest.mark.parametrize("what", REFUSED)
    def test_models(self, tmp_path, what):
        text, error, message = REFUSED[what]
        path = saved(tmp_path / "m.onnx", model_of(text))
        with pytest.raises(error, match=message) as refused:
            built(path)
        assert str(refused.value).startswith(str(path))
        assert "cudaError" not in str(refused.value)
        result = run("build", path, "--output", tmp_path / "repository", "--target", "sm89")
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
        assert not (tmp_path / "repository").exists()

    def test_after_a_refusal_the_next_model_is_built(self, tmp_path):
        path = saved(tmp_path / "m.onnx", model_of(REFUSED["an operator of ONNX"][0]))
        with pytest.raises(YaisError):
            built(path)
        assert built(DIGITS).contents

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"targets": ("sm90",)}, InvalidArgument, "the target 'sm90', expected one of sm75, .*sm120"),
            ({"level": 99}, InvalidArgument, "level 99, expected 0 to 5"),
            ({"timing_cache": Path("cache")}, FailedPrecondition, "has no timing cache"),
            ({"version_compatible": True}, FailedPrecondition, "has no version compatibility"),
            ({"compatibility": "same"}, FailedPrecondition, "has no hardware compatibility"),
            ({"workspace": 1}, YaisError, "workspace"),
        ],
    )
    def test_options(self, options, error, message):
        with pytest.raises(error, match=message):
            built(DIGITS, **options)

    def test_without_a_gpu_it_cannot_be_loaded(self, tmp_path):
        assert run("build", DIGITS, "--output", tmp_path).exit_code == 0
        result = run("inspect", tmp_path / "digits", "--load")
        if result.exit_code:  # where there is one, it can
            assert "cannot load the plan" in result.output


def test_ctrl_c_ends_a_build(tmp_path):
    path = saved(tmp_path / "deep.onnx", resnet(blocks=(20, 20, 20, 20), width=8))
    (tmp_path / "work").mkdir()
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "yais.tools.main", "build", str(path), "--output", str(tmp_path / "new")]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "work")}
    process = subprocess.Popen(
        [*command, "--precision", "fp16"],
        stdin=end,
        stdout=end,
        stderr=end,
        env=environment,
        start_new_session=True,
    )
    os.close(end)
    try:
        said, deadline = b"", time.monotonic() + 120
        while b"%  " not in said:  # a phase follows: which, depends on when the bar is drawn
            assert time.monotonic() < deadline, said
            try:
                said += os.read(terminal, 4096)
            except OSError:  # EIO: it has ended, and why is in what it said
                pytest.fail(f"the build ended with {process.wait(10)}: {said.decode()}")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait(10)
        os.close(terminal)
    assert not (tmp_path / "new").exists()
    assert list((tmp_path / "work").iterdir()) == []
