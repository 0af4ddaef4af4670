"""`yais inspect`: ONNX files, plans, and directories of models of any backend."""

from __future__ import annotations

import json
import shutil
import struct
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from fake_builder import FakeBuilder
from networks import DIGITS

from yais.build.model_place import ModelPlace
from yais.build.plan import build_plan
from yais.build.plan_description import describe_plan
from yais.build.plan_record import PlanRecord
from yais.errors import InvalidArgument
from yais.testing.cuda import FakeCuda
from yais.testing.tensorrt import FakeNetwork, FakeProfile, FakeTensor, FakeTensorRT
from yais.tools.main import main

EXAMPLES = DIGITS.parents[2]


def run(*arguments):
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)])


def lines(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def read(*arguments):
    return json.loads("\n".join(lines(*arguments, "--json")))


@pytest.fixture
def plan(tmp_path) -> Path:
    """Write a model with a plan whose header is that of TensorRT 10.16.1.11, and return its path."""
    fake = FakeBuilder()
    fake.plan = struct.pack("<4sI8xQ4B", b"ftrt", 0, 28, 10, 16, 1, 11)
    built = build_plan(DIGITS, package=fake.package(), clock=iter([0.0, 2.0]).__next__)
    return ModelPlace(tmp_path, "digits").write(built)


class TestOnnx:
    def test_text(self):
        found = lines(DIGITS)
        assert found[:2] == ["ONNX model", "    opset: 17"]
        assert "    image: FP32[-1, 1, 8, 8]" in found
        assert "operators: 13" in found
        assert "    Conv: 3" in found
        assert "    files: 151.6 KiB" in found

    def test_layers(self):
        found = lines(DIGITS, "--layers")
        assert "NUMBER  KIND                NAME" in found
        assert any(line.split()[:2] == ["12", "Softmax"] for line in found)

    def test_json(self):
        found = read(DIGITS)
        assert found["kind"] == "onnx"
        assert found["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 8, 8]}]
        assert len(found["layers"]) == 13


class TestPlans:
    def test_the_record_is_read(self, plan):
        found = lines(plan)
        assert found[0] == "plan of TensorRT 10.16.1.11"
        assert "    builder: tensorrt 10.16.1.11, in 2.0 s" in found
        assert "    targets: the GPU it was built on" in found
        assert "    0: x 1x4:8x4:32x4" in found
        assert "    ACTIVATION: 1" in found
        assert "    activation: 4.0 KiB" in found

    def test_json(self, plan):
        found = read(plan)
        assert found["profiles"] == [{"x": [[1, 4], [8, 4], [32, 4]]}]
        assert found["memory_bytes"] == {"plan": 28, "activation": 4096, "weights": 64}

    def test_without_a_record_the_header_is(self, plan):
        (plan.parent / "build.json").unlink()
        found = lines(plan)
        assert found[0] == "plan of TensorRT 10.16.1.11"
        assert found[-1].startswith("note: there is no build.json beside it")

    def test_a_record_of_another_plan_is_not_believed(self, plan):
        plan.write_bytes(plan.read_bytes() + b"more")
        found = lines(plan)
        assert found[-1] == "note: the build.json beside it is of another plan"
        assert "inputs" not in found

    def test_what_is_none(self, plan):
        plan.write_bytes(b"something else")
        result = run(plan)
        assert result.exit_code == 1
        assert result.output.startswith(f"Error: {plan}: got b'something else' as the first bytes")
        (plan.parent / "build.json").write_text("{")
        plan.write_bytes(struct.pack("<4sI8xQ4B", b"ftrt", 0, 28, 10, 16, 1, 11))
        assert "is no record of a build" in run(plan).output

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            *(("source", value) for value in (None, [], 1.5, {"file": "m.onnx"})),
            *(("memory", value) for value in (None, ["a"], {"plan": "many"}, {"plan": None})),
            *(("settings", value) for value in ("s", None)),
            *(("layers", value) for value in ([{}], [1], {"a": 1})),
        ],
    )
    @pytest.mark.parametrize("options", [[], ["--json"]])
    def test_a_record_that_somebody_changed(self, plan, key, value, options):
        record = plan.parent / "build.json"
        record.write_text(json.dumps({**json.loads(record.read_text()), key: value}))
        result = run(plan, *options)
        assert result.exit_code == 1
        assert f"Error: {record} is no record of a build" in result.output

    def test_to_load_it_its_tensorrt_is_needed(self, plan, monkeypatch):
        for name in ("tensorrt", "tensorrt_lean"):
            monkeypatch.setitem(sys.modules, name, None)
        result = run(plan, "--load")
        assert result.exit_code == 1
        assert "pip install 'yais[tensorrt]'" in result.output


class TestDirectories:
    def test_of_a_plan(self, plan):
        found = lines(plan.parents[1])
        assert found[0] == "model digits"
        assert "    backend: tensorrt" in found
        assert "    x: FP32[4]" in found
        assert "plan of TensorRT 10.16.1.11" in found

    def test_versions(self, plan):
        folder = plan.parents[1]
        shutil.copytree(folder / "1", folder / "12")
        assert read(folder)["versions"] == [1, 12]
        assert read(folder)["file"].endswith("digits/12/model.plan")
        assert read(folder, "-x", "1")["file"].endswith("digits/1/model.plan")
        result = run(folder, "-x", "7")
        assert (result.exit_code, result.output) == (
            1,
            f"Error: {folder} has no version 7, expected one of 1, 12\n",
        )

    @pytest.mark.parametrize("model", sorted(path.parent.name for path in EXAMPLES.glob("*/config.pbtxt")))
    def test_of_every_example(self, model):
        found = read(EXAMPLES / model)
        assert found["name"] == model
        assert found["inputs"]
        assert (found["described"] is None) == (found["backend"] != "onnxruntime")
        assert lines(EXAMPLES / model)[0] == f"model {model}"

    def test_without_a_configuration(self, tmp_path):
        (tmp_path / "m/1").mkdir(parents=True)
        shutil.copy(DIGITS, tmp_path / "m/1/model.onnx")
        assert read(tmp_path / "m")["described"]["kind"] == "onnx"

    def test_without_the_package_onnx_the_configuration_is_said(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnx", None)
        found = read(EXAMPLES / "digits")
        assert found["inputs"]
        assert found["described"] is None
        assert "needs the package onnx" in found["file_not_read"]
        refused = run(DIGITS)
        assert (refused.exit_code, refused.output.count("\n")) == (1, 1)
        assert "pip install onnx" in refused.output

    def test_without_a_version(self, tmp_path):
        (tmp_path / "m").mkdir()
        assert "is no directory of a model" in run(tmp_path / "m").output
        (tmp_path / "m/config.pbtxt").write_text("max_batch_size: 4")
        assert "    max batch: 4" in lines(tmp_path / "m")

    def test_without_its_file(self, plan):
        plan.unlink()
        result = run(plan.parents[1])
        assert (result.exit_code, result.output.count("\n")) == (1, 1)
        assert "model.plan does not exist" in result.output


class TestOthers:
    @pytest.mark.parametrize("name", ["absent.onnx", "absent.plan", "absent"])
    def test_what_is_not_there(self, tmp_path, name):
        result = run(tmp_path / name)
        assert result.exit_code == 1
        assert "no such file" in result.output.lower()

    def test_other_files(self, tmp_path):
        (tmp_path / "x.txt").write_text("")
        assert "expected a .onnx file, a .plan file, or the directory" in run(tmp_path / "x.txt").output


def test_settings_that_are_not_set_are_not_said(plan):
    record = PlanRecord.read(plan.parent / "build.json")
    assert "workspace" not in read(plan)["facts"]
    changed = replace(record, settings={**record.settings, "workspace": 1024})
    (plan.parent / "build.json").write_text(changed.to_json())
    assert read(plan)["facts"]["workspace"] == 1024


class TestLoading:
    """What the engine of a plan says, on a GPU that is not there."""

    NETWORK = FakeNetwork(
        inputs=[FakeTensor("x"), FakeTensor("sizes", "INT32", (2,), host=True)],
        outputs=[FakeTensor("y", "HALF")],
        function=lambda x, sizes: [x],
        scratch=4096,
        streamable=256,
        profiles=[
            FakeProfile({"x": ((1, 4), (2, 4), (8, 4))}, {"sizes": ((1, 1), (2, 2), (3, 3))}),
            FakeProfile({"x": ((8, 4), (8, 4), (16, 4))}, {"sizes": ((1, 1), (2, 2), (3, 3))}),
        ],
    )

    @pytest.mark.parametrize(
        ("layers", "expected"),
        [
            ([{"Name": "a", "LayerType": "gemm"}, {"Name": "b"}], [("a", "gemm"), ("b", "")]),
            (["a", "b"], [("a", ""), ("b", "")]),
        ],
    )
    def test_the_engine_is_asked(self, tmp_path, layers, expected):
        with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
            fake.module.LayerInformationFormat = SimpleNamespace(JSON="json")
            fake.module.EngineInspector = SimpleNamespace
            fake.module.ICudaEngine.create_engine_inspector = lambda _engine: SimpleNamespace(
                get_engine_information=lambda form: json.dumps({form: 0, "Layers": layers})
            )
            path = tmp_path / "model.plan"
            path.write_bytes(fake.plan(self.NETWORK))
            with cuda.device():
                described = describe_plan(path, load=True, runtime=lambda _flavour: fake.runtime)
            assert fake.alive == {}
        assert [str(each) for each in described.profiles[0].values()] == ["1x4:2x4:8x4"]
        assert [str(each) for each in described.profiles[1].values()] == ["8x4:8x4:16x4"]
        assert [(each.name, each.datatype, each.shape) for each in described.inputs] == [
            ("x", "FP32", (-1, 4)),
            ("sizes", "INT32", (2,)),
        ]
        assert [(each.name, each.datatype) for each in described.outputs] == [("y", "FP16")]
        assert [(each.name, each.kind) for each in described.layers] == expected
        assert described.memory == {
            "plan": path.stat().st_size,
            "activation": 4096,
            "weights": 1024,
            "streamable weights": 256,
        }
        assert described.notes == ()

    def test_one_that_cannot_be_loaded(self, tmp_path):
        with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
            path = tmp_path / "model.plan"
            path.write_bytes(fake.plan(self.NETWORK))
            fake.fail("deserialize_cuda_engine", "Error Code 1: a fault")
            with pytest.raises(InvalidArgument, match="a fault"):
                describe_plan(path, load=True, runtime=lambda _flavour: fake.runtime)
            assert fake.alive == {}

    def test_the_lean_runtime_tells_no_layers(self, tmp_path):
        """It has no class for the inspector, and asking for one raises."""
        with FakeCuda() as cuda, FakeTensorRT(cuda, flavour="tensorrt_lean") as fake:
            path = tmp_path / "model.plan"
            path.write_bytes(fake.plan(replace(self.NETWORK, version_compatible=True)))
            with cuda.device():
                described = describe_plan(path, load=True, runtime=lambda _flavour: fake.runtime)
        assert described.layers == () and described.memory["activation"] == 4096
